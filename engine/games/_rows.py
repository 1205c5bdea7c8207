"""Positions of stones on a board as one text: rows from the top, parted by '/', numbers for so many empty squares."""

from __future__ import annotations

import re

from az.engine.board import EMPTY
from az.engine.errors import WrongRequest
from az.engine.game import Game, State
from az.engine.printable import quoted


def rows_text(rows: list[str], mover: int) -> str:
    """`3X/1OX1/… O` of rows of X, O and the sign of an empty square, and the player to move."""
    short = [re.sub(f"{EMPTY}+", lambda run: str(len(run[0])), row) for row in rows]
    return "/".join(short) + " " + "XO"[mover]


def read_rows(text: str, n: int, name: str) -> tuple[list[str], int]:
    """(n rows of n signs, player to move) of what `rows_text` wrote. Raises WrongRequest."""
    board, _, mover = text.strip().upper().rpartition(" ")
    rows = [re.sub("[0-9]+", lambda run: EMPTY * min(int(run[0][:3]), n + 1), row) for row in board.strip().split("/")]
    right = len(rows) == n and all(re.fullmatch(f"[XO{EMPTY}]{{{n}}}", row) for row in rows)
    if not right or mover not in ("X", "O"):
        raise WrongRequest(
            f"{name} position '{quoted(text)}' cannot be read: write {n} rows of {n} squares from the top, parted by"
            " '/', as X, O and numbers of empty squares, a space, and the side to move, X or O; or the moves from the"
            " start, such as e5 d6."
        )
    return rows, "XO".index(mover)


def read_moves(text: str, game: Game) -> State:
    """The position after these moves from the start, parted by spaces. Raises WrongRequest naming the wrong one."""
    state = game.new_state()
    for number, move in enumerate(text.split(), 1):
        legal = game.moves(state)
        if move.lower() not in legal:
            fault = "is not legal there" if legal else "cannot be played, because the game is over"
            raise WrongRequest(
                f"{game.name} position '{quoted(text)}': move {number} ('{quoted(move)}') {fault};"
                " write the moves in the order in which they were played, such as e5 d6, or a board as az writes it."
            )
        game.apply(state, legal[move.lower()][0])
    return state
