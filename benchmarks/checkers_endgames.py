"""English checkers with a move generator of its own, and a database of all endings of up to four pieces.

A position is three bitboards as the side to move sees it: its pieces, the other's, and which are kings. Bit 0 is the
upper left dark square, rows of four; the side to move goes up, and `turned` is how the other side sees the board.

The database has the value of each position for the side to move, found by going over the undecided positions until no
more is decided: a position is won where a move leads to a lost one, and has its best move's value where all moves are
decided; what is left is drawn. The draws by counting moves and positions are not considered.
"""

from __future__ import annotations

import itertools
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

LOSS, DRAW, WIN, UNKNOWN, NONE = -1, 0, 1, 2, 3  # NONE: no position has this index
MOST = 4  # pieces
BINOMIAL = np.array([[comb(n, k) for k in range(MOST + 1)] for n in range(33)], np.int64)
OFFSET = np.cumsum([0, 0, *(comb(32, n) * 4**n for n in range(1, MOST + 1))])  # [MOST + 2] where n pieces begin


def _neighbours(far: int) -> NDArray[np.int64]:
    """[32, 4] the square so many steps to the north-west, north-east, south-west, south-east; -1 beside the board."""
    found = np.full((32, 4), -1, np.int64)
    for square, (d, (up, left)) in itertools.product(range(32), enumerate([(-1, -1), (-1, 1), (1, -1), (1, 1)])):
        row, column = square // 4, 2 * (square % 4) + 1 - square // 4 % 2
        to_row, to_column = row + far * up, column + far * left
        if 0 <= to_row < 8 and 0 <= to_column < 8:
            found[square, d] = 4 * to_row + to_column // 2
    return found


NEAR, FAR = _neighbours(1), _neighbours(2)


@njit
def turned(bits):
    """The 32 squares in the opposite order."""
    bits = ((bits & 0x55555555) << 1) | ((bits >> 1) & 0x55555555)
    bits = ((bits & 0x33333333) << 2) | ((bits >> 2) & 0x33333333)
    bits = ((bits & 0x0F0F0F0F) << 4) | ((bits >> 4) & 0x0F0F0F0F)
    bits = ((bits & 0x00FF00FF) << 8) | ((bits >> 8) & 0x00FF00FF)
    return ((bits & 0xFFFF) << 16) | (bits >> 16)


@njit
def count(bits):
    found = 0
    while bits:
        bits &= bits - 1
        found += 1
    return found


@njit
def put(out, at, own, other, kings):
    """Write a position as the other side sees it."""
    out[at, 0], out[at, 1], out[at, 2] = turned(other), turned(own), turned(kings)
    return at + 1


@njit
def jumps(out, at, own, other, kings, square):
    """Every way on of a piece that jumps; it stands on `square` in none of the boards' other pieces."""
    here = 1 << square
    king = kings & here != 0
    for d in range(4 if king else 2):
        over, land = NEAR[square, d], FAR[square, d]
        if land < 0 or not other >> over & 1 or (own | other) >> land & 1:
            continue
        there, taken = 1 << land, ~(1 << over)
        mine, theirs, crowned = own ^ here ^ there, other & taken, kings & taken
        if king:
            crowned ^= here ^ there
        elif land < 4:
            at = put(out, at, mine, theirs, crowned | there)
            continue
        before = at
        at = jumps(out, at, mine, theirs, crowned, land)
        if at == before:
            at = put(out, at, mine, theirs, crowned)
    return at


@njit
def can_jump(own, other, kings):
    pieces = own
    while pieces:
        low = pieces & -pieces
        pieces ^= low
        square = count(low - 1)
        for d in range(4 if kings & low else 2):
            land = FAR[square, d]
            if land >= 0 and other >> NEAR[square, d] & 1 and not (own | other) >> land & 1:
                return True
    return False


@njit
def successors(out, own, other, kings):
    """Every position after a whole move, as the other side sees it, into `out` [n, 3]; how many."""
    at, pieces, forced = 0, own, can_jump(own, other, kings)
    while pieces:
        low = pieces & -pieces
        pieces ^= low
        square = count(low - 1)
        if forced:
            at = jumps(out, at, own, other, kings, square)
            continue
        for d in range(4 if kings & low else 2):
            to = NEAR[square, d]
            if to >= 0 and not (own | other) >> to & 1:
                there = 1 << to
                crowned = kings ^ low ^ there if kings & low else kings | there if to < 4 else kings
                at = put(out, at, own ^ low ^ there, other, crowned)
    return at


@njit
def index_of(own, other, kings):
    """Its place in the database."""
    pieces, length, rank, kinds = own | other, 0, 0, 0
    while pieces:
        low = pieces & -pieces
        pieces ^= low
        length += 1
        rank += BINOMIAL[count(low - 1), length]
        kinds = 4 * kinds + (2 if other & low else 0) + (1 if kings & low else 0)
    return OFFSET[length] + (rank << 2 * length) + kinds


@njit
def value_now(table, out, own, other, kings):
    """What the successors say of a position."""
    best, open_ = LOSS, False
    for i in range(successors(out, own, other, kings)):
        value = LOSS if out[i, 0] == 0 else table[index_of(out[i, 0], out[i, 1], out[i, 2])]
        if value == LOSS:
            return WIN
        open_ |= value == UNKNOWN
        best = max(best, DRAW if value == DRAW else LOSS)
    return UNKNOWN if open_ else best


@njit
def position_of(squares, kinds):
    """(own, other, kings) of pieces on these squares; kings is -1 where there is no such position."""
    own, other, kings = 0, 0, 0
    for i in range(len(squares)):
        kind = kinds >> 2 * (len(squares) - 1 - i) & 3
        here = 1 << np.int64(squares[i])
        if kind & 2:
            other |= here
        else:
            own |= here
        if kind & 1:
            kings |= here
        elif squares[i] >= 28 if kind & 2 else squares[i] < 4:
            return 0, 0, -1
    return (own, other, kings) if own and other else (0, 0, -1)


@njit
def sweep(table, places, todo, offset, length):
    """Decide what can be decided of the positions `todo` (indices, less `offset`); how many are left, at its front."""
    out, left = np.zeros((64, 3), np.int64), 0
    for at in range(len(todo)):
        number = np.int64(todo[at])
        own, other, kings = position_of(places[number >> 2 * length], number & ((1 << 2 * length) - 1))
        if kings < 0:
            table[offset + number] = NONE
            continue
        table[offset + number] = value_now(table, out, own, other, kings)
        if table[offset + number] == UNKNOWN:
            todo[left] = number
            left += 1
    return left


def solve() -> NDArray[np.int8]:
    """The database: the value at each index."""
    table = np.full(OFFSET[-1], UNKNOWN, np.int8)
    for length in range(1, MOST + 1):
        places = np.array(sorted(itertools.combinations(range(32), length), key=lambda one: one[::-1]), np.int8)
        offset, todo, left = int(OFFSET[length]), np.arange(len(places) << 2 * length, dtype=np.int32), -1
        while left != len(todo):
            todo = todo if left < 0 else todo[:left]
            left = sweep(table, places, todo, offset, length)
        table[offset + todo] = DRAW
    return table


def database(path: Path | None) -> NDArray[np.int8]:
    """The database, kept in that file for the next time."""
    if path is not None and path.is_file():
        return np.load(path)
    table = solve()
    if path is not None:
        np.save(path, table)
    return table


def value_of(table: NDArray[Any], position: tuple[int, int, int]) -> int:
    """The value of a position with at most MOST pieces, for the side to move."""
    return int(table[index_of(*position)]) if position[0] else LOSS
