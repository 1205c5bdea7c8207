"""An exact solver for the last moves of Othello, with bitboards of its own: what `solved_othello.py` makes files with.

Alpha-beta on the final difference in discs, fail-soft, with a table. The moves that leave the opponent the fewest moves
come first. Squares that stay empty count for nobody, or, where asked, for the winner; the sign is the same. A bitboard
has eight bits a row whatever n is.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

ENTRIES = 1 << 21  # of the table
SHALLOW = 4  # empty squares up to which moves are neither sorted nor kept in the table
SHIFTS = np.array([1, 8, 7, 9], np.uint64)
ALL, ONE = np.uint64((1 << 64) - 1), np.uint64(1)
FACTORS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], np.uint64)
TOP = np.uint64(64 - ENTRIES.bit_length() + 1)


def masks_of(n: int, award: bool = False) -> NDArray[np.uint64]:
    """[4] uint64: the board; the columns between the outer ones; the corners; squares that the winner gets if empty."""
    row, top = 0x0101010101010101 & ((1 << 8 * n) - 1), 8 * (n - 1)
    corners = 1 | 1 << (n - 1) | 1 << top | 1 << (top + n - 1)
    board = ((1 << n) - 1) * row
    return np.array([board, ((1 << (n - 1)) - 2) * row, corners, board if award else 0], np.uint64)


@njit
def count(bits):
    bits -= (bits >> np.uint64(1)) & np.uint64(0x5555555555555555)
    bits = (bits & np.uint64(0x3333333333333333)) + ((bits >> np.uint64(2)) & np.uint64(0x3333333333333333))
    bits = (bits + (bits >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((bits * np.uint64(0x0101010101010101)) >> np.uint64(56))


@njit
def places(own, other, masks):
    """The squares where `own` may put a disc."""
    found = np.uint64(0)
    for direction in range(4):
        shift = SHIFTS[direction]
        inner = other if direction == 1 else other & masks[1]
        up, down = inner & (own << shift), inner & (own >> shift)
        for _ in range(5):
            up |= inner & (up << shift)
            down |= inner & (down >> shift)
        found |= (up << shift) | (down >> shift)
    return found & ~(own | other) & masks[0]


@njit
def turned(own, other, disc, masks):
    """The discs that a disc of `own` turns."""
    found = np.uint64(0)
    for direction in range(4):
        shift = SHIFTS[direction]
        inner = other if direction == 1 else other & masks[1]
        run, place = np.uint64(0), disc << shift
        while place & inner:
            run |= place
            place <<= shift
        if place & own:
            found |= run
        run, place = np.uint64(0), disc >> shift
        while place & inner:
            run |= place
            place >>= shift
        if place & own:
            found |= run
    return found


@njit
def slot_of(own, other):
    return np.int64((own * FACTORS[0] ^ (other + ONE) * FACTORS[1]) * FACTORS[0] >> TOP)


@njit
def sorted_moves(moves, own, other, masks, lines):
    """List the moves, the best first, into `lines`: each with its rank. Returns how many there are."""
    length = 0
    while moves:
        disc = moves & (~moves + ONE)
        moves ^= disc
        flips = turned(own, other, disc, masks)
        after = other & ~flips
        replies = places(after, own | disc | flips, masks)
        rank = np.uint64(16 * (1 + count(replies) + count(replies & masks[2])))
        if disc & masks[2]:
            rank -= np.uint64(12)
        at = length
        while at > 0 and lines[at - 1, 1] > rank:
            lines[at, 0], lines[at, 1] = lines[at - 1, 0], lines[at - 1, 1]
            at -= 1
        lines[at, 0], lines[at, 1] = disc, rank
        length += 1
    return length


@njit
def search(own, other, alpha, beta, passed, masks, keys, bounds, lines, nodes):
    """The final difference for the side to move, as far as it lies within (alpha, beta)."""
    nodes[0] += 1
    moves = places(own, other, masks)
    if moves == 0:
        if passed:
            lead, empty = count(own) - count(other), count(masks[3] & ~(own | other))
            return lead + empty * ((lead > 0) - (lead < 0))
        return -search(other, own, -beta, -alpha, True, masks, keys, bounds, lines, nodes)
    left, first = count(masks[0] & ~(own | other)), alpha
    deep = left > SHALLOW
    slot = slot_of(own, other) if deep else 0
    if deep and keys[slot, 0] == own and keys[slot, 1] == other:
        low, high = np.int64(bounds[slot, 0]), np.int64(bounds[slot, 1])
        if low >= beta or low == high:
            return low
        if high <= alpha:
            return high
    length = sorted_moves(moves, own, other, masks, lines[left]) if deep else 0
    best, at = -100, 0
    while best < beta and (at < length if deep else moves != 0):
        disc = lines[left, at, 0] if deep else moves & (~moves + ONE)
        moves &= ~disc
        flips = turned(own, other, disc, masks)
        after, mine = other & ~flips, own | disc | flips
        low = max(alpha, best)
        if at > 0 and deep and beta - low > 1:  # is it better at all?
            value = -search(after, mine, -low - 1, -low, False, masks, keys, bounds, lines, nodes)
            if low < value < beta:
                value = -search(after, mine, -beta, -value + 1, False, masks, keys, bounds, lines, nodes)
        else:
            value = -search(after, mine, -beta, -low, False, masks, keys, bounds, lines, nodes)
        best = max(best, value)
        at += 1
    if deep:
        if keys[slot, 0] != own or keys[slot, 1] != other:
            keys[slot, 0], keys[slot, 1] = own, other
            bounds[slot, 0], bounds[slot, 1] = -64, 64
        if best > first:
            bounds[slot, 0] = best
        if best < beta:
            bounds[slot, 1] = best
    return best


class Solver:
    """Exact scores on n by n squares. What one search has found, the next ones use."""

    def __init__(self, n: int, award: bool = False) -> None:
        """award: squares that stay empty count for the winner."""
        self.masks = masks_of(n, award)
        self.keys = np.zeros((ENTRIES, 2), np.uint64)
        self.bounds = np.zeros((ENTRIES, 2), np.int8)
        self.lines = np.zeros((65, 40, 2), np.uint64)
        self.nodes = np.zeros(1, np.int64)

    def score(self, own: int, other: int, bound: int) -> int:
        """Discs of the side to move less those of the other at the end, cut to -bound … bound."""
        scratch = (self.masks, self.keys, self.bounds, self.lines, self.nodes)
        found = int(search(np.uint64(own), np.uint64(other), -bound, bound, False, *scratch))
        return max(-bound, min(bound, found))


@njit
def freedom(own, other, masks):
    moves = places(own, other, masks)
    return count(moves) + 2 * count(moves & masks[2]) - 2 * count(other & masks[2])


def mobility(own: int, other: int, n: int) -> int:
    """How much the side to move can do: moves, and the corners within reach less those of the other side."""
    return int(freedom(np.uint64(own), np.uint64(other), masks_of(n)))


def images(discs: int, n: int) -> list[int]:
    """A bitboard under the eight symmetries of the square."""
    board = np.array([[discs >> (8 * row + column) & 1 for column in range(n)] for row in range(n)])
    turns = [np.rot90(side, quarter) for side in (board, board.T) for quarter in range(4)]
    return [sum(1 << (8 * int(row) + int(column)) for row, column in np.argwhere(turn)) for turn in turns]
