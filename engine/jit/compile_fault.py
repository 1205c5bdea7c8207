"""What keeps a rule from being compiled, in one sentence: numba says it in a hundred lines."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ANSI = re.compile(r"\x1b\[[0-9;]*m")
GLOBAL = re.compile(r"Untyped global name '([^']+)'")
RETURNS = re.compile(r"No conversion from (.+?) to (\w+) for '\$\w*return_value")
UNIFY = re.compile(r"Cannot unify (.+?) and (.+?) for '([A-Za-z_]\w*?)(?:\.\d+)?'")
PLACE = re.compile(r'File "([^"]+)", line (\d+)')
NOISE = ("Failed in ", "During: ", "File ", "Use of unsupported NumPy function", "- ", "There are ", ">>>", "-->", "^")


def compile_fault(function: Callable[..., Any], error: Exception) -> str:
    """Why this function of a game cannot be compiled, as half a sentence with the line where it stands."""
    text = ANSI.sub("", str(error))
    return f"{_reason(text, function, error)}{_place(text, function)}"


def _reason(text: str, function: Callable[..., Any], error: Exception) -> str:
    if names := GLOBAL.findall(text):
        name = names[-1]
        value = _global_value(getattr(function, "__globals__", {}), name)
        if callable(value) and not isinstance(value, type):
            return f"it calls {name}, which has no @helper above it"
        return f"it uses {name}, {_kind(value)}: rules may use numbers and numpy arrays of their own file"
    if found := RETURNS.search(text):
        return f"it returns {_plain(found[1])}, and {_plain(found[2])} is due"
    if found := UNIFY.search(text):
        first, second, name = found.groups()
        return f"'{name}' is both {_plain(first)} and {_plain(second)}: give each a name of its own"
    lines = [line.strip() for line in text.splitlines()]
    told = next((line for line in lines if line and not line.startswith(NOISE)), type(error).__name__)
    return told.rstrip(" .:")


def _global_value(names: Mapping[str, Any], name: str) -> Any:
    """The global of that name in the function's file, or in the file of a helper that it calls."""
    if name in names:
        return names[name]
    for value in list(names.values()):
        inner = getattr(getattr(value, "function", None), "__globals__", {})
        if name in inner:
            return inner[name]
    return None


def _kind(value: Any) -> str:
    return "which is not defined" if value is None else f"a {type(value).__name__}"


def _plain(kind: str) -> str:
    literal = re.fullmatch(r"Literal\[\w+\]\((.*)\)", kind)
    if literal:
        return f"'{literal[1]}'"
    kind = kind.removeprefix("OptionalType(").rstrip(")")
    return "an array" if kind.startswith("array") else {"none": "nothing", "int64": "a whole number"}.get(kind, kind)


def _place(text: str, function: Callable[..., Any]) -> str:
    code = getattr(function, "__code__", None)
    own = Path(code.co_filename).name if code else ""
    places = [(Path(file).name, line) for file, line in PLACE.findall(text)]
    file, line = next((place for place in reversed(places) if place[0] == own), (own, "")) if places else (own, "")
    line = line or (str(code.co_firstlineno) if code else "")
    return f" ({file}, line {line})" if file else ""
