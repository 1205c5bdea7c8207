"""What `solved_checkers.py` knows of checkers positions with more pieces than the database: proofs, and fair play.

A proof looks at every line of so many plies, captures not counted, down to the database. What it does not reach counts
for the side that the proof is against; so a proof that fails shows nothing.
"""

from __future__ import annotations

import random

import numpy as np
from checkers_endgames import LOSS, MOST, UNKNOWN, WIN, can_jump, count, index_of, successors
from numba import njit
from numpy.typing import NDArray

ENTRIES = 1 << 20  # of the table of proofs; a power of two
LEVELS = 64  # of one line, captures included
MAN, KING = 10, 14  # what they count in play

Position = tuple[int, int, int]


@njit
def keys_of(own, other, kings, least, beyond, depth):
    """Two words that tell one question from another."""
    return own | other << 32, kings | depth << 32 | least << 40 | (beyond + 1) << 41 | 1 << 44


@njit
def gets(position, least, beyond, depth, level, limit, table, scratch):
    """Whether the side to move gets at least DRAW or WIN (`least`) in so many plies; what lies beyond them is worth
    `beyond` to it. Shows nothing once scratch's nodes are above `limit`.
    """
    keys, known, outs, nodes = scratch
    own, other, kings = position
    nodes[0] += 1
    if own == 0:
        return False
    if count(own | other) <= MOST:
        return table[index_of(own, other, kings)] >= least
    forced = can_jump(own, other, kings)
    if (depth == 0 and not forced) or level >= LEVELS:
        return beyond >= least
    one, two = keys_of(own, other, kings, least, beyond, depth)
    slot = ((one * 0x9E3779B97F4A7C1 ^ two * 0x2545F4914F6CDD1) >> 24) & (ENTRIES - 1)
    if keys[slot, 0] == one and keys[slot, 1] == two:
        return known[slot]
    found, out = False, outs[level]
    for i in range(successors(out, own, other, kings)):
        after = (out[i, 0], out[i, 1], out[i, 2])
        if not gets(after, 1 - least, -beyond, depth if forced else depth - 1, level + 1, limit, table, scratch):
            found = True
            break
        if nodes[0] > limit:
            return False
    if nodes[0] <= limit:
        keys[slot, 0], keys[slot, 1], known[slot] = one, two, found
    return found


@njit
def material(own, other, kings):
    mine, theirs = count(own & kings), count(other & kings)
    return MAN * (count(own) - count(other)) + (KING - MAN) * (mine - theirs)


@njit
def worth(own, other, kings, depth, alpha, beta, level, outs):
    """Alpha-beta over the material, captures played out."""
    forced = can_jump(own, other, kings)
    if (depth <= 0 and not forced) or level >= LEVELS:
        return material(own, other, kings)
    out, best = outs[level], -1000 + level
    for i in range(successors(out, own, other, kings)):
        value = -worth(out[i, 0], out[i, 1], out[i, 2], depth - 1, -beta, -max(alpha, best), level + 1, outs)
        best = max(best, value)
        if best >= beta:
            break
    return best


class Searcher:
    """Proofs and play, with scratch of its own."""

    def __init__(self, table: NDArray[np.int8]) -> None:
        self.table = table
        keys, known = np.zeros((ENTRIES, 2), np.int64), np.zeros(ENTRIES, np.bool_)
        self.outs = np.zeros((LEVELS + 1, 64, 3), np.int64)
        self.nodes = np.zeros(1, np.int64)
        self.scratch = (keys, known, self.outs, self.nodes)

    def value(self, position: Position) -> int:
        """The value for the side to move; UNKNOWN with more pieces than the database has."""
        own, other, kings = position
        if own == 0:
            return LOSS
        return int(self.table[index_of(own, other, kings)]) if count(own | other) <= MOST else UNKNOWN

    def afters(self, position: Position) -> list[Position]:
        """After each move, as the other side sees it."""
        out = self.outs[LEVELS]
        return [(int(own), int(other), int(kings)) for own, other, kings in out[: successors(out, *position)]]

    def proves(self, position: Position, least: int, depth: int, limit: int) -> bool:
        """Whether the side to move is proven to get at least `least`, by a proof of at most `limit` positions."""
        self.nodes[0] = 0
        return bool(gets(position, least, LOSS, depth, 0, limit, self.table, self.scratch)) and self.nodes[0] <= limit

    def refuted(self, position: Position, depth: int, limit: int) -> bool:
        """Whether the side to move is proven to lose."""
        self.nodes[0] = 0
        return not gets(position, 0, WIN, depth, 0, limit, self.table, self.scratch) and self.nodes[0] <= limit

    def good(self, rng: random.Random, afters: list[Position], depth: int) -> int:
        """One of the best moves, given the positions after them: by the database, else by the material in sight."""
        values = [self.value(after) for after in afters]
        if UNKNOWN in values:
            values = [worth(*after, depth, -10000, 10000, 0, self.outs) for after in afters]
        return rng.choice([i for i, value in enumerate(values) if value == min(values)])
