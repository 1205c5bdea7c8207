"""Exact results near the end of a game: alpha-beta to the last move, within a bound of positions.

Tree search proves what it walks into; the last dozen moves have far fewer positions than ways to reach them, and
alpha-beta with a table sees each once. Values are LOSS, DRAW and WIN for the player to move. A game that may go on
longer than alpha-beta can look (checkers, whose kings come and go) has forced wins proven in its place
(`engine/search/forced.py`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import from_dtype, types
from numpy.typing import NDArray

from az.engine.game import DRAW, LOSS, ONGOING, WIN, Game
from az.engine.jit import copy_into, helper, state_kernel
from az.engine.jit.rule_types import RuleTypes
from az.engine.search.cache import WORD, stir
from az.engine.search.forced import NODE, NODES, forced_win, make_nodes
from az.engine.search.params import UNKNOWN
from az.engine.search.tree import UNVISITED, Trees

DEEPEST = 64  # plies that one proof may go down
FAR = 1000  # plies to the end of a proof that does not say how many
ENTRIES = 1 << 15  # positions of the table at most; a power of two
BYTES = 32 << 20  # of the table, at most


class Prover(NamedTuple):
    """Scratch of one thread. K = words of a state that tell positions apart, T entries, D plies, A actions."""

    keys: NDArray[Any]  # [T, K] of the game's dtype
    stamp: NDArray[np.int64]  # [T] the proof that wrote the entry: no proof reads what another one wrote
    low: NDArray[np.int8]  # [T] the value is at least this
    high: NDArray[np.int8]  # [T] and at most this
    states: NDArray[Any]  # [D + 1, S] the line that is looked at
    moves: NDArray[np.int32]  # [D, A] of each of its positions, the best first
    bounds: NDArray[np.int64]  # [D, 6] moves, the next one, best value, alpha, beta, alpha at first
    cutoffs: NDArray[np.int64]  # [2, A] how often a player's action refuted
    mask: NDArray[np.bool_]  # [A]
    result: NDArray[np.int8]  # [A] of the moves of the position that was proven, or UNKNOWN
    numbers: NDArray[np.int64]  # [2] proofs begun, positions looked at in this one
    nodes: NDArray[Any]  # [N] of forced.NODE; 1 where alpha-beta can reach the end of the game


COUNT, NEXT, BEST, ALPHA, BETA, FIRST = range(6)


def make_prover(game: Game, enabled: bool = True) -> Prover:
    """Scratch for proofs of this game; enabled=False: of no size, where none will be asked for."""
    words = game.key_words or game.state_size
    fitting = max(1, BYTES // (words * game.dtype.itemsize + 10))
    entries = min(ENTRIES, 1 << fitting.bit_length() - 1) if enabled else 1
    deep = DEEPEST if enabled else 1
    endless = game.max_plies > 2 * DEEPEST
    return Prover(
        keys=np.zeros((entries, words), game.dtype),
        stamp=np.zeros(entries, np.int64),
        low=np.zeros(entries, np.int8),
        high=np.zeros(entries, np.int8),
        states=np.zeros((deep + 1, game.state_size), game.dtype),
        moves=np.zeros((deep, game.num_actions), np.int32),
        bounds=np.zeros((deep, 6), np.int64),
        cutoffs=np.zeros((2, game.num_actions), np.int64),
        mask=np.zeros(game.num_actions, np.bool_),
        result=np.zeros(game.num_actions, np.int8),
        numbers=np.zeros(2, np.int64),
        nodes=make_nodes(NODES if enabled and endless else 1),
    )


def prover_type(kinds: RuleTypes) -> types.NamedTuple:
    """The numba type of `Prover`."""
    states, longs = types.Array(kinds.state.dtype, 2, "C"), types.int64[:, ::1]
    small = types.int8[::1]
    return types.NamedTuple(
        [states, types.int64[::1], small, small, states, types.int32[:, ::1], longs, longs, types.boolean[::1], small,
         types.int64[::1], types.Array(from_dtype(NODE), 1, "C")],
        Prover,
    )  # fmt: skip


@helper
def slot_of(prover: Prover, state: NDArray[Any]) -> int:
    """The entry that a position has in the table; it may hold another."""
    lane = np.int64(0x243F6A88)  # not a plain number: numba would compile stir again for it
    for word in range(prover.keys.shape[1]):
        value = np.int64(state[word])
        lane = stir(stir(lane, value & WORD), (value >> 32) & WORD)
    return lane & (prover.keys.shape[0] - 1)


@helper
def is_held(prover: Prover, slot: int, state: NDArray[Any]) -> bool:
    """Whether this proof has written this position there."""
    if prover.stamp[slot] != prover.numbers[0]:
        return False
    for word in range(prover.keys.shape[1]):  # noqa: SIM110 (a generator does not compile well)
        if prover.keys[slot, word] != state[word]:
            return False
    return True


@helper
def hold(prover: Prover, slot: int, state: NDArray[Any], best: int, alpha: int, beta: int) -> None:
    """Keep what a look with this window has found."""
    if not is_held(prover, slot, state):
        for word in range(prover.keys.shape[1]):
            prover.keys[slot, word] = state[word]
        prover.stamp[slot] = prover.numbers[0]
        prover.low[slot], prover.high[slot] = LOSS, WIN
    if best > alpha:
        prover.low[slot] = best
    if best < beta:
        prover.high[slot] = best


@helper
def list_moves(prover: Prover, depth: int, apply: Any, legal: Any, outcome: Any) -> int:
    """List the moves at that depth which do not end the game, those that refuted most first; the best of the others."""
    state, after, mover = prover.states[depth], prover.states[depth + 1], prover.states[depth, 0]
    legal(state, prover.mask)
    best, count = LOSS, 0
    for action in range(prover.mask.shape[0]):
        if not prover.mask[action]:
            continue
        copy_into(after, state)
        apply(after, action)
        result = outcome(after)
        if result == ONGOING:
            at = count
            while at > 0 and prover.cutoffs[mover, prover.moves[depth, at - 1]] < prover.cutoffs[mover, action]:
                prover.moves[depth, at] = prover.moves[depth, at - 1]
                at -= 1
            prover.moves[depth, at] = action
            count += 1
        else:
            best = max(best, result if after[0] == mover else -result)
            if best == WIN:
                break
    prover.bounds[depth, COUNT], prover.bounds[depth, NEXT] = count, 0
    return best


@helper
def open_position(prover: Prover, depth: int, apply: Any, legal: Any, outcome: Any) -> bool:
    """Begin with the position at that depth; whether its value is known at once (it stands in `bounds` then)."""
    bounds = prover.bounds[depth]
    slot = slot_of(prover, prover.states[depth])
    if is_held(prover, slot, prover.states[depth]):
        low, high = prover.low[slot], prover.high[slot]
        if low >= bounds[BETA] or low == high:
            bounds[BEST] = low
            return True
        if high <= bounds[ALPHA]:
            bounds[BEST] = high
            return True
    prover.numbers[1] += 1
    bounds[FIRST] = bounds[ALPHA]
    bounds[BEST] = list_moves(prover, depth, apply, legal, outcome)
    bounds[ALPHA] = max(bounds[ALPHA], bounds[BEST])
    return False


@helper
def value_of(
    prover: Prover, state: NDArray[Any], alpha: int, beta: int, most: int, apply: Any, legal: Any, outcome: Any
) -> int:
    """The value of a position that is not over, as far as it lies within (alpha, beta); UNKNOWN after `most` positions.

    Fail-soft alpha-beta (Knuth & Moore 1975) without recursion; moves are ordered by how often they refuted.
    """
    copy_into(prover.states[0], state)
    prover.bounds[0, ALPHA], prover.bounds[0, BETA] = alpha, beta
    depth, known = 0, open_position(prover, 0, apply, legal, outcome)
    while True:
        bounds = prover.bounds[depth]
        if not known and bounds[BEST] < bounds[BETA] and bounds[NEXT] < bounds[COUNT]:
            if prover.numbers[1] >= most or depth + 2 >= DEEPEST:
                return UNKNOWN
            action = int(prover.moves[depth, bounds[NEXT]])
            bounds[NEXT] += 1
            below = prover.bounds[depth + 1]
            copy_into(prover.states[depth + 1], prover.states[depth])
            apply(prover.states[depth + 1], action)
            same = prover.states[depth + 1, 0] == prover.states[depth, 0]
            below[ALPHA] = bounds[ALPHA] if same else -bounds[BETA]
            below[BETA] = bounds[BETA] if same else -bounds[ALPHA]
            depth += 1
            known = open_position(prover, depth, apply, legal, outcome)
            continue
        if not known:
            slot = slot_of(prover, prover.states[depth])
            hold(prover, slot, prover.states[depth], bounds[BEST], bounds[FIRST], bounds[BETA])
        if depth == 0:
            return bounds[BEST]
        above = prover.bounds[depth - 1]
        mover = prover.states[depth - 1, 0]
        value = bounds[BEST] if prover.states[depth, 0] == mover else -bounds[BEST]
        above[BEST] = max(above[BEST], value)
        above[ALPHA] = max(above[ALPHA], value)
        if value >= above[BETA]:
            prover.cutoffs[mover, prover.moves[depth - 1, above[NEXT] - 1]] += 1
        depth, known = depth - 1, False


@helper
def prove_moves(prover: Prover, state: NDArray[Any], most: int, apply: Any, legal: Any, outcome: Any) -> int:
    """The value of a position that is not over, and of its moves in `prover.result`, within `most` positions.

    UNKNOWN where the bound does not do. A move's result is then known as far as it matters: whether it keeps the
    position's value; which of the others lose.
    """
    prover.numbers[0] += 1
    prover.numbers[1] = 0
    prover.cutoffs[:] = 0
    prover.result[:] = UNKNOWN
    value = value_of(prover, state, LOSS, WIN, most, apply, legal, outcome)
    if value == UNKNOWN:
        return UNKNOWN
    after, options = prover.states[DEEPEST], prover.moves[DEEPEST - 1]  # no line goes down to them
    legal(state, prover.mask)
    count = 0
    for action in range(prover.mask.shape[0]):
        if prover.mask[action]:
            options[count] = action
            count += 1
    kept = 0
    for i in range(count):
        action = int(options[i])
        copy_into(after, state)
        apply(after, action)
        same = after[0] == state[0]
        found = outcome(after)
        if found == ONGOING:  # is it worse than the position's value?
            low, high = (value - 1, value) if same else (-value, 1 - value)
            found = value_of(prover, after, low, high, 2 * most, apply, legal, outcome)
        if found == UNKNOWN:
            continue
        found = found if same else -found
        if found >= value:
            prover.result[action] = value
            kept += 1
        elif value == DRAW or found == LOSS:
            prover.result[action] = LOSS
    return value if kept > 0 else UNKNOWN


@helper
def prove_win(prover: Prover, state: NDArray[Any], most: int, apply: Any, legal: Any, outcome: Any) -> int:
    """Actions to the end of a forced win, its moves in `prover.result`; 0 where `most` positions do not show one."""
    prover.result[:] = UNKNOWN
    states, options = prover.states, prover.moves[0]
    return forced_win(prover.nodes, states, options, prover.mask, prover.result, state, most, apply, legal, outcome)


@helper
def plies_of(trees: Trees, b: int, e: int) -> int:
    """Actions to the end of the game after a proven edge; FAR where only `prove_root` knows of the proof."""
    child = trees.edge[b, e].child
    return trees.node[b, child].proof_plies if child != UNVISITED and trees.node[b, child].proven != UNKNOWN else FAR


@helper
def prove_root(
    trees: Trees, prover: Prover, b: int, state: NDArray[Any], most: int, apply: Any, legal: Any, outcome: Any
) -> bool:
    """Prove the root of tree b, whose edges are there and whose position is `state`; whether that was done.

    Edges of a lost root stay as they are: the search goes on and looks for the move that is hardest to answer.
    """
    if prover.nodes.shape[0] > 1:
        plies = prove_win(prover, state, most, apply, legal, outcome)
        value = WIN if plies > 0 else UNKNOWN
    else:
        plies, value = FAR, prove_moves(prover, state, most, apply, legal, outcome)
    if value == UNKNOWN:
        return False
    trees.node[b, 0].proven, trees.node[b, 0].proof_plies = value, plies
    first = trees.node[b, 0].first_edge
    for e in range(first, first + trees.node[b, 0].num_edges):
        result = prover.result[trees.edge[b, e].action]
        if value != LOSS and result != UNKNOWN:
            trees.edge[b, e].edge_proven = result
    return value != LOSS


@state_kernel(
    lambda t: types.int64(
        prover_type(t), t.state, types.int64, t.pointer("apply"), t.pointer("legal"), t.pointer("outcome")
    )
)
def prove_position(prover: Prover, state: NDArray[Any], most: int, apply: Any, legal: Any, outcome: Any) -> int:
    """`prove_moves` for Python."""
    return prove_moves(prover, state, most, apply, legal, outcome)


@state_kernel(
    lambda t: types.int64(
        prover_type(t), t.state, types.int64, t.pointer("apply"), t.pointer("legal"), t.pointer("outcome")
    )
)
def prove_win_of(prover: Prover, state: NDArray[Any], most: int, apply: Any, legal: Any, outcome: Any) -> int:
    """`prove_win` for Python."""
    return prove_win(prover, state, most, apply, legal, outcome)
