"""Othello on a board of n by n squares, n even and at most 8: its rules, and `make_game`.

state: [player to move, discs of Black (player 0), discs of White]. A bitboard has eight bits a row whatever n is:
square (row, column) is bit 8 * row + column, and its action is n * row + column; action n * n is the pass. Words are
signed, so a shift to the right must drop the copies of the sign.
"""

from __future__ import annotations

import re
from functools import cache

import numpy as np

from az.engine.board import EMPTY, Board, Colors, Piece
from az.engine.errors import WrongRequest
from az.engine.game import DRAW, LOSS, ONGOING, WIN, Game, Mask, State, Symmetry
from az.engine.jit import Rules, helper
from az.engine.printable import quoted

SHIFTS = np.array([1, 8, 7, 9])
ROW = 0x0101010101010101
LARGEST = 0x7FFFFFFFFFFFFFFF
LOW = (1 << 64) - 1  # a bitboard as a number without a sign


@helper
def shifted(squares, direction):
    """Every square one step further; directions 0–3 towards higher bits, 4–7 towards lower ones."""
    if direction < 4:
        return squares << SHIFTS[direction]
    shift = SHIFTS[direction - 4]
    return (squares >> shift) & (LARGEST >> (shift - 1))


@helper
def between(n, direction):
    """Where a disc can stand that is turned along `direction`: not in the outer columns, unless along a column.

    Whatever wraps round the edge of the board lands in an outer column or beside the board, so this stops it too.
    """
    return -1 if direction & 3 == 1 else ((1 << (n - 1)) - 2) * ROW


@helper
def on_board(n):
    return -1 if n == 8 else ((1 << n) - 1) * (ROW & ((1 << (8 * n)) - 1))


@helper
def placements(own, other, n):
    """The squares where `own` may put a disc."""
    found = 0
    for direction in range(8):
        inner = other & between(n, direction)
        run = inner & shifted(own, direction)
        for _ in range(n - 3):
            run |= inner & shifted(run, direction)
        found |= shifted(run, direction)
    return found & ~(own | other) & on_board(n)


