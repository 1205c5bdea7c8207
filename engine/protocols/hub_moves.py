"""Positions and moves of checkers as the HUB protocol writes them.

A position is the side to move and a sign for each square: w, b, W, B, e. A capture names its first and last square and
all captured ones. HUB was made for games in which White begins, so a client may turn English checkers round: it calls
the side that begins White and numbers the board from the other end. pydraughts does so with positions, not with moves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from az.engine.errors import WrongRequest
from az.engine.game import ONGOING, Game, State
from az.engine.printable import quoted
from az.engine.protocols.brain import alive

BLACK, WHITE = 1, 2  # words of the state of checkers that hold the squares of each side
TURNED_START = "W" + "b" * 12 + "e" * 8 + "w" * 12  # White is to move from the start: only a turned board has that
MOVE = re.compile(r"\d{1,2}(?:-\d{1,2}|(?:x\d{1,2})+)")


@dataclass(frozen=True)
class Frame:
    """How a client sees the board."""

    turned: bool = False  # the side that begins is White, squares are numbered from the other end
    turned_moves: bool = False  # in moves too


STANDARD, PYDRAUGHTS, TURNED = Frame(), Frame(True), Frame(True, True)
FRAMES = (STANDARD, PYDRAUGHTS, TURNED)


def parse_hub(game: Game, text: str, frame: Frame) -> State:
    """The position of a text such as W…, 33 signs. Raises WrongRequest."""
    if not re.fullmatch("[WB][wbWBe]{32}", text):
        raise WrongRequest(
            f"the position '{quoted(text, 60)}' is not W or B and 32 signs of w, b, W, B, e: az plays variant english."
        )
    side, squares = text[0], text[1:]
    if frame.turned:
        side = _other(side)
        squares = "".join(_other(sign) for sign in reversed(squares))
    sides = {"W": list[str](), "B": list[str]()}
    for number, sign in enumerate(squares, 1):
        if sign != "e":
            sides[sign.upper()].append(f"K{number}" if sign.isupper() else f"{number}")
    return game.parse_position(f"{side}:W{','.join(sides['W'])}:B{','.join(sides['B'])}")


def _other(sign: str) -> str:
    return {"w": "b", "b": "w", "W": "B", "B": "W"}.get(sign, sign)


def hub_move(game: Game, state: State, text: str, frame: Frame) -> str:
    """A legal move of az's as HUB writes it."""
    path = [int(part) for part in re.split("[-x]", text)]
    after = game.play(state, game.moves(state)[text])
    word = 2 - int(state[0])  # the other side's squares
    gone = int(state[word]) & ~int(after[word])
    taken = [square + 1 for square in range(32) if gone >> square & 1]
    squares = [path[0], path[-1], *taken]
    if frame.turned_moves:
        squares = [33 - square for square in squares]
    return ("x" if taken else "-").join(map(str, squares))


def parse_hub_move(game: Game, state: State, text: str, frame: Frame) -> str:
    """The legal move, in az's notation, that HUB's text means. Raises WrongRequest."""
    if not MOVE.fullmatch(text):
        raise WrongRequest(f"'{quoted(text, 40)}' is no move such as 11-15, or 22x15x18 with the captured squares.")
    squares = [int(part) for part in re.split("[-x]", text)]
    for move in game.moves(state):
        found = [int(part) for part in re.split("[-x]", hub_move(game, state, move, frame))]
        if found[:2] == squares[:2] and (len(squares) == 2 or sorted(found[2:]) == sorted(squares[2:])):
            return move
    raise WrongRequest(f"'{quoted(text, 40)}' is not a legal move here.")


def follow_hub(game: Game, text: str, moves: list[str], frame: Frame) -> State:
    """The position after these moves. Raises WrongRequest that names the wrong move."""
    state = parse_hub(game, text, frame)
    for number, move in enumerate(moves, 1):
        if game.outcome(state) != ONGOING:
            state = alive(game, state)
        try:
            state = game.play(state, game.moves(state)[parse_hub_move(game, state, move, frame)])
        except WrongRequest as error:
            raise WrongRequest(f"move {number}: {error}") from None
    return alive(game, state)


def find_frame(game: Game, text: str, moves: list[str], known: Frame) -> tuple[State, Frame]:
    """The position, and how the client sees the board: as before, where all moves are legal so. Raises WrongRequest."""
    if text == TURNED_START and not known.turned:
        known = PYDRAUGHTS
    first: WrongRequest | None = None
    for frame in dict.fromkeys((known, *FRAMES)):
        try:
            return follow_hub(game, text, moves, frame), frame
        except WrongRequest as error:
            first = first or error
    assert first is not None
    raise first
