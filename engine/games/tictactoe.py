"""Tic-tac-toe. Squares 1–9 row by row; X (player 0) begins. Copy this file to make a game of your own.

state: [player to move, nine squares]; a square is 0 empty, 1 + player where a stone stands.
"""

from __future__ import annotations

import numpy as np

from az.engine.board import Board, Grid, Piece, line_of
from az.engine.errors import WrongRequest
from az.engine.game import DRAW, LOSS, ONGOING, Game, State, Symmetry
from az.engine.jit import Rules, helper
from az.engine.printable import quoted

rules = Rules(np.int64)

LINES = np.array([[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 3, 6], [1, 4, 7], [2, 5, 8], [0, 4, 8], [2, 4, 6]])


@rules.start
def start(state):
    state[:] = 0


@helper
def has_line(state):
    """The player who has just moved has three in a row."""
    stone = 2 - state[0]
    for line in range(8):
        a, b, c = LINES[line, 0], LINES[line, 1], LINES[line, 2]
        if state[1 + a] == stone and state[1 + b] == stone and state[1 + c] == stone:
            return True
    return False


@rules.apply
def apply(state, action):
    state[1 + action] = 1 + state[0]
    state[0] = 1 - state[0]


@rules.legal
def legal(state, mask):
    over = has_line(state)
    for square in range(9):
        mask[square] = not over and state[1 + square] == 0


@rules.outcome
def outcome(state):
    if has_line(state):
        return LOSS
    for square in range(9):
        if state[1 + square] == 0:
            return ONGOING
    return DRAW


@rules.encode
def encode(state, planes):
    own, other = 1 + state[0], 2 - state[0]
    for square in range(9):
        stone = state[1 + square]
        planes[0, square // 3, square % 3] = 1.0 if stone == own else 0.0
        planes[1, square // 3, square % 3] = 1.0 if stone == other else 0.0


def render(state: State) -> str:
    signs = [".XO"[stone] if stone else str(i + 1) for i, stone in enumerate(state[1:])]
    return "\n".join(" ".join(signs[row : row + 3]) for row in (0, 3, 6))


def moves(state: State) -> dict[str, tuple[int, ...]]:
    mask = np.zeros(9, np.bool_)
    legal(state, mask)
    return {str(square + 1): (int(square),) for square in np.flatnonzero(mask)}


def parse_position(text: str) -> State:
    """The squares (1–9) played so far, as one string; "" is the start."""
    state = np.zeros(10, np.int64)
    for number, sign in enumerate(text.strip()):
        legal_now = moves(state)
        if sign not in legal_now:
            fault = "is not legal" if legal_now else "cannot be played, because the game is over"
            raise WrongRequest(
                f"tictactoe position '{quoted(text)}': move {number + 1} ('{quoted(sign)}') {fault};"
                " write the squares 1–9 in the order in which they were played."
            )
        apply(state, legal_now[sign][0])
    return state


def position_text(state: State) -> str:
    """One order of moves that leads to this position; a winning stone comes last."""
    stones = [[str(i) for i, stone in enumerate(state[1:], 1) if stone == 1 + player] for player in (0, 1)]
    last = stones[1 - state[0]]  # of the player who has just moved
    for _ in last:
        before = state.copy()
        before[int(last[-1])] = 0
        if not has_line(before):
            break
        last.append(last.pop(0))
    return "".join(stones[ply % 2][ply // 2] for ply in range(len(stones[0]) + len(stones[1])))


def _cells(state: State) -> Grid:
    signs = ["-XO"[stone] for stone in state[1:]]
    return [signs[row : row + 3] for row in (0, 3, 6)]


def _ending(_: State, winner: int | None, __: bool) -> str:
    return "Drawn: the board is full." if winner is None else f"{'XO'[winner]} has three in a row and wins."


BOARD = Board(
    cells=_cells,
    pieces={"X": Piece(0, "X", "X"), "O": Piece(1, "O", "O")},
    players=("X", "O"),
    move_cells=lambda _, actions: (divmod(actions[0], 3),),
    move_help="the number of a square, 1 to 9",
    labels={divmod(square, 3): str(square + 1) for square in range(9)},
    lines=True,
    winning=line_of(3),
    ending=_ending,
)


def _symmetries() -> tuple[Symmetry, ...]:
    board = np.arange(9).reshape(3, 3)
    images = [np.rot90(b, turns) for b in (board, board.T) for turns in range(4)]
    return tuple(Symmetry(image.ravel().copy(), image.ravel().copy()) for image in images[1:])


GAME = Game(
    name="tictactoe",
    version=1,
    dtype=rules.dtype,
    state_size=10,
    num_actions=9,
    planes_shape=(2, 3, 3),
    max_plies=9,
    start=start,
    apply=apply,
    legal=legal,
    outcome=outcome,
    encode=encode,
    render=render,
    moves=moves,
    parse_position=parse_position,
    position_text=position_text,
    symmetries=_symmetries(),
    board=BOARD,
)
