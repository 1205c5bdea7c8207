"""Connect four, 7 columns by 6 rows. A move is a column, 1–7 from the left; X (player 0) begins.

state: [player to move, stones of player 0, stones of player 1, plies played, two words of played columns].
A bitboard has seven bits a column, bit 7 * column + height; the seventh stays empty, so lines cannot run from one
column into the next. The played columns (three bits each, 21 a word) are there for the position text alone.
"""

from __future__ import annotations

import numpy as np

from az.engine.board import Board, Cell, Colors, Grid, Piece, line_of
from az.engine.errors import WrongRequest
from az.engine.game import DRAW, LOSS, ONGOING, Game, State, Symmetry
from az.engine.jit import Rules, helper
from az.engine.printable import quoted

rules = Rules(np.int64)

BOTTOM = sum(1 << 7 * column for column in range(7))
TOP = BOTTOM << 5


@rules.start
def start(state):
    for word in range(6):
        state[word] = 0


@helper
def has_line(state):
    """The player who has just moved has four in a row."""
    stones = state[2 - state[0]]
    for shift in (1, 6, 7, 8):  # up, the two diagonals and along a row
        pairs = stones & (stones >> shift)
        if pairs & (pairs >> (2 * shift)):
            return True
    return False


@rules.apply
def apply(state, action):
    player, plies = state[0], state[3]
    stones = state[1] | state[2]
    landing = (stones + (1 << (7 * action))) & (63 << (7 * action))  # the carry stops at the first empty square
    state[1 + player] |= landing
    state[4 + plies // 21] |= action << (3 * (plies % 21))
    state[3] = plies + 1
    state[0] = 1 - player


@rules.legal
def legal(state, mask):
    over = has_line(state)
    stones = state[1] | state[2]
    for column in range(7):
        mask[column] = not over and (stones >> (7 * column + 5)) & 1 == 0


@rules.outcome
def outcome(state):
    if has_line(state):
        return LOSS
    return DRAW if (state[1] | state[2]) & TOP == TOP else ONGOING


@rules.encode
def encode(state, planes):
    own, other = state[1 + state[0]], state[2 - state[0]]
    for row in range(6):
        for column in range(7):
            bit = 7 * column + 5 - row  # row 0 is the top one, as drawn
            planes[0, row, column] = (own >> bit) & 1
            planes[1, row, column] = (other >> bit) & 1


def _sign(state: State, row: int, column: int) -> str:
    bit = 7 * column + 5 - row
    return "X" if int(state[1]) >> bit & 1 else "O" if int(state[2]) >> bit & 1 else "."


def render(state: State) -> str:
    rows = [" ".join(_sign(state, row, column) for column in range(7)) for row in range(6)]
    return "\n".join([*rows, "1 2 3 4 5 6 7"])


def moves(state: State) -> dict[str, tuple[int, ...]]:
    mask = np.zeros(7, np.bool_)
    legal(state, mask)
    return {str(column + 1): (int(column),) for column in np.flatnonzero(mask)}


def parse_position(text: str) -> State:
    """The columns (1–7) played so far, as one string; "" is the start."""
    state = np.zeros(6, np.int64)
    for number, sign in enumerate(text.strip()):
        legal_now = moves(state)
        if sign not in legal_now:
            fault = "is not legal" if legal_now else "cannot be played, because the game is over"
            raise WrongRequest(
                f"connect4 position '{quoted(text)}': move {number + 1} ('{quoted(sign)}') {fault};"
                " write the columns 1–7 in the order in which they were played."
            )
        apply(state, legal_now[sign][0])
    return state


def position_text(state: State) -> str:
    """The columns played so far."""
    columns = [int(state[4 + ply // 21]) >> 3 * (ply % 21) & 7 for ply in range(int(state[3]))]
    return "".join(str(column + 1) for column in columns)


def _cells(state: State) -> Grid:
    return [[_sign(state, row, column).replace(".", "-") for column in range(7)] for row in range(6)]


def _move_cells(state: State, actions: tuple[int, ...]) -> tuple[Cell, ...]:
    """The lowest empty square of the column."""
    height = (int(state[1] | state[2]) >> 7 * actions[0] & 63).bit_count()
    return ((5 - height, actions[0]),)


def _ending(_: State, winner: int | None, __: bool) -> str:
    return "Drawn: the board is full." if winner is None else f"{BOARD.players[winner]} has four in a row and wins."


BOARD = Board(
    cells=_cells,
    pieces={"X": Piece(0, "●", "X"), "O": Piece(1, "○", "O")},
    players=("Red", "Yellow"),
    colors=Colors(ground="#0b1f4b", last="#222e70", players=("#ff7a6b", "#ffe14d"), label="#8090b8"),
    move_cells=_move_cells,
    move_help="the number of a column, 1 to 7",
    column_labels="1234567",
    columns_below=True,
    signs_beside_names=True,
    winning=line_of(4),
    ending=_ending,
)

_MIRROR = Symmetry(np.arange(7)[::-1].copy(), np.arange(42).reshape(6, 7)[:, ::-1].ravel().copy())

GAME = Game(
    name="connect4",
    version=1,
    dtype=rules.dtype,
    state_size=6,
    num_actions=7,
    planes_shape=(2, 6, 7),
    max_plies=42,
    start=start,
    apply=apply,
    legal=legal,
    outcome=outcome,
    encode=encode,
    render=render,
    moves=moves,
    parse_position=parse_position,
    position_text=position_text,
    key_words=4,
    symmetries=(_MIRROR,),
    board=BOARD,
)
