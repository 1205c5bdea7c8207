"""Who may lean on whom: read from the sources, and seen in fresh processes."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
from command_line import ROOT

FOLDERS = ("engine", "train", "export", "commands")
SOURCES = [*sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")), ROOT / "cli.py"]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("az", *(part for part in parts if part != "__init__")))


@cache
def imports(path: Path) -> set[str]:
    """Every module that a file names in an import, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                assert "health" in path.parts, f"{path} imports by a relative name"
                above = ("az", *path.parent.relative_to(ROOT).parts)[: 1 - node.level or None]
                module = ".".join((*above, *(module.split(".") if module else ())))
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def leans_on(path: Path, *names: str) -> list[str]:
    return sorted(m for m in imports(path) for name in names if m == name or m.startswith(name + "."))


def test_no_arrow_runs_back():
    above = ("az.train", "az.export", "az.commands", "az.cli")
    training = ("torch", "onnx", "onnxscript", "safetensors", "tensorboard", "typer", *above)
    for path in SOURCES:
        inside = path.relative_to(ROOT).parts
        if inside[0] == "engine":
            assert not leans_on(path, *training), path
            assert inside[1] == "terminal" or not leans_on(path, "rich", "az.engine.terminal"), path
        elif inside[0] == "train":
            assert not leans_on(path, "az.export", "az.commands", "az.cli", "rich", "typer", "az.engine.terminal"), path
        elif inside[0] == "export":
            assert not leans_on(path, "az.commands", "az.cli", "typer", "rich", "az.engine.terminal"), path
        elif inside[0] == "commands":
            assert not leans_on(path, "az.cli", "rich"), path
            assert path.name.endswith("_cli.py") or not leans_on(path, "typer"), path  # options that cli.py joins


def graph() -> dict[str, set[str]]:
    """Of every module the modules of az that it imports, inside functions and for types too."""
    names = {module_name(path): path for path in SOURCES}

    def of_az(path: Path) -> set[str]:
        return {name for name in imports(path) if name in names} - {module_name(path)}

    return {name: of_az(path) for name, path in names.items()}


def cycles(arrows: dict[str, set[str]]) -> list[str]:
    """Whatever is left when all is taken away, again and again, that imports nothing of what is left."""
    left = {name: set(others) for name, others in arrows.items()}
    while done := {name for name, others in left.items() if not others & left.keys()}:
        left = {name: others for name, others in left.items() if name not in done}
    return sorted(left)


def package_of(name: str) -> str:
    path = ROOT.joinpath(*name.split(".")[1:])
    return name if path.is_dir() else name.rpartition(".")[0]


def test_no_cycle_between_files():
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["a", "b", "c"]
    assert cycles(graph()) == []


def test_no_cycle_between_packages():
    packages: dict[str, set[str]] = {}
    for name, others in graph().items():
        own = package_of(name)
        packages.setdefault(own, set()).update({package_of(other) for other in others} - {own})
    assert len(packages) > 15
    assert cycles(packages) == []


def test_a_package_has_at_most_twenty_modules():
    for folder in {path.parent for path in SOURCES}:
        assert len(list(folder.glob("*.py"))) <= 20, folder


def test_the_recorder_leans_on_the_compiler_only():
    names = [module_name(path) for path in SOURCES if "health" in path.parts]
    code = "import importlib, json, sys\nfor name in " + repr(names) + ": importlib.import_module(name)\n"
    code += "print(json.dumps([name for name in sys.modules if name.startswith('az.')]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    packages = ("az.train.health", "az.engine.jit")
    others = [name for name in json.loads(done.stdout) if not name.startswith(packages)]
    assert sorted(others) == ["az.engine", "az.train"]


def test_only_one_module_makes_onnxruntime_sessions():
    users = {module_name(path) for path in SOURCES if leans_on(path, "onnxruntime")}
    assert users <= {"az.engine.inference.onnx_evaluator", "az.engine.inference.providers"}


def test_nothing_is_a_pickle():
    for path in [*SOURCES, *(ROOT / "tests").glob("*.py")]:
        assert not leans_on(path, "pickle", "cPickle", "dill", "joblib", "shelve", "marshal"), path
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert isinstance(node.value, ast.Constant), path
                assert node.value.value is False, path
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) not in (("torch", "load"), ("torch", "save")), path


def test_the_list_of_packages_is_the_folders_that_hold_code():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["packages"])
    found = {"az.models"} | {module_name(path.parent / "__init__.py") for path in SOURCES}
    assert listed == found
    for path in SOURCES:
        assert path.name == "cli.py" or (path.parent / "__init__.py").is_file(), path.parent


