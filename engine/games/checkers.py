"""English checkers (draughts) on the 32 dark squares. Black (player 0, squares 1–12) moves first.

Square s (0–31) is square s + 1 of the standard numbering: row s // 4 from the top, where Black's men begin, and column
s % 4. The side to move sees its men move up: White sees the board as numbered, Black turned by 180° (31 - s).

One action is one hop: 32 * plane + square, plane = 4 * kind (0 step, 1 jump) + direction (north-west, north-east,
south-west, south-east), all as the side to move sees them. While a multiple jump lasts the player stays the same and
only the jumping piece may move, by jumps. Capture is forced; a man that reaches the last row is crowned and its move
ends; no legal move loses, before any draw. Draws: the third occurrence of a position, and 80 plies without a man's move
or a capture.

state: [player, squares of Black, squares of White, kings, jumping square or -1, plies since a man's move or a capture,
occurrences of this position, 14 words: the moves since then, ten bits each]. In such a stretch only kings step, so an
earlier position is the present one exactly where the moves since then leave each side's squares as they were: walking
back over the moves finds repetitions without hashes, and the state stays short.

max_plies: a game has at most 23 captures (the last piece cannot be taken by its own side) and 24 * 7 men's moves (a man
starts at least a row from where it can no longer go and goes one row or two each time); each of these ends a stretch of
at most 79 plies of kings, and the last stretch has at most 80.
"""

from __future__ import annotations

import re

import numpy as np

from az.engine.board import EMPTY, NO_SQUARE, Board, Cell, Colors, Grid, Piece
from az.engine.errors import WrongRequest
from az.engine.game import DRAW, LOSS, ONGOING, Game, State
from az.engine.jit import Rules, helper
from az.engine.printable import quoted

rules = Rules(np.int64)

BLACK, WHITE, KINGS, JUMPER, QUIET, TIMES, PATH = 1, 2, 3, 4, 5, 6, 7
QUIET_LIMIT, TIMES_LIMIT = 80, 3
STATE_SIZE = PATH + 14  # six moves a word

ALL = 0xFFFFFFFF
EVEN, ODD = 0x0F0F0F0F, 0xF0F0F0F0  # rows 0, 2, 4, 6 are shifted half a square to the east of rows 1, 3, 5, 7
EVEN_NOT_EAST, ODD_NOT_WEST = 0x07070707, 0xE0E0E0E0
BLACK_START, WHITE_START = 0x00000FFF, 0xFFF00000

STEP = np.array([-4, -3, 4, 5])  # of an even row; one less from an odd row
JUMP = np.array([-9, -7, 7, 9])
DE_BRUIJN = 0x077CB531  # times a power of two, its top five bits number that power
BIT_INDEX = np.zeros(32, np.int64)
for _bit in range(32):
    BIT_INDEX[(DE_BRUIJN << _bit & ALL) >> 27] = _bit

OWN_MAN, OWN_KING, JUMPING_MAN, JUMPING_KING = 0.5, 1.0, 0.25, 0.75  # and the other side's men and kings negative


@rules.start
def start(state):
    for word in range(len(state)):
        state[word] = 0
    state[BLACK], state[WHITE] = BLACK_START, WHITE_START
    state[JUMPER] = -1
    state[TIMES] = 1


@helper
def neighbours(squares, direction):
    """All squares from which one step in `direction` arrives in `squares`."""
    if direction == 0:
        return ((squares << 4) & EVEN) | ((squares << 5) & ODD_NOT_WEST)
    if direction == 1:
        return ((squares << 3) & EVEN_NOT_EAST & ALL) | ((squares << 4) & ODD)
    if direction == 2:
        return ((squares >> 4) & EVEN) | ((squares >> 3) & ODD_NOT_WEST)
    return ((squares >> 5) & EVEN_NOT_EAST) | ((squares >> 4) & ODD)


@helper
def movers(state, direction):
    """The pieces of the side to move that may go in `direction` as far as their kind is concerned."""
    own = state[1 + state[0]]
    forward = direction >= 2 if state[0] == 0 else direction < 2
    return own if forward else own & state[KINGS]


