"""Hex on n by n cells, n from 2 to 11, with the swap rule: its rules, and `make_game`.

Red (player 0) begins and connects the upper edge with the lower one, Blue the left edge with the right one. Cell
(row, column) touches (row, column ± 1), (row ± 1, column), (row - 1, column + 1) and (row + 1, column - 1).

Each player sees the board in a frame of their own, in which they connect the first row with the last one: Red's is the
board as drawn, Blue's has rows and columns exchanged. Stones, actions and planes are in the frame of their player, so
that the network learns one direction alone. Action n * row + column of the frame places a stone there.

Swap: Blue may answer Red's first stone with action n * n instead of a stone. The stone is taken from its cell and a
blue one put on that cell's image in the long diagonal (b1 becomes a2), which is the same cell in the other frame; Red
is to move. Both players keep their edges. (Where the players change colors instead, the game is the same, with other
names.)

state: [player to move, 0 at the start, 1 where Blue may swap, 2 later, whether the last stone has connected, then four
sets of cells of three words each: stones of Red, of Blue, those of Red that are connected with the first row of the
frame, those of Blue]. A row of a set takes 12 bits, the last one empty, and a word holds 5 rows.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from az.engine.board import EMPTY, Board, Cell, Colors, Grid, Piece
from az.engine.errors import WrongRequest
from az.engine.game import LOSS, ONGOING, Game, Mask, Planes, State, Symmetry
from az.engine.games._rows import read_moves, read_rows, rows_text
from az.engine.jit import Rules, helper
from az.engine.printable import quoted

LETTERS = "abcdefghijk"
PLAYERS = ("Red", "Blue")
PHASE, CONNECTED, STONES, REACHED = 1, 2, 3, 9
WORDS, ROWS, WIDTH = 3, 5, 12  # words of a set, rows of a word, bits of a row
ROW, LAST = (1 << WIDTH) - 1, WIDTH * (ROWS - 1)
UPPER = (1 << LAST) - 1  # all rows of a word but the last
STATE_SIZE = 15
NEIGHBOURS = ((0, -1), (0, 1), (-1, 0), (1, 0), (-1, 1), (1, -1))


@helper
def has(state: State, base: int, row: int, column: int) -> int:
    return (state[base + row // ROWS] >> (WIDTH * (row % ROWS) + column)) & 1


@helper
def grow(state: State, stones: int, reached: int) -> None:
    """Add every stone that touches the set `reached`, until none is left."""
    grew = True
    while grew:
        grew = False
        for word in range(WORDS):
            here = state[reached + word]
            down, up = (here & UPPER) << WIDTH, here >> WIDTH  # moved by a row
            if word > 0:
                down |= state[reached + word - 1] >> LAST
            if word < WORDS - 1:
                up |= (state[reached + word + 1] & ROW) << LAST
            near = here | here << 1 | here >> 1 | up | up << 1 | down | down >> 1
            new = near & state[stones + word]
            if new != here:
                state[reached + word] = new
                grew = True


@helper
def place(state: State, player: int, row: int, column: int, n: int) -> None:
    """Put a stone of the player on a cell of their frame."""
    stones, reached = STONES + WORDS * player, REACHED + WORDS * player
    bit = np.int64(1) << (WIDTH * (row % ROWS) + column)
    state[stones + row // ROWS] |= bit
    if row == 0:
        state[reached] |= bit
    grow(state, stones, reached)
    last = (state[reached + (n - 1) // ROWS] >> (WIDTH * ((n - 1) % ROWS))) & ROW
    state[CONNECTED] = 1 if last != 0 else 0


@helper
def play(state: State, action: int, n: int) -> None:
    player = state[0]
    if action == n * n:
        for word in range(WORDS):
            for base in (STONES, REACHED):
                state[base + WORDS + word] = state[base + word]
                state[base + word] = 0
    else:
        place(state, player, action // n, action % n, n)
    state[PHASE] = 1 if state[PHASE] == 0 else 2
    state[0] = 1 - player


@helper
def write_legal(state: State, mask: Mask, n: int) -> None:
    own, other = STONES + WORDS * state[0], STONES + WORDS * (1 - state[0])
    for row in range(n):
        for column in range(n):
            free = has(state, own, row, column) == 0 and has(state, other, column, row) == 0
            mask[n * row + column] = free and state[CONNECTED] == 0
    mask[n * n] = state[PHASE] == 1


@helper
def write_planes(state: State, planes: Planes, n: int) -> None:
    own, other = STONES + WORDS * state[0], STONES + WORDS * (1 - state[0])
    for row in range(n):
        for column in range(n):
            planes[0, row, column] = has(state, own, row, column)
            planes[1, row, column] = has(state, other, column, row)
            planes[2, row, column] = 1 if state[PHASE] == 1 else 0


def signs(state: State, n: int) -> list[str]:
    """One string a row, as drawn: X for Red, O for Blue."""

    def sign(row: int, column: int) -> str:
        red, blue = has(state, STONES, row, column), has(state, STONES + WORDS, column, row)
        return "X" if red else "O" if blue else EMPTY

    return ["".join(sign(row, column) for column in range(n)) for row in range(n)]


def cell_of(state: State, action: int, n: int) -> Cell:
    """The cell, as drawn, on which the player to move places a stone with this action."""
    row, column = divmod(action, n)
    return (row, column) if state[0] == 0 else (column, row)


def draw(state: State, n: int) -> str:
    """The rhombus: letters above, numbers from the top at the left."""
    rows = [f"{' ' * row}{row + 1:>2} {' '.join(line.replace(EMPTY, '.'))}" for row, line in enumerate(signs(state, n))]
    return "\n".join(["  " + " ".join(LETTERS[:n]), *rows])


def parse(text: str, n: int, game: Game) -> State:
    """What `rows_text` writes, or the moves from the start, such as `c2 swap f6`. Raises WrongRequest."""
    if "/" not in text:
        return read_moves(text, game)
    rows, mover = read_rows(text, n, game.name)
    state = game.new_state()
    for row, line in enumerate(rows):
        for column, sign in enumerate(line):
            if sign == "X":
                place(state, 0, row, column, n)
            elif sign == "O":
                place(state, 1, column, row, n)
    state[0] = mover
    red, blue = ("".join(rows).count(sign) for sign in "XO")
    if mover == 1 and red == blue == 0:
        raise WrongRequest(f"{game.name} position '{quoted(text)}' is impossible: Red, X, has the first move.")
    state[PHASE] = 0 if red == blue == 0 else 1 if (red, blue, mover) == (1, 0, 1) else 2
    joined = [_has_joined(state, player, n) for player in (0, 1)]
    if joined[mover]:
        raise WrongRequest(
            f"{game.name} position '{quoted(text)}' is impossible: the side to move has connected its edges already."
        )
    state[CONNECTED] = int(joined[1 - mover])
    return state


def _has_joined(state: State, player: int, n: int) -> bool:
    return any(has(state, REACHED + WORDS * player, n - 1, column) for column in range(n))


def chain(grid: Grid) -> set[Cell]:
    """The cells of a shortest chain that connects two edges of one color, if there is one."""
    n = len(grid)
    for sign, along in (("X", 0), ("O", 1)):
        starts = [cell for k in range(n) if grid[(cell := ((0, k), (k, 0))[along])[0]][cell[1]] == sign]
        came: dict[Cell, Cell | None] = dict.fromkeys(starts)
        queue = deque(starts)
        while queue:
            cell = queue.popleft()
            if cell[along] == n - 1:
                return _way_back(came, cell)
            for down, right in NEIGHBOURS:
                near = cell[0] + down, cell[1] + right
                inside = 0 <= near[0] < n and 0 <= near[1] < n
                if inside and near not in came and grid[near[0]][near[1]] == sign:
                    came[near] = cell
                    queue.append(near)
    return set()


def _way_back(came: dict[Cell, Cell | None], end: Cell) -> set[Cell]:
    found, cell = set[Cell](), end
    while cell is not None:
        found.add(cell)
        cell = came[cell]
    return found


def board(n: int) -> Board:
    """A rhombus with the edges in the colors of those who connect them."""

    def ending(_: State, winner: int | None, __: bool) -> str:
        name, edges = PLAYERS[winner or 0], ("the upper and the lower", "the left and the right")[winner or 0]
        return f"{name} has connected {edges} edge and wins."

    def cells(state: State) -> Grid:
        return [list(line) for line in signs(state, n)]

    def move_cells(state: State, actions: tuple[int, ...]) -> tuple[Cell, ...]:
        return (cell_of(state, actions[0], n),) if actions[0] < n * n else ()

    return Board(
        cells=cells,
        pieces={"X": Piece(0, "●", "X", "stone"), "O": Piece(1, "○", "O", "stone")},
        players=PLAYERS,
        colors=Colors(
            ground="#20262f", last="#222e70", players=("#ff7a6b", "#7fc8ff"), label="#8a94a6", lines="#5b6675"
        ),
        move_cells=move_cells,
        move_help="a cell such as f6: a letter for its column and a number for its row; swap answers the first stone",
        row_labels=[str(row + 1) for row in range(n)],
        column_labels=LETTERS[:n],
        slanted=True,
        edges=(0, 1),
        signs_beside_names=True,
        winning=chain,
        ending=ending,
    )


def make_game(name: str, n: int) -> Game:
    """Hex on n by n cells; n from 2 to 11."""
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
        return LOSS if state[CONNECTED] == 1 else ONGOING

    @rules.encode
    def encode(state: State, planes: Planes) -> None:
        write_planes(state, planes, n)

    def moves(state: State) -> dict[str, tuple[int, ...]]:
        mask = np.zeros(n * n + 1, np.bool_)
        legal(state, mask)
        actions = [int(action) for action in np.flatnonzero(mask)]
        return {_text(cell_of(state, action, n)) if action < n * n else "swap": (action,) for action in actions}

    half_turn = np.arange(n * n)[::-1]  # the reflections of the rhombus exchange the players' edges
    game = Game(
        name=name,
        version=1,
        dtype=rules.dtype,
        state_size=STATE_SIZE,
        num_actions=n * n + 1,
        planes_shape=(3, n, n),
        max_plies=n * n + 1,
        start=start,
        apply=apply,
        legal=legal,
        outcome=outcome,
        encode=encode,
        render=lambda state: draw(state, n),
        moves=moves,
        parse_position=lambda text: parse(text, n, game),
        position_text=lambda state: rows_text(signs(state, n), int(state[0])),
        symmetries=(Symmetry(np.append(half_turn, n * n), half_turn.copy()),),
        board=board(n),
    )
    return game


def _text(cell: Cell) -> str:
    return f"{LETTERS[cell[1]]}{cell[0] + 1}"
