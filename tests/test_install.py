"""The ways in which az is installed: what they ask for agrees, and the installer shows what it does."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from command_line import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
INSTALL = [sys.executable, str(ROOT / ".ci" / "install.py")]


def lines_of(name: str) -> list[str]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / name).read_text("utf-8").splitlines())
    return [line for line in lines if line]


def test_the_small_engine_asks_for_the_same_with_plain_onnxruntime():
    wanted = [each.partition(";")[0] for each in PROJECT["dependencies"]]
    runtimes = {each for each in wanted if each.startswith("onnxruntime")}
    assert len({re.sub(r"^onnxruntime(-gpu)?", "", each) for each in runtimes}) == 1  # one version of both
    plain = {each for each in runtimes if not each.startswith("onnxruntime-gpu")}
    assert len(plain) == 1
    assert sorted(lines_of("requirements-cpu.txt")) == sorted({*wanted} - runtimes | plain)


def test_both_onnxruntimes_are_pinned_to_one_version():
    pins = dict(line.split("==") for line in lines_of("constraints.txt"))
    assert pins["onnxruntime"] == pins["onnxruntime-gpu"]


def test_the_extra_for_gpus_is_the_base_with_cuda_and_cudnn():
    base = {each for each in PROJECT["dependencies"] if each.startswith("onnxruntime-gpu")}
    extra = set(PROJECT["optional-dependencies"]["gpu"])
    assert {each.replace("onnxruntime-gpu[cuda,cudnn]", "onnxruntime-gpu") for each in extra} == base


def test_never_both_onnxruntimes_on_one_machine():
    """Of the base's requirements exactly one runtime holds, whatever the machine."""
    from packaging.requirements import Requirement

    found = [Requirement(each) for each in PROJECT["dependencies"] if each.startswith("onnxruntime")]
    for platform, machine in [
        ("linux", "x86_64"), ("linux", "aarch64"), ("win32", "AMD64"), ("win32", "ARM64"), ("darwin", "arm64"),
        ("darwin", "x86_64"),
    ]:  # fmt: skip
        here = {"sys_platform": platform, "platform_machine": machine}
        assert sum(each.marker is None or each.marker.evaluate(here) for each in found) == 1, here


def wheel(folder: Path, name: str, code: str) -> None:
    """A package of one module."""
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(text)}")
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,\n"])
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as file:
        for path, text in files.items():
            file.writestr(path, text)


def test_the_installer_needs_nothing_installed(tmp_path):
    """It is what a bare Python runs first: it imports nothing but the standard library and one file of ours."""
    bare = [sys.executable, "-I", "-S", str(ROOT / ".ci" / "install.py")]
    done = subprocess.run(bare, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr.startswith("write: install.py FOLDER")


@pytest.mark.slow
def test_the_installer_installs_and_cleans_up(tmp_path):
    wheel(tmp_path, "azfirst", "A = 1\n")
    wheel(tmp_path, "azsecond", "B = 2\n")
    local = ["--no-index", "--find-links", str(tmp_path)]
    done = subprocess.run(
        [*INSTALL, str(tmp_path / "v"), *local, "azfirst", "--", *local, "azsecond"],
        capture_output=True, text=True, check=False, env=os.environ | {"TERM": "dumb"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"installed in v: \d+ MB, \d+ s\n", done.stdout)
    for line in done.stderr.splitlines():  # a pipe: a line where it takes more than ten seconds, with the size
        assert re.match(r"installing, part [123] of 3: [\d,.]+ MB in [\d,]+ files, [\d,]+ steps; ", line)
    assert not (tmp_path / "v" / "tmp").exists()
    python = tmp_path / "v" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    assert subprocess.run([python, "-c", "import azfirst, azsecond"], check=False).returncode == 0


@pytest.mark.slow
def test_an_installation_that_fails_shows_why(tmp_path):
    done = subprocess.run(
        [*INSTALL, str(tmp_path / "v"), "--no-index", "no-such-package-of-az"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "No matching distribution found for no-such-package-of-az" in done.stderr
    assert str(tmp_path / "v" / "install.log") in done.stderr
    assert "Traceback" not in done.stderr
