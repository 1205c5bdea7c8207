"""What a page has sent, read field by field: each of its type and within bounds, or a sentence that names it."""

from __future__ import annotations

import math
from typing import Any, cast

from az.engine.errors import WrongRequest

Json = dict[str, Any]
MOST_MOVES = 20_000
MOST_WORD = 200  # characters of a name or a move


def text(body: Json, name: str, most: int = MOST_WORD) -> str:
    """A string. Raises WrongRequest."""
    found = body.get(name)
    if not isinstance(found, str):
        raise WrongRequest(f"the request needs '{name}', a text.")
    if len(found) > most:
        raise WrongRequest(f"'{name}' has {len(found)} characters: {most} are the most.")
    return found


def optional_text(body: Json, name: str, most: int = MOST_WORD) -> str | None:
    """A string, or None where it is missing or null. Raises WrongRequest."""
    return None if body.get(name) is None else text(body, name, most)


def whole(body: Json, name: str, low: int, high: int, usual: int | None = None) -> int:
    """A whole number within bounds; `usual` where it is missing. Raises WrongRequest."""
    found = body.get(name, usual)
    if not isinstance(found, int) or isinstance(found, bool) or not low <= found <= high:
        raise WrongRequest(f"'{name}' must be a whole number from {low} to {high}.")
    return found


def seconds(body: Json, name: str, most: float) -> float | None:
    """A time above 0, or None where it is missing or null. Raises WrongRequest."""
    found = body.get(name)
    if found is None:
        return None
    if (
        isinstance(found, bool)
        or not isinstance(found, int | float)
        or not 0 < found <= most
        or not math.isfinite(found)
    ):
        raise WrongRequest(f"'{name}' must be a number of seconds above 0 and up to {most:g}.")
    return float(found)


def moves(body: Json) -> list[str]:
    """The list of moves; none where it is missing. Raises WrongRequest."""
    found = body.get("moves", [])
    if not isinstance(found, list):
        raise WrongRequest("'moves' must be a list of texts.")
    listed = cast("list[Any]", found)
    if len(listed) > MOST_MOVES:
        raise WrongRequest(f"'moves' holds {len(listed)} moves: {MOST_MOVES} are the most.")
    if not all(isinstance(move, str) and len(move) <= MOST_WORD for move in listed):
        raise WrongRequest(f"'moves' must be a list of texts of at most {MOST_WORD} characters.")
    return listed
