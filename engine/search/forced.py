"""A forced win within a bound of positions, for games whose end may be far: proof-number search.

Allis, van der Meulen & van den Herik 1994, "Proof-number search". A position's proof number is how many positions must
still be shown to be won so that it is won, its disproof number how many must be shown not to be; the search goes where
the fewest are left. It needs no depth. Every line is played from the root, so repetitions count as the rules say.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from az.engine.game import DRAW, ONGOING, WIN
from az.engine.jit import JIT_OFF, copy_into, helper

NODE = np.dtype(
    [
        ("parent", np.int32),
        ("first", np.int32),  # of the positions after it, which stand one after another
        ("count", np.int32),  # of them; 0: none were made yet, or the game is over
        ("action", np.int32),  # that led here
        ("proof", np.int32),
        ("disproof", np.int32),
        ("plies", np.int32),  # where it is proven: actions to the end of the game
        ("attacks", np.int8),  # the player who is to win has the move
    ]
)
NODES = 1 << 15  # 1 MB; four times as many prove hardly more (docs/decisions.md)
NEVER = 1 << 30  # a proof number of what cannot be won, a disproof number of what is won


def make_nodes(count: int) -> NDArray[Any]:
    """Room for a proof of so many positions."""
    nodes = np.zeros(count, NODE)
    return nodes.view(np.recarray) if JIT_OFF else nodes  # fields by name, as numba has them


@helper
def next_of(nodes: NDArray[Any], at: int) -> int:
    """The position after `at` with the fewest left to show: to win, or where the other side moves, to escape."""
    first, attacks = nodes[at].first, nodes[at].attacks
    best, least = first, NEVER + 1
    for i in range(first, first + nodes[at].count):
        left = nodes[i].proof if attacks else nodes[i].disproof
        if left < least:
            best, least = i, left
    return best


@helper
def judge(
    nodes: NDArray[Any], i: int, attacker: int, after: NDArray[Any], mask: NDArray[Any], legal: Any, outcome: Any
):
    """The numbers of a new position. One whose side to move has many moves is harder to decide (ibid., section 5)."""
    result, attacks = outcome(after), after[0] == attacker
    nodes[i].attacks, nodes[i].count, nodes[i].plies = attacks, 0, 0
    if result != ONGOING:
        won = result != DRAW and (result == WIN) == attacks
        nodes[i].proof, nodes[i].disproof = (0, NEVER) if won else (NEVER, 0)
        return
    legal(after, mask)
    moves = 0
    for action in range(mask.shape[0]):
        moves += mask[action]
    nodes[i].proof, nodes[i].disproof = (1, moves) if attacks else (moves, 1)


@helper
def add_up(nodes: NDArray[Any], at: int) -> bool:
    """The numbers of a position from those after it; whether they changed."""
    least, total = NEVER, np.int64(0)
    attacks, first = nodes[at].attacks, nodes[at].first
    for i in range(first, first + nodes[at].count):
        one, all_ = (nodes[i].proof, nodes[i].disproof) if attacks else (nodes[i].disproof, nodes[i].proof)
        least = min(least, one)
        total += all_
    total = min(total, NEVER)
    proof, disproof = (least, total) if attacks else (total, least)
    changed = proof != nodes[at].proof or disproof != nodes[at].disproof
    nodes[at].proof, nodes[at].disproof = proof, disproof
    return changed


@helper
def count_plies(nodes: NDArray[Any], used: int) -> None:
    """`plies` of every proven position: the winner hurries among the wins that were found, the other side does not."""
    for at in range(used - 1, -1, -1):  # what comes after a position stands behind it
        if nodes[at].proof != 0 or nodes[at].count == 0:
            continue
        shortest, longest = NEVER, 0
        first = nodes[at].first
        for i in range(first, first + nodes[at].count):
            if nodes[i].proof == 0:
                shortest, longest = min(shortest, nodes[i].plies), max(longest, nodes[i].plies)
        nodes[at].plies = 1 + (shortest if nodes[at].attacks else longest)


@helper
def forced_win(
    nodes: NDArray[Any],
    states: NDArray[Any],
    options: NDArray[np.int32],
    mask: NDArray[np.bool_],
    result: NDArray[np.int8],
    state: NDArray[Any],
    most: int,
    apply: Any,
    legal: Any,
    outcome: Any,
) -> int:
    """Actions to the end of a win that the player to move can force; 0 where `most` positions do not show one.

    nodes: [N] of NODE. states: [2 or more, S], options: [A], mask: [A], all scratch. result: [A], WIN is written for
    the moves that win. `state` is not over.
    """
    line, after, attacker = states[0], states[1], state[0]
    nodes[0].parent, nodes[0].count, nodes[0].attacks = -1, 0, 1
    nodes[0].proof, nodes[0].disproof = 1, 1
    used, room = 1, min(most, nodes.shape[0])
    while nodes[0].proof > 0 and nodes[0].disproof > 0:
        copy_into(line, state)
        at = 0
        while nodes[at].count > 0:
            at = next_of(nodes, at)
            found: Any = nodes[at]
            apply(line, found.action)
        legal(line, mask)
        count = 0
        for action in range(mask.shape[0]):
            if mask[action]:
                options[count] = action
                count += 1
        if used + count > room:
            return 0
        nodes[at].first, nodes[at].count = used, count
        for i in range(count):
            copy_into(after, line)
            apply(after, options[i])
            nodes[used + i].parent, nodes[used + i].action = at, options[i]
            judge(nodes, used + i, attacker, after, mask, legal, outcome)
        used += count
        while at >= 0 and add_up(nodes, at):
            at = nodes[at].parent
    if nodes[0].proof > 0:
        return 0
    count_plies(nodes, used)
    for i in range(nodes[0].first, nodes[0].first + nodes[0].count):
        if nodes[i].proof == 0:
            result[nodes[i].action] = WIN
    return nodes[0].plies
