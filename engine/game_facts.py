"""What a game says about itself, looked at before any of its rules is run: names, sizes, shapes and types."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from az.engine.jit import Kernel

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
MOST = {"state_size": 100_000, "num_actions": 1_000_000, "max_plies": 1_000_000, "version": 10**9}
MOST_CELLS = 10_000_000  # numbers in the planes of one position
RULES = {"start": 1, "apply": 2, "legal": 2, "outcome": 1, "encode": 2}  # and how many arguments each takes
TEXTS = {"render": 1, "moves": 1, "parse_position": 1, "position_text": 1, "normalize_move": 2}


def fault_of(game: Any, name: str) -> str | None:
    """What is wrong with the facts of a game that is found under `name`, as half a sentence; None where they are right.

    Nothing of the game is run.
    """
    return next(_faults(game, name), None)


def _faults(game: Any, name: str) -> Iterator[str]:
    if not isinstance(game.name, str) or not NAME.fullmatch(game.name):
        yield f"name is {game.name!r}: write a word of letters, digits, '_', '.' and '-'"
    if game.name != name:
        yield f'it calls itself {game.name!r}: write name="{name}", or give the file that name'
    for field, most in MOST.items():
        yield from _number(field, getattr(game, field), most)
    keys = game.key_words
    if isinstance(keys, bool) or not isinstance(keys, int) or not 0 <= keys <= game.state_size:
        yield f"key_words is {keys!r}: write a whole number from 0 to {game.state_size}, the size of a state"
    yield from _dtype(game.dtype)
    yield from _planes(game.planes_shape)
    for rule, arguments in RULES.items():
        yield from _rule(rule, getattr(game, rule), arguments, game.dtype)
    for text, arguments in TEXTS.items():
        yield from _function(text, getattr(game, text), arguments)
    yield from _symmetries(game.symmetries)


def _number(field: str, value: Any, most: int) -> Iterator[str]:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        yield f"{field} is {value!r}: write a whole number from 1 to {most}"


def _dtype(dtype: Any) -> Iterator[str]:
    if not isinstance(dtype, np.dtype):
        yield f"dtype is {dtype!r}: write rules.dtype"
    elif dtype.kind not in "iu" or not dtype.isnative:
        yield f"dtype is {dtype}: states are arrays of integers, such as int64"


def _planes(shape: Any) -> Iterator[str]:
    right = isinstance(shape, tuple) and len(shape) == 3
    if not right or any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in shape):
        yield f"planes_shape is {shape!r}: write three whole numbers (channels, rows, columns), each 1 or more"
    elif shape[0] * shape[1] * shape[2] > MOST_CELLS:
        yield f"planes_shape is {shape!r}: more than {MOST_CELLS} numbers for one position"


def _rule(field: str, rule: Any, arguments: int, dtype: Any) -> Iterator[str]:
    made_for = getattr(rule, "rule", None)
    if not isinstance(rule, Kernel) or made_for is None:
        yield f"{field} is no rule: put @rules.{field} above its function (rules = Rules(np.int64), from az.engine.jit)"
    elif made_for != field:
        yield f"{field} is a function under @rules.{made_for}: put @rules.{field} above it"
    elif getattr(rule, "dtype", dtype) != dtype:
        yield f"dtype is {dtype} and the rules are made for {rule.dtype}: write dtype=rules.dtype"  # pyright: ignore[reportAttributeAccessIssue]
    else:
        yield from _function(field, rule.function, arguments)


def _function(field: str, function: Any, arguments: int) -> Iterator[str]:
    if not callable(function):
        yield f"{field} is {type(function).__name__} {function!r}: it must be a function"
        return
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a builtin: its first call will tell
        return
    try:
        signature.bind(*[None] * arguments)
    except TypeError:
        yield f"{field} takes {signature}: it is called with {arguments} argument{'s' * (arguments > 1)}"


def _symmetries(symmetries: Any) -> Iterator[str]:
    if not isinstance(symmetries, tuple):
        yield f"symmetries is {type(symmetries).__name__}: write a tuple of Symmetry(actions, squares)"
        return
    for number, symmetry in enumerate(symmetries):
        for part in ("actions", "squares"):
            image = getattr(symmetry, part, None)
            if not isinstance(image, np.ndarray) or image.ndim != 1 or image.dtype.kind not in "iu":
                yield f"symmetry {number} has no {part} as an array of integers: write Symmetry(actions, squares)"