@helper
def begin(state, n):
    centre = 9 * (n // 2 - 1)  # the upper left of the four middle squares
    state[0] = 0
    state[1] = (1 << (centre + 1)) | (1 << (centre + 8))
    state[2] = (1 << centre) | (1 << (centre + 9))


@helper
def play(state, action, n):
    player = state[0]
    state[0] = 1 - player
    if action == n * n:
        return
    own, other = state[1 + player], state[2 - player]
    disc = np.int64(1) << (8 * (action // n) + action % n)
    turned = 0
    for direction in range(8):
        inner = other & between(n, direction)
        line, place = 0, shifted(disc, direction)
        while place & inner:
            line |= place
            place = shifted(place, direction)
        if place & own:
            turned |= line
    state[1 + player] = own | disc | turned
    state[2 - player] = other & ~turned


@helper
def write_legal(state, mask, n):
    own, other = state[1 + state[0]], state[2 - state[0]]
    places = placements(own, other, n)
    for row in range(n):
        for column in range(n):
            mask[n * row + column] = (places >> (8 * row + column)) & 1 != 0
    mask[n * n] = places == 0 and placements(other, own, n) != 0


@helper
def result(state, n):
    own, other = state[1 + state[0]], state[2 - state[0]]
    if placements(own, other, n) or placements(other, own, n):
        return ONGOING
    lead = 0
    for bit in range(64):
        lead += ((own >> bit) & 1) - ((other >> bit) & 1)
    if lead == 0:
        return DRAW
    return WIN if lead > 0 else LOSS


@helper
def write_planes(state, planes, n):
    own, other = state[1 + state[0]], state[2 - state[0]]
    for row in range(n):
        for column in range(n):
            bit = 8 * row + column
            planes[0, row, column] = (own >> bit) & 1
            planes[1, row, column] = (other >> bit) & 1


def signs(state: State, n: int, empty: str) -> list[str]:
    """One string a row."""
    black, white = int(state[1]), int(state[2])
    cells = ["X" if black >> bit & 1 else "O" if white >> bit & 1 else empty for bit in range(64)]
    return ["".join(cells[8 * row : 8 * row + n]) for row in range(n)]


def draw(state: State, n: int) -> str:
    """The board with letters above and numbers, counted from the top, at the left."""
    rows = [f"{number} {' '.join(row)}" for number, row in enumerate(signs(state, n, "."), 1)]
    return "\n".join(["  " + " ".join("abcdefgh"[:n]), *rows])


@cache
def _action_names(n: int) -> tuple[str, ...]:
    return (*(f"{'abcdefgh'[square % n]}{square // n + 1}" for square in range(n * n)), "pass")


def move_texts(mask: Mask, n: int) -> dict[str, tuple[int, ...]]:
    names = _action_names(n)
    return {names[action]: (int(action),) for action in np.flatnonzero(mask)}


def parse(text: str, n: int, name: str) -> State:
    """Squares row by row as X, O and -, a space, the side to move. What the rules never reach is accepted too."""
    match = re.fullmatch(rf"([XO-]{{{n * n}}})\s+([XO])", text.strip().upper())
    if not match:
        raise WrongRequest(
            f"{name} position '{quoted(text)}' cannot be read:"
            f" write the {n * n} squares row by row as X, O or -, a space, and the side to move, X or O."
        )
    state = np.zeros(3, np.int64)
    state[0] = "XO".index(match[2])
    for square, sign in enumerate(match[1]):
        if sign != "-":
            state[1 + "XO".index(sign)] |= np.int64(1) << (8 * (square // n) + square % n)
    return state


def board(n: int) -> Board:
    """Squares a1 …, a dot where a disc may be put down, and the count of both."""
    players = ("Black", "White")

    def counts(state: State) -> tuple[int, int]:
        return (int(state[1]) & LOW).bit_count(), (int(state[2]) & LOW).bit_count()

    def ending(state: State, winner: int | None, _: bool) -> str:
        if winner is None:
            return "Drawn: both have as many discs."
        own, other = counts(state)[winner], counts(state)[1 - winner]
        return f"{players[winner]} wins by {own} discs to {other}."

    return Board(
        cells=lambda state: [list(row) for row in signs(state, n, EMPTY)],
        pieces={"X": Piece(0, "●", "X"), "O": Piece(1, "○", "O")},
        players=players,
        colors=Colors(
            ground="#3a9055", alternate="#328049", last="#8a7512", players=("#101010", "#ffffff"), label="#0b2612"
        ),
        move_cells=lambda _, actions: (divmod(actions[0], n),) if actions[0] < n * n else (),
        move_help="a square such as c4, or pass",
        row_labels=[str(row + 1) for row in range(n)],
        column_labels="abcdefgh"[:n],
        marks_moves=True,
        counts=counts,
        ending=ending,
    )


def symmetries(n: int) -> tuple[Symmetry, ...]:
    """The half turn and the reflections in both diagonals; a pass stays a pass.

    The other four images of the square exchange the colors of the start position, so they map no game to a game.
    """
    board = np.arange(n * n).reshape(n, n)
    images = [image.ravel() for image in (np.rot90(board, 2), board.T, np.rot90(board.T, 2))]
    return tuple(Symmetry(np.append(image, n * n), image.copy()) for image in images)


def make_game(name: str, n: int) -> Game:
    """Othello on n by n squares; n even, at most 8."""
    rules = Rules(np.int64)

    @rules.start
    def start(state):
        begin(state, n)

    @rules.apply
    def apply(state, action):
        play(state, action, n)

    @rules.legal
    def legal(state, mask):
        write_legal(state, mask, n)

    @rules.outcome
    def outcome(state):
        return result(state, n)

    @rules.encode
    def encode(state, planes):
        write_planes(state, planes, n)

    def moves(state: State) -> dict[str, tuple[int, ...]]:
        mask = np.zeros(n * n + 1, np.bool_)
        legal(state, mask)
        return move_texts(mask, n)

    return Game(
        name=name,
        version=1,
        dtype=rules.dtype,
        state_size=3,
        num_actions=n * n + 1,
        planes_shape=(2, n, n),
        max_plies=2 * n * n,  # fewer than n * n discs are put down, and no two passes follow one another
        start=start,
        apply=apply,
        legal=legal,
        outcome=outcome,
        encode=encode,
        render=lambda state: draw(state, n),
        moves=moves,
        parse_position=lambda text: parse(text, n, name),
        position_text=lambda state: "".join(signs(state, n, EMPTY)) + " " + "XO"[state[0]],
        symmetries=symmetries(n),
        board=board(n),
    )
