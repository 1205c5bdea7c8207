"""The lines inside a `with` statement as a function, so that they can be run again from the same values."""

from __future__ import annotations

import ast
import linecache
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

from torch import nn

NAME, BATCH = "step", "__batch__"
LOADED = time.time()  # a file that was written later may hold other lines than those that run
FIXED = (ModuleType, FunctionType, type, nn.Module)  # a module's own level finds these by their names
_LEAVING = (ast.Yield, ast.YieldFrom, ast.Await, ast.AsyncFor, ast.AsyncWith, ast.Nonlocal)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_made: dict[tuple[CodeType, int, frozenset[str]], CodeType] = {}


@dataclass(frozen=True)
class _Lines:
    """reads: names that the lines may read before they set them; sets: names that they set; shared: of them globals."""

    body: list[ast.stmt]
    reads: frozenset[str]
    sets: frozenset[str]
    shared: frozenset[str]


@dataclass(frozen=True)
class Body:
    """run(batch, **values) does what the lines do, in names of its own; at a module's level they set its globals."""

    run: FunctionType
    values: dict[str, Any]


def body_of(frame: FrameType) -> Body | None:
    """The lines of the `with` statement that a frame has come to; None where they cannot be had or run again."""
    try:
        lines = _lines_of(frame.f_code, frame.f_lineno)
        return None if lines is None else _body(frame, lines)
    except (SyntaxError, ValueError, RecursionError):
        return None


def _body(frame: FrameType, lines: _Lines) -> Body:
    held, is_top = frame.f_locals, frame.f_locals is frame.f_globals
    shared = lines.shared | lines.sets if is_top else lines.shared
    values = {name: held[name] for name in lines.reads - shared if name in held}
    if is_top:
        values = {name: value for name, value in values.items() if not isinstance(value, FIXED)}
    key = frame.f_code, frame.f_lineno, frozenset(values)
    if key not in _made:
        _made[key] = _compiled(lines, sorted(values), sorted(shared & lines.sets), frame.f_code.co_filename)
    run = FunctionType(_made[key], frame.f_globals, NAME)
    return Body(run, values)


def _compiled(lines: _Lines, arguments: list[str], shared: list[str], file: str) -> CodeType:
    """The code of a function around the lines; `break` and `continue` end it as they would have ended them."""
    given = ast.arguments([], [ast.arg(BATCH)], None, [ast.arg(name) for name in arguments],
                          [None] * len(arguments), None, [])  # fmt: skip
    once = ast.For(ast.Name("__once__", ast.Store()), ast.Tuple([ast.Constant(0)], ast.Load()), lines.body, [])
    body: list[ast.stmt] = [ast.Global(shared), once] if shared else [once]
    function = ast.copy_location(ast.FunctionDef(NAME, given, body, []), lines.body[0])
    module = compile(ast.fix_missing_locations(ast.Module([function], [])), file, "exec", dont_inherit=True)
    return next(part for part in module.co_consts if isinstance(part, CodeType))


@cache
def _lines_of(code: CodeType, line: int) -> _Lines | None:
    tree = _parsed(code.co_filename)
    if tree is None:
        return None
    at = [(node, scopes) for node, scopes in _withs(tree, ()) if node.lineno <= line <= _end_of_items(node)]
    if not at:
        return None
    node, scopes = at[-1]
    item = _own_item(node)
    if item is None:
        return None
    rest = node.items[item + 1 :]
    body: list[ast.stmt] = [ast.copy_location(ast.With(rest, node.body), node)] if rest else node.body
    inside = [part for statement in body for part in ast.walk(statement)]
    if any(isinstance(part, _LEAVING) or _is_of_a_class(part) for part in inside):
        return None
    names = [part for part in inside if isinstance(part, ast.Name)]
    sets = {one.id for one in names if not isinstance(one.ctx, ast.Load)} | set(_bound(inside))
    read, made = set[str](), set[str]()
    _order(body, read, made)
    declared = {name for scope in scopes[-1:] for name in _globals_in(scope)}
    return _Lines(body, frozenset(read), frozenset(sets), frozenset(declared))


@cache
def _parsed(file: str) -> ast.Module | None:
    if os.path.exists(file) and os.stat(file).st_mtime > LOADED:
        return None
    text = "".join(linecache.getlines(file))
    return ast.parse(text) if text else None


def _withs(node: ast.AST, scopes: tuple[ast.AST, ...]) -> Iterator[tuple[ast.With, tuple[ast.AST, ...]]]:
    """Every `with` in the order of the text, and the functions around it."""
    if isinstance(node, ast.With):
        yield node, scopes
    if isinstance(node, _SCOPES):
        scopes = (*scopes, node)
    for child in ast.iter_child_nodes(node):
        yield from _withs(child, scopes)


def _end_of_items(node: ast.With) -> int:
    last = node.items[-1]
    return (last.optional_vars or last.context_expr).end_lineno or node.lineno


def _own_item(node: ast.With) -> int | None:
    """Which of the items calls the recorder's `step`; None where that cannot be told."""
    if len(node.items) == 1:
        return 0
    calls = [i for i, item in enumerate(node.items) if isinstance(call := item.context_expr, ast.Call)
             and isinstance(call.func, ast.Attribute) and call.func.attr == "step"]  # fmt: skip
    return calls[0] if len(calls) == 1 else None


def _is_of_a_class(node: ast.AST) -> bool:
    """Whether this means something only inside of a class: `super()`, or a private name that Python mangles."""
    if isinstance(node, ast.Attribute):
        return node.attr.startswith("__") and not node.attr.endswith("__")
    return isinstance(node, ast.Name) and node.id in ("super", "__class__")


def _bound(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Names that statements other than assignments set."""
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name


def _globals_in(scope: ast.AST) -> Iterator[str]:
    for node in ast.walk(scope):
        if isinstance(node, ast.Global):
            yield from node.names


def _order(body: list[ast.stmt], read: set[str], made: set[str]) -> None:
    """Add the names that are read before they are surely made. What the last round left in the others, such as its
    loss with everything that it holds on to, need not be kept."""
    for statement in body:
        if isinstance(statement, ast.With):
            for item in statement.items:
                _note(item.context_expr, read, made)
                made |= _stored(item.optional_vars)
            _order(statement.body, read, made)
            continue
        if isinstance(statement, ast.Assign):
            _note(statement.value, read, made)
            for target in statement.targets:
                _note(target, read, made)
            made |= {name for target in statement.targets for name in _stored(target)}
            continue
        _note(statement, read, made)
        if isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
            read |= {statement.target.id} - made


def _note(node: ast.AST, read: set[str], made: set[str]) -> None:
    """What an expression or a compound statement reads; a conditional `x += 1` inside of it reads x too."""
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load | ast.Del) and part.id not in made:
            read.add(part.id)
        elif isinstance(part, ast.AugAssign) and isinstance(part.target, ast.Name) and part.target.id not in made:
            read.add(part.target.id)


def _stored(target: ast.AST | None) -> set[str]:
    if target is None:
        return set()
    return {part.id for part in ast.walk(target) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
