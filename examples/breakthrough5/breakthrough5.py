"""Breakthrough on 5 by 5 squares: a game in a package of its own, in one file. White (player 0) moves first, upwards.

A man goes one square straight or diagonally forward; straight to an empty square only, diagonally also onto a man of
the other side, which is taken. Who reaches the last row, or takes every man, has won. There are no draws, and always a
move: the foremost man has an empty or enemy square diagonally in front of it.

state: [player to move, 25 squares row by row from the top: 0 empty, 1 White, 2 Black].
action: 3 * square + direction (0 to the left, 1 straight, 2 to the right), as the player to move sees the board, whose
men always go up: Black sees it turned by 180 degrees (24 - square).
max_plies: short of the last row the ten men of a side have 5 * 3 + 5 * 2 steps, and one more step ends the game.
"""

from __future__ import annotations

import numpy as np

from az.engine.board import Board, Cell, Colors, Grid, Piece
from az.engine.errors import WrongRequest
from az.engine.game import LOSS, ONGOING, Game, State, Symmetry
from az.engine.jit import Rules, helper
from az.engine.printable import quoted

rules = Rules(np.int64)


@rules.start
def start(state):
    state[0] = 0
    for square in range(25):
        state[1 + square] = 2 if square < 10 else 0 if square < 15 else 1


@helper
def seen(state, square):
    """What stands on a square of the board as the player to move sees it."""
    return state[1 + square] if state[0] == 0 else state[25 - square]


@helper
def has_lost(state):
    """The player to move has no man left, or a man of the other side stands on their first row."""
    men, arrived = 0, 0
    for square in range(25):
        men += seen(state, square) == 1 + state[0]
        arrived += square >= 20 and seen(state, square) == 2 - state[0]
    return men == 0 or arrived > 0


@rules.apply
def apply(state, action):
    player = state[0]
    origin = action // 3
    target = origin - 6 + action % 3
    if player == 1:
        origin, target = 24 - origin, 24 - target
    state[1 + origin] = 0
    state[1 + target] = 1 + player
    state[0] = 1 - player


@rules.legal
def legal(state, mask):
    over = has_lost(state)
    for square in range(25):
        for direction in range(3):
            column = square % 5 + direction - 1
            fits = not over and square >= 5 and column >= 0 and column < 5 and seen(state, square) == 1 + state[0]
            if fits:
                target = seen(state, square - 6 + direction)
                fits = target == 0 or (target == 2 - state[0] and direction != 1)
            mask[3 * square + direction] = fits


@rules.outcome
def outcome(state):
    return LOSS if has_lost(state) else ONGOING


@rules.encode
def encode(state, planes):
    for square in range(25):
        man = seen(state, square)
        planes[0, square // 5, square % 5] = 1.0 if man == 1 + state[0] else 0.0
        planes[1, square // 5, square % 5] = 1.0 if man == 2 - state[0] else 0.0


def _cells(state: State) -> Grid:
    signs = ["-WB"[man] for man in state[1:]]
    return [signs[row : row + 5] for row in range(0, 25, 5)]


def _move_cells(state: State, actions: tuple[int, ...]) -> tuple[Cell, ...]:
    """From and to, on the board as it is drawn."""
    origin, direction = divmod(actions[0], 3)
    squares = origin, origin - 6 + direction
    return tuple(divmod(square if state[0] == 0 else 24 - square, 5) for square in squares)


def _name(cell: Cell) -> str:
    return "abcde"[cell[1]] + "54321"[cell[0]]


def moves(state: State) -> dict[str, tuple[int, ...]]:
    mask = np.zeros(75, np.bool_)
    legal(state, mask)
    found = {}
    for action in np.flatnonzero(mask).tolist():
        origin, target = _move_cells(state, (action,))
        takes = state[1 + 5 * target[0] + target[1]] != 0
        found[f"{_name(origin)}{'x' if takes else '-'}{_name(target)}"] = (action,)
    return found


def render(state: State) -> str:
    rows = [f"{5 - number} " + " ".join(signs) for number, signs in enumerate(_cells(state))]
    return "\n".join([*rows, "  a b c d e"])


def position_text(state: State) -> str:
    """The rows from the top, and the side to move: BBBBB/BBBBB/-----/WWWWW/WWWWW W."""
    return "/".join("".join(signs) for signs in _cells(state)) + " " + "WB"[int(state[0])]


def parse_position(text: str) -> State:
    rows, _, mover = text.strip().partition(" ")
    squares = rows.replace("/", "")
    fits = [len(row) for row in rows.split("/")] == [5] * 5 and set(squares) <= set("-WB")
    if not fits or mover not in ("W", "B") or max(squares.count("W"), squares.count("B")) > 10:
        raise WrongRequest(
            f"breakthrough5 position '{quoted(text)}' cannot be read: write five rows of '-', 'W' and 'B' from the top"
            " and the side to move, such as BBBBB/BBBBB/-----/WWWWW/WWWWW W."
        )
    return np.array(["WB".index(mover), *("-WB".index(sign) for sign in squares)], np.int64)


BOARD = Board(
    cells=_cells,
    pieces={"W": Piece(0, "▲", "W"), "B": Piece(1, "▼", "B")},
    players=("White", "Black"),
    colors=Colors(
        ground="#33402f", alternate="#3f4d3a", last="#5a3d5c", players=("#ffffff", "#ffd24d"), label="#c8d0c0"
    ),
    move_cells=_move_cells,
    move_help="from and to, such as a2-a3, or a2xb3 where it takes",
    row_labels="54321",
    column_labels="abcde",
    columns_below=True,
    signs_beside_names=True,
    flips=True,
    below=0,
)

_SQUARES = np.arange(25).reshape(5, 5)[:, ::-1].ravel().copy()
_MIRROR = Symmetry(np.array([3 * square + 2 - direction for square in _SQUARES for direction in range(3)]), _SQUARES)

GAME = Game(
    name="breakthrough5",
    version=1,
    dtype=rules.dtype,
    state_size=26,
    num_actions=75,
    planes_shape=(2, 5, 5),
    max_plies=51,
    start=start,
    apply=apply,
    legal=legal,
    outcome=outcome,
    encode=encode,
    render=render,
    moves=moves,
    parse_position=parse_position,
    position_text=position_text,
    symmetries=(_MIRROR,),
    board=BOARD,
)
