"""The header of a record file: every field's type and range, before anything is counted or looked up by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from az.engine.errors import Refused
from az.engine.printable import quoted
from az.engine.settings import BIG

MOST_SEED = 2**63 - 1
MOST_GAME = BIG  # game numbers end there; a run adds to the highest that it has seen
MOST_PLIES = 10**6
MOST_TEXT = 200  # characters of a model's id and of a search parameter


def check_header(path: Path, header: dict[str, Any], games: NDArray[np.int64], plies: NDArray[np.int32]) -> None:
    """Raises Refused naming the first field that is not what it should be. games, plies: [R], of the rows."""
    for name, fault in (
        ("seed", _whole(header.get("seed"), 0, MOST_SEED)),
        ("search", _search(header.get("search"))),
        ("models", _models(header.get("models"))),
        ("games", _games(header.get("games"), header.get("models"))),
    ):
        if fault:
            raise Refused(f"{path}: {name} is {fault}.")
    known = np.array(sorted({game[0] for game in header["games"]}), np.int64)
    if len(games) and not (np.isin(games, known).all() and plies.min() >= 0 and plies.max() <= MOST_PLIES):
        raise Refused(f"{path}: a row is of a game or of a ply that the header does not list.")


def _whole(value: Any, low: int, high: int) -> str:
    """ "" for a whole number in the range, otherwise what it is."""
    if type(value) is not int:
        return f"{quoted(value)}, which is no whole number"
    return "" if low <= value <= high else f"{quoted(value)}, which lies outside {low} to {high}"


def _search(value: Any) -> str:
    if not isinstance(value, dict):
        return f"{quoted(value)}, which is no object"
    for name, one in value.items():
        fine = isinstance(one, bool | int | float) or (isinstance(one, str) and len(one) <= MOST_TEXT)
        if not fine or len(name) > MOST_TEXT or (isinstance(one, int | float) and not abs(one) <= BIG):
            return f"an object in which {quoted(name)} is {quoted(one)}"
    return ""


def _models(value: Any) -> str:
    if not isinstance(value, list):
        return f"{quoted(value)}, which is no list"
    wrong = [one for one in value if not isinstance(one, str) or not one.isprintable() or len(one) > MOST_TEXT]
    return f"a list with {quoted(wrong[0])}, which is the name of no model" if wrong else ""


def _games(value: Any, models: Any) -> str:
    if not isinstance(value, list):
        return f"{quoted(value)}, which is no list"
    highs = (MOST_GAME, MOST_PLIES, 1, len(models) - 1 if isinstance(models, list) else 0)
    for one in value:
        if not isinstance(one, list) or len(one) != 4:
            return f"a list with {quoted(one)}, which is not [game, plies, outcome, model]"
        for number, low, high in zip(one, (0, 0, -1, 0), highs, strict=True):
            fault = _whole(number, low, high)
            if fault:
                return f"a list with {fault}"
    return ""