@helper
def jumpers(state, pieces, direction):
    """Those of `pieces` that can jump in `direction`."""
    empty = ~(state[BLACK] | state[WHITE]) & ALL
    return pieces & neighbours(state[2 - state[0]] & neighbours(empty, direction), direction)


@helper
def can_jump(state, pieces):
    for direction in range(4):  # noqa: SIM110 (numba compiles no generators)
        if jumpers(state, pieces & movers(state, direction), direction):
            return True
    return False


@helper
def can_step(state):
    empty = ~(state[BLACK] | state[WHITE]) & ALL
    for direction in range(4):  # noqa: SIM110
        if movers(state, direction) & neighbours(empty, direction):
            return True
    return False


@helper
def forget_path(state):
    """A man moved or a piece was taken. Equal states are equal arrays: nothing stale stays."""
    for word in range(PATH, PATH + (state[QUIET] + 5) // 6):
        state[word] = 0
    state[QUIET], state[TIMES] = 0, 1


@helper
def extend_path(state, origin, target):
    """A king stepped. Count how often the new position has been there."""
    last = state[QUIET]
    state[PATH + last // 6] |= (origin | (target << 5)) << (10 * (last % 6))
    state[QUIET] = last + 1
    times, mine, theirs = 1, 0, 0  # squares that differ between the present position and the one `ply` plies in
    for ply in range(last, -1, -1):
        hop = state[PATH + ply // 6] >> (10 * (ply % 6))
        changed = (1 << (hop & 31)) ^ (1 << ((hop >> 5) & 31))
        mine, theirs = theirs, mine ^ changed  # the sides alternate
        if (last - ply) & 1 and mine | theirs == 0:
            times += 1
    state[TIMES] = times


@rules.apply
def apply(state, action):
    player = state[0]
    turned = action ^ 127 if player == 0 else action  # turning by 180° complements both direction and square
    direction, origin = (turned >> 5) & 3, turned & 31
    near = origin + STEP[direction] - ((origin >> 2) & 1)
    jump = turned >= 128
    target = origin + JUMP[direction] if jump else near
    here, there = 1 << origin, 1 << target
    state[1 + player] ^= here | there
    king = state[KINGS] & here != 0
    if king:
        state[KINGS] ^= here | there
    crowned = not king and (target >= 28 if player == 0 else target < 4)
    if crowned:
        state[KINGS] |= there
    state[JUMPER] = -1
    if king and not jump:
        extend_path(state, origin, target)
    else:
        forget_path(state)
    if not jump:
        state[0] = 1 - player
        return
    state[2 - player] &= ~(1 << near)
    state[KINGS] &= ~(1 << near)
    if crowned or not can_jump(state, there):
        state[0] = 1 - player
    else:
        state[JUMPER] = target


@helper
def drawn(state):
    return state[QUIET] >= QUIET_LIMIT or state[TIMES] >= TIMES_LIMIT


@helper
def write_actions(mask, pieces, plane, flip):
    while pieces:
        lowest = pieces & -pieces
        square = BIT_INDEX[((lowest * DE_BRUIJN) & ALL) >> 27]
        mask[(32 * plane + square) ^ flip] = True
        pieces ^= lowest


@rules.legal
def legal(state, mask):
    for action in range(256):
        mask[action] = False
    if drawn(state):
        return
    flip = 127 if state[0] == 0 else 0
    candidates = 1 << state[JUMPER] if state[JUMPER] >= 0 else ALL
    forced = False
    for direction in range(4):
        pieces = jumpers(state, candidates & movers(state, direction), direction)
        if pieces:
            forced = True
            write_actions(mask, pieces, 4 + direction, flip)
    if forced:
        return
    empty = ~(state[BLACK] | state[WHITE]) & ALL
    for direction in range(4):
        write_actions(mask, movers(state, direction) & neighbours(empty, direction), direction, flip)


@rules.outcome
def outcome(state):
    if not can_step(state) and not can_jump(state, ALL):
        return LOSS
    return DRAW if drawn(state) else ONGOING


@rules.encode
def encode(state, planes):
    player = state[0]
    flip = 31 if player == 0 else 0
    own, other, kings = state[1 + player], state[2 - player], state[KINGS]
    for square in range(32):
        seen_as = square ^ flip
        king = (kings >> square) & 1
        value = 0.0
        if (own >> square) & 1:
            value = OWN_KING if king else OWN_MAN
            if square == state[JUMPER]:
                value = JUMPING_KING if king else JUMPING_MAN
        elif (other >> square) & 1:
            value = -OWN_KING if king else -OWN_MAN
        column, row = seen_as & 3, seen_as >> 2
        planes[0, column, row] = value
        planes[1, column, row] = state[QUIET] / QUIET_LIMIT
        planes[2, column, row] = state[TIMES] / TIMES_LIMIT


def _sign(state: State, square: int) -> str:
    here = 1 << square
    sign = "b" if int(state[BLACK]) & here else "w" if int(state[WHITE]) & here else "."
    return sign.upper() if int(state[KINGS]) & here else sign


def render(state: State) -> str:
    """Men b and w, kings B and W; each row ends with the standard numbers of its squares."""
    rows = []
    for row in range(8):
        signs = [_sign(state, square) for square in range(4 * row, 4 * row + 4)]
        line = "".join(f"  {sign} " if row % 2 == 0 else f"{sign}   " for sign in signs)
        rows.append(f"{line.rstrip():<15}  {4 * row + 1:2}–{4 * row + 4}")
    return "\n".join(rows)


def _hop(state: State, action: int) -> tuple[int, int]:
    """(origin, target) of an action, in standard numbers."""
    turned = action ^ 127 if state[0] == 0 else action
    direction, origin = turned >> 5 & 3, turned & 31
    target = origin + (JUMP[direction] if turned >= 128 else STEP[direction] - (origin >> 2 & 1))
    return origin + 1, int(target) + 1


def moves(state: State) -> dict[str, tuple[int, ...]]:
    """All whole moves; in the middle of a multiple jump, what is left of it."""
    found: dict[str, tuple[int, ...]] = {}
    mask = np.zeros(256, np.bool_)

    def extend(position: State, path: tuple[int, ...], actions: tuple[int, ...]) -> None:
        legal(position, mask)
        for action in map(int, np.flatnonzero(mask)):
            origin, target = _hop(position, action)
            squares = (*(path or (origin,)), target)
            after = position.copy()
            apply(after, action)
            if after[JUMPER] >= 0:
                extend(after, squares, (*actions, action))
            else:
                sign = "x" if action >= 128 else "-"
                found[sign.join(map(str, squares))] = (*actions, action)

    extend(state, (), ())
    return found


def normalize_move(state: State, text: str) -> str:
    """The full text of a move: '-' or 'x' will do, and first and last square where only one move has them."""
    squares = re.split(r"[-x:]", "".join(text.lower().split()))
    whole = {full: re.split("[-x]", full) for full in moves(state)}
    same = [full for full, path in whole.items() if path == squares]
    ends = [full for full, path in whole.items() if [path[0], path[-1]] == squares]
    if not same and len(ends) > 1:
        raise WrongRequest(f"'{quoted(text, 40)}' fits several moves: write one of {' '.join(ends)}.")
    return (same or ends or [text.strip()])[0]


def _fault(text: str, fault: str) -> WrongRequest:
    return WrongRequest(
        f"checkers position '{quoted(text, 200)}': {fault}; write it as B:W18,24,K30:B1,K5, the side to move first."
    )


def _squares(text: str, item: str) -> range:
    """The squares (1–32) that one entry of a PDN FEN means: `18`, `K30`, `21-32` or `K5-7`."""
    match = re.fullmatch("K?([0-9]{1,2})(?:-([0-9]{1,2}))?", item)
    first = int(match[1]) if match else 0
    last = int(match[2] or first) if match else 0
    if not 1 <= first <= last <= 32:
        what = "a range of squares from 1 to 32, the lower first" if match and match[2] else "a square from 1 to 32"
        raise _fault(text, f"'{quoted(item, 20)}' is not {what}")
    return range(first, last + 1)


def parse_position(text: str) -> State:
    """PDN FEN, ranges of squares included; the counter starts at 0 and the position has occurred once."""
    parts = "".join(text.split()).upper().removesuffix(".").split(":")
    if len(parts) != 3 or parts[0] not in ("B", "W") or sorted(part[:1] for part in parts[1:]) != ["B", "W"]:
        raise _fault(text, "it needs the side to move, White's pieces and Black's pieces")
    state = np.zeros(STATE_SIZE, np.int64)
    pieces, kings = [0, 0], 0
    for part in parts[1:]:
        player = "BW".index(part[0])
        for item in part[1:].split(",") if part[1:] else []:
            for number in _squares(text, item):
                here = 1 << (number - 1)
                if (pieces[0] | pieces[1]) & here:
                    raise _fault(text, f"two pieces stand on square {number}")
                if not item.startswith("K") and (number - 1) // 4 == (7, 0)[player]:
                    raise _fault(text, f"the man on square {number} stands on the last row: write K{number}")
                pieces[player] |= here
                kings |= here if item.startswith("K") else 0
        if pieces[player].bit_count() > 12:
            raise _fault(text, f"{part[0]} has {pieces[player].bit_count()} pieces, 12 are the most")
    state[0] = "BW".index(parts[0])
    state[BLACK], state[WHITE], state[KINGS] = pieces[0], pieces[1], kings
    state[JUMPER], state[TIMES] = -1, 1
    return state


def position_text(state: State) -> str:
    """PDN FEN: it does not tell the counter, the occurrences, nor that a jump is under way."""
    lists = []
    for letter in "WB":
        side = int(state[1 + "BW".index(letter)])
        squares = [square for square in range(32) if side >> square & 1]
        names = [f"K{square + 1}" if int(state[KINGS]) >> square & 1 else f"{square + 1}" for square in squares]
        lists.append(letter + ",".join(names))
    return ":".join(["BW"[int(state[0])], *lists])


def _place(square: int) -> Cell:
    """Row and column of a square 0–31."""
    row, offset = divmod(square, 4)
    return row, 2 * offset + (1 - row % 2)


def _cells(state: State) -> Grid:
    grid = [[NO_SQUARE] * 8 for _ in range(8)]
    for square in range(32):
        row, column = _place(square)
        grid[row][column] = _sign(state, square).replace(".", EMPTY)
    return grid


def _move_cells(state: State, actions: tuple[int, ...]) -> tuple[Cell, ...]:
    hops = [_hop(state, action) for action in actions]
    return tuple(_place(square - 1) for square in (hops[0][0], *(target for _, target in hops)))


def _ending(state: State, winner: int | None, repeated: bool) -> str:
    if winner is None:
        draw = "40 moves a side without a capture or a man's move"
        return f"Drawn: {'the position stood for the third time' if repeated else draw}."
    won, lost = BOARD.players[winner], BOARD.players[1 - winner]
    return f"{lost} {'cannot move' if state[1 + 1 - winner] else 'has no pieces left'}: {won} wins."


BOARD = Board(
    cells=_cells,
    pieces={
        "b": Piece(0, "●", "b", "man"), "w": Piece(1, "●", "w", "man"),
        "B": Piece(0, "♛", "B", "king"), "W": Piece(1, "♛", "W", "king"),
    },
    players=("Black", "White"),
    colors=Colors(ground="#6f8f48", last="#96740e", players=("#101010", "#ffffff"), label="#1a260a"),
    move_cells=_move_cells,
    move_help="from and to, such as 11-15; a capture such as 22x15 or 26x17x10",
    labels={_place(square): str(square + 1) for square in range(32)},
    flips=True,
    ending=_ending,
)  # fmt: skip

GAME = Game(
    name="checkers",
    version=1,
    dtype=rules.dtype,
    state_size=STATE_SIZE,
    num_actions=256,
    planes_shape=(3, 4, 8),
    max_plies=80 * (23 + 24 * 7 + 1),
    start=start,
    apply=apply,
    legal=legal,
    outcome=outcome,
    encode=encode,
    render=render,
    moves=moves,
    parse_position=parse_position,
    position_text=position_text,
    normalize_move=normalize_move,
    board=BOARD,
)