def test_files_are_short_and_the_root_holds_one_module():
    for path in [*SOURCES, *(ROOT / "tests").glob("*.py")]:
        assert len(path.read_text("utf-8").splitlines()) <= 400, path
    assert [path.name for path in ROOT.glob("*.py")] == ["cli.py"]


def loaded_after(code: str, *watched: str) -> list[str]:
    """Which of the watched packages a fresh process has loaded after this code."""
    code += f"\nimport json, sys\nprint(json.dumps([name for name in {watched!r} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_engine_runs_without_torch_onnx_typer_and_rich():
    """One process imports every module of the engine but the terminal's, and those for libraries of an extra."""
    names = [module_name(path) for path in SOURCES if path.relative_to(ROOT).parts[0] == "engine"]
    names = [name for name in names if not name.startswith(("az.engine.terminal", "az.engine.adapters"))]
    assert len(names) > 30
    code = "import importlib\nfor name in " + repr(names) + ": importlib.import_module(name)"
    forbidden = ("torch", "onnx", "onnxscript", "safetensors", "tensorboard", "typer", "rich", "az.train", "az.export")
    assert loaded_after(code, *forbidden) == []


def test_training_knows_neither_export_nor_the_command_line():
    names = [module_name(path) for path in SOURCES if path.relative_to(ROOT).parts[0] == "train"]
    code = "import importlib\nfor name in " + repr(names) + ": importlib.import_module(name)"
    assert loaded_after(code, "az.export", "az.cli", "typer", "az.engine.terminal") == []


def test_help_is_quick_because_nothing_heavy_is_loaded():
    code = "import sys\nfrom az.cli import main\nsys.argv = ['az', '--help']\n"
    code += "try:\n    main()\nexcept SystemExit:\n    pass"
    assert loaded_after(code, "numpy", "numba", "onnxruntime", "torch", "az.train", "az.export") == []


# The base install: everything but `az train`, `az resume` and `az export`.

BLOCKER = """
import sys

class Missing:
    names = {"torch", "onnx", "onnxscript", "safetensors", "tensorboard", "filelock"}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""


@pytest.fixture(scope="module")
def base_install(tmp_path_factory):
    """(a function that runs `az` where the extra `train` is missing, the folder it runs in, which holds m.onnx)."""
    from command_line import start_az
    from make_models import write_model

    from az.engine.inference.model_resolver import SHIPPED

    folder = tmp_path_factory.mktemp("base")
    (folder / "blocked").mkdir()
    (folder / "blocked" / "sitecustomize.py").write_text(BLOCKER)
    shipped = SHIPPED / "tictactoe.onnx"
    if shipped.is_file():
        (folder / "m.onnx").write_bytes(shipped.read_bytes())
    else:
        write_model(folder / "m.onnx", "tictactoe")
    path = os.pathsep.join([str(folder / "blocked"), *filter(None, [os.environ.get("PYTHONPATH")])])
    return lambda *words, stdin="": start_az(*words, stdin=stdin, cwd=folder, env={"PYTHONPATH": path}), folder


@pytest.mark.slow
def test_the_base_install_plays(base_install):
    az, folder = base_install
    assert az("games").code == 0
    assert "obeys every law" in az("check", "tictactoe", "--games", "5").out
    answer = az("play", "tictactoe", "--model", "m.onnx", "--sims", "10", stdin="5\nquit\n")
    assert (answer.code, answer.err) == (0, "")
    assert "(engine) plays" in answer.out
    answer = az("analyze", "m.onnx", stdin='{"id": 1, "sims": 10}\n')
    assert json.loads(answer.out)["sims"] == 10
    answer = az("arena", "m.onnx", "random", "--games", "4", "--sims", "4", "--json")
    assert json.loads(answer.out)["games"] == 4
    answer = az("selfplay", "m.onnx", "--games", "3", "--sims", "4", "--out", "o", "--json")
    assert json.loads(answer.out)["games"] == 3
    assert len(list((folder / "o").glob("*.npz"))) == 1


@pytest.mark.parametrize("request_", [("train", "tictactoe"), ("export", "x", "--out", "x.onnx")])
def test_the_base_install_says_how_to_get_the_rest(base_install, request_):
    az, folder = base_install
    answer = az(*request_)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.count("\n") == 1
    assert "is not installed, and training needs it: pip install '.[train]' in the checkout" in answer.err
    assert not (folder / "runs").exists()


def test_the_small_install_is_not_told_to_mix_both_onnxruntimes(monkeypatch):
    from importlib import metadata

    from az.engine.usage import missing

    monkeypatch.setattr(metadata, "version", lambda name: "1" if name == "onnxruntime" else metadata.version(name))
    said = missing("filelock") or ""
    assert "make setup" in said
    assert "pip" not in said
