"""Pages that are made from the code, as Markdown: the commands, the public functions, the notebook.

Functions are read from the source, not imported: the site needs neither numba nor PyTorch.
"""

from __future__ import annotations

import ast
import html
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PATH_OF_AZ = os.pathsep.join([str(ROOT / ".typecheck"), os.environ.get("PYTHONPATH", "")])


def commands_page(_: str | None) -> str:
    """Every command with its arguments and options, by typer's own generator."""
    words = [sys.executable, "-m", "typer", "az.cli", "utils", "docs", "--name", "az"]
    text = subprocess.check_output(words, text=True, encoding="utf-8", env={**os.environ, "PYTHONPATH": PATH_OF_AZ})
    _, _, commands = text.partition("\n## ")
    return html.unescape("## " + commands)


def functions_page(package: str | None) -> str:
    """The public names of a package such as engine or train/health: signature, docstring, fields, methods."""
    return "\n".join(_entry(name, path) for name, path in sorted(public_names(package or "").items()))


def notebook_page(path: str | None) -> str:
    """The cells of a notebook, without outputs; its title is a heading below that of the page."""
    cells = json.loads((ROOT / (path or "")).read_text("utf-8"))["cells"]
    texts = [("".join(cell["source"]), cell["cell_type"] == "code") for cell in cells]
    return "\n\n".join(f"```python\n{text}\n```" if code else re.sub(r"^#", "##", text) for text, code in texts)


MAKERS: dict[str, Callable[[str | None], str]] = {
    "commands": commands_page, "functions": functions_page, "notebook": notebook_page,
}  # fmt: skip


def public_names(package: str) -> dict[str, Path]:
    """name → the file that defines it, from the imports of `__init__.pyi` (loaded on use) or `__init__.py`."""
    folder = ROOT / package
    source = next(path for path in (folder / "__init__.pyi", folder / "__init__.py") if path.is_file())
    found = {}
    for node in ast.walk(ast.parse(source.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and (node.level or node.module.startswith("az.")):
            base = folder if node.level else ROOT
            module = base.joinpath(*node.module.removeprefix("az.").split("."))
            file = module / "__init__.py" if module.is_dir() else module.with_suffix(".py")
            found.update({alias.name: file for alias in node.names})
    return found


def _entry(name: str, path: Path) -> str:
    source = path.read_text("utf-8")
    node = next(each for each in ast.parse(source).body if getattr(each, "name", None) == name)
    if not isinstance(node, ast.ClassDef | ast.FunctionDef):
        raise TypeError(f"{name} of {path} is neither a class nor a function.")
    where = path.relative_to(ROOT).as_posix()
    parts = [f"## {name}\n", f"```python\n{_head(node, source)}\n```\n", markdown(ast.get_docstring(node) or "")]
    if isinstance(node, ast.ClassDef):
        parts += _members(node, source)
    return "\n".join([*parts, f"\nDefined in `{where}`.\n"])


def _members(node: ast.ClassDef, source: str) -> Iterator[str]:
    lines = source.splitlines()
    fields = [part for part in node.body if isinstance(part, ast.AnnAssign) and "InitVar" not in ast.dump(part)]
    if fields:
        texts = [lines[part.lineno - 1 : part.end_lineno] for part in fields]
        yield "\n```python\n" + inspect.cleandoc("\n" + "\n".join(line for text in texts for line in text)) + "\n```\n"
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and (not part.name.startswith("_") or part.name == "__init__"):
            text = ast.get_docstring(part)
            if text:
                yield f"\n### {node.name}.{part.name}\n"
                yield f"```python\n{_head(part, source)}\n```\n"
                yield markdown(text)


def _head(node: ast.ClassDef | ast.FunctionDef, source: str) -> str:
    """A function's signature as it is written; a class as it is called."""
    if isinstance(node, ast.ClassDef):
        made = [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
        if not made:
            return f"class {node.name}"
        return re.sub(r"^def __init__\(\s*self,\s*", f"{node.name}(", _head(made[0], source)).replace(") -> None", ")")
    lines = source.splitlines()[node.lineno - 1 : node.body[0].lineno - 1]
    text = re.sub(r"\s+# (?:fmt|noqa|pyright).*", "", "\n".join(lines))
    return inspect.cleandoc(text).removesuffix(":")


def markdown(docstring: str) -> str:
    """Docstrings are plain text with `code` and examples that are set in by four spaces."""
    lines = []
    for line in docstring.splitlines():
        parts = re.split(r"(`[^`]*`)", line)
        parts[::2] = [re.sub(r"([*<\[\]])", r"\\\1", part) for part in parts[::2]]
        lines.append(line if line.startswith("    ") else "".join(parts))
    return "\n".join(lines)
