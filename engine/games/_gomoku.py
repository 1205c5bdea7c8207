"""Free-style Gomoku on n by n squares, n at most 15: its rules, and `make_game`. Five or more in a row win.

state: [player to move, stones on the board, whether the last stone made five, a word a row for player 0, one a row for
player 1]. Bit `column` of a row's word is a stone; rows are counted from the top, as drawn. A move is named as the
Gomoku and Renju federations name it: a letter from the left (i is not left out) and a number from below.
"""

from __future__ import annotations

import numpy as np

from az.engine.board import EMPTY, Board, Colors, Grid, Piece, line_of
from az.engine.errors import WrongRequest
from az.engine.game import DRAW, LOSS, ONGOING, Game, Mask, Planes, State, Symmetry
from az.engine.games._rows import read_moves, read_rows, rows_text
from az.engine.jit import Rules, helper
from az.engine.printable import quoted

LETTERS = "abcdefghijklmno"
HEAD = 3  # words of a state before its rows
PLAYERS = ("Black", "White")


@helper
def stone(state: State, player: int, row: int, column: int, n: int) -> int:
    """1 where the player has a stone there; 0 beyond the edge too."""
    if row < 0 or row >= n or column < 0 or column >= n:
        return 0
    return (state[HEAD + player * n + row] >> column) & 1


@helper
def makes_five(state: State, player: int, row: int, column: int, n: int) -> bool:
    """Five or more of the player's stones stand in a line through this one."""
    for direction in range(4):  # along the row, the column and the two diagonals
        down = 0 if direction == 0 else 1
        right = 1 if direction == 0 else direction - 2  # 1, then -1, 0, 1
        length = 1
        for way in (-1, 1):
            step = way
            while stone(state, player, row + step * down, column + step * right, n) == 1:
                length += 1
                step += way
        if length >= 5:
            return True
    return False


@helper
def play(state: State, action: int, n: int) -> None:
    player, row, column = state[0], action // n, action % n
    state[HEAD + player * n + row] |= 1 << column
    state[1] += 1
    state[2] = 1 if makes_five(state, player, row, column, n) else 0
    state[0] = 1 - player


@helper
def write_legal(state: State, mask: Mask, n: int) -> None:
    for row in range(n):
        taken = state[HEAD + row] | state[HEAD + n + row]
        for column in range(n):
            mask[n * row + column] = state[2] == 0 and (taken >> column) & 1 == 0


@helper
def result(state: State, n: int) -> int:
    if state[2] == 1:
        return LOSS
    return DRAW if state[1] == n * n else ONGOING


@helper
def write_planes(state: State, planes: Planes, n: int) -> None:
    player = state[0]
    for row in range(n):
        own, other = state[HEAD + player * n + row], state[HEAD + (1 - player) * n + row]
        for column in range(n):
            planes[0, row, column] = (own >> column) & 1
            planes[1, row, column] = (other >> column) & 1


def signs(state: State, n: int) -> list[str]:
    """One string a row, from the top."""
    rows = [(int(state[HEAD + row]), int(state[HEAD + n + row])) for row in range(n)]
    return [
        "".join("X" if black >> column & 1 else "O" if white >> column & 1 else EMPTY for column in range(n))
        for black, white in rows
    ]


def name_of(square: int, n: int) -> str:
    """h8 for the middle of 15 by 15."""
    return f"{LETTERS[square % n]}{n - square // n}"


def draw(state: State, n: int) -> str:
    """The board with numbers, counted from below, at the left and letters below."""
    rows = [f"{n - row:>2} {' '.join(line.replace(EMPTY, '.'))}" for row, line in enumerate(signs(state, n))]
    return "\n".join([*rows, "   " + " ".join(LETTERS[:n])])


def parse(text: str, n: int, game: Game) -> State:
    """What `rows_text` writes, or the squares played from the start, such as `h8 i9`. Raises WrongRequest."""
    if "/" not in text:
        return read_moves(text, game)
    rows, mover = read_rows(text, n, game.name)
    state = np.zeros(game.state_size, np.int64)
    state[0] = mover
    for row, line in enumerate(rows):
        for column, sign in enumerate(line):
            if sign != EMPTY:
                state[HEAD + "XO".index(sign) * n + row] |= 1 << column
                state[1] += 1
    fives = [_has_five(state, player, n) for player in (0, 1)]
    if fives[mover]:
        raise WrongRequest(
            f"{game.name} position '{quoted(text)}' is impossible: the side to move has five in a row already."
        )
    state[2] = int(fives[1 - mover])
    return state


def _has_five(state: State, player: int, n: int) -> bool:
    squares = [divmod(square, n) for square in range(n * n)]
    return any(stone(state, player, *at, n) == 1 and makes_five(state, player, *at, n) for at in squares)


def board(n: int) -> Board:
    """Stones on the squares of a grid, as in every terminal."""

    def ending(_: State, winner: int | None, __: bool) -> str:
        return "Drawn: the board is full." if winner is None else f"{PLAYERS[winner]} has five in a row and wins."

    def cells(state: State) -> Grid:
        return [list(line) for line in signs(state, n)]

    return Board(
        cells=cells,
        pieces={"X": Piece(0, "●", "X"), "O": Piece(1, "○", "O")},
        players=PLAYERS,
        colors=Colors(
            ground="#a9793f", last="#8a7512", players=("#101010", "#ffffff"), label="#2f1c05", lines="#3d2708"
        ),
        move_cells=lambda _, actions: (divmod(actions[0], n),),
        move_help="a square such as e5: a letter from the left and a number from below",
        row_labels=[str(n - row) for row in range(n)],
        column_labels=LETTERS[:n],
        columns_below=True,
        signs_beside_names=True,
        winning=line_of(5),
        ending=ending,
    )


def symmetries(n: int) -> tuple[Symmetry, ...]:
    """The seven other images of the square."""
    grid = np.arange(n * n).reshape(n, n)
    images = [np.rot90(side, turns).ravel() for side in (grid, grid.T) for turns in range(4)][1:]
    return tuple(Symmetry(image.copy(), image.copy()) for image in images)


def make_game(name: str, n: int) -> Game:
    """Gomoku on n by n squares; n from 5 to 15."""
    rules = Rules(np.int64)

    @rules.start
    def start(state: State) -> None:
        state[:] = 0

    @rules.apply
    def apply(state: State, action: int) -> None:
        play(state, action, n)

    @rules.legal
    def legal(state: State, mask: Mask) -> None:
        write_legal(state, mask, n)

    @rules.outcome
    def outcome(state: State) -> int:
        return result(state, n)

    @rules.encode
    def encode(state: State, planes: Planes) -> None:
        write_planes(state, planes, n)

    def moves(state: State) -> dict[str, tuple[int, ...]]:
        mask = np.zeros(n * n, np.bool_)
        legal(state, mask)
        return {name_of(int(square), n): (int(square),) for square in np.flatnonzero(mask)}

    game = Game(
        name=name,
        version=1,
        dtype=rules.dtype,
        state_size=HEAD + 2 * n,
        num_actions=n * n,
        planes_shape=(2, n, n),
        max_plies=n * n,
        start=start,
        apply=apply,
        legal=legal,
        outcome=outcome,
        encode=encode,
        render=lambda state: draw(state, n),
        moves=moves,
        parse_position=lambda text: parse(text, n, game),
        position_text=lambda state: rows_text(signs(state, n), int(state[0])),
        symmetries=symmetries(n),
        board=board(n),
    )
    return game
