"""What self-play does between two searches, for many games at once: record the search, play its move, begin the next.

All of it is compiled: at a hundred simulations a move, Python's hundred microseconds here were a simulation each.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from az.engine.game import ONGOING, Game
from az.engine.jit import copy_into, helper, state_kernel
from az.engine.jit.pointers import apply_at, legal_at, outcome_at
from az.engine.jit.rule_types import RuleTypes
from az.engine.rng import uniform
from az.engine.search.params import UNKNOWN
from az.engine.search.policy import choose, policy_value, write_policy
from az.engine.search.reuse import make_root
from az.engine.search.tree import SETTINGS, TREES, Float64, Roots, Trees, roots_type


class Play(NamedTuple):
    """The scalars of `SelfplayConfig` that the kernels read."""

    simulations: int
    fast_simulations: int
    schedule: int  # Gumbel's, of a recorded move
    fast_schedule: int
    forced_schedule: int
    full_fraction: float
    noise_fraction: float
    gumbel_scale: float
    temperature: float
    temperature_plies: int
    skip_forced: int
    reuse: int
    keep_most: int
    policy_value: int  # a row's value is that of the search's policy, not the mean of its walks
    adjudicate: float  # share of games that end where the search proves their result


class Slots(NamedTuple):
    """B games in the making, with room for R recorded rows of E policy entries each."""

    ply: NDArray[np.int64]  # [B]
    full: NDArray[np.int8]  # [B] the search under way is recorded
    rows: NDArray[np.int64]  # [B] recorded so far
    entries: NDArray[np.int64]  # [B] policy entries so far
    simulations: NDArray[np.int64]  # [B]
    adjudicated: NDArray[np.int8]  # [B] the game ends where the search proves its result
    result: NDArray[np.int64]  # [B] outcome for the player to move at the end, or ONGOING
    state: NDArray[np.int64]  # [B, R, S] of the game's dtype
    row_ply: NDArray[np.int32]  # [B, R]
    value: NDArray[np.float64]  # [B, R]
    end: NDArray[np.int64]  # [B, R] policy entries up to and with this row
    action: NDArray[np.int32]  # [B, E]
    prob: NDArray[np.float32]  # [B, E]


_I64 = types.int64
PLAY = types.NamedTuple([_I64] * 5 + [types.float64] * 4 + [_I64] * 5 + [types.float64], Play)


def slots_type(kinds: RuleTypes) -> types.NamedTuple:
    """The numba type of `Slots`."""
    longs, states = types.int64[::1], types.Array(kinds.state.dtype, 3, "C")
    return types.NamedTuple(
        [longs, types.int8[::1], longs, longs, longs, types.int8[::1], longs, states, types.int32[:, ::1],
         types.float64[:, ::1], types.int64[:, ::1], types.int32[:, ::1], types.float32[:, ::1]],
        Slots,
    )  # fmt: skip


def make_slots(game: Game, count: int, rows: int = 64, entries: int = 512) -> Slots:
    """Empty slots."""
    return Slots(
        ply=np.zeros(count, np.int64),
        full=np.zeros(count, np.int8),
        rows=np.zeros(count, np.int64),
        entries=np.zeros(count, np.int64),
        simulations=np.zeros(count, np.int64),
        adjudicated=np.zeros(count, np.int8),
        result=np.full(count, ONGOING, np.int64),
        state=np.zeros((count, rows, game.state_size), game.dtype),
        row_ply=np.zeros((count, rows), np.int32),
        value=np.zeros((count, rows), np.float64),
        end=np.zeros((count, rows), np.int64),
        action=np.zeros((count, entries), np.int32),
        prob=np.zeros((count, entries), np.float32),
    )


def grow_slots(slots: Slots, actions: int) -> Slots:
    """The same games with room for twice as much (and for a row of every action at least)."""

    def wider(name: str, width: int) -> NDArray[np.generic]:
        old = getattr(slots, name)
        grown = np.zeros((old.shape[0], width, *old.shape[2:]), old.dtype)
        grown[:, : old.shape[1]] = old
        return grown

    rows, entries = 2 * slots.end.shape[1], 2 * slots.action.shape[1] + actions
    fields = {name: wider(name, rows) for name in ("state", "row_ply", "value", "end")}
    fields |= {name: wider(name, entries) for name in ("action", "prob")}
    return slots._replace(**fields)


@helper
def only_move(state: NDArray[Any], mask: NDArray[np.bool_], legal: Any) -> bool:
    """Whether a single action is legal."""
    legal(state, mask)
    count = 0
    for action in range(mask.shape[0]):
        count += 1 if mask[action] else 0
    return count == 1


@helper
def begin_search(roots: Roots, slots: Slots, play: Play, b: int, mask: NDArray[np.bool_], legal: Any) -> None:
    """Begin the search of the position that game b has reached: in full and recorded, fast, or of an only move."""
    slots.full[b] = 1 if play.full_fraction >= 1.0 or uniform(roots.random[b]) < play.full_fraction else 0
    roots.started[b] = roots.ended[b] = 0
    roots.tried[b] = 0
    roots.prepared[b] = 0
    roots.gumbel_scale[b] = play.gumbel_scale if slots.ply[b] < play.temperature_plies else 0.0
    roots.noise_fraction[b] = 0.0
    if play.skip_forced == 1 and only_move(roots.state[b], mask, legal):
        slots.full[b] = 0
        roots.target[b], roots.schedule[b] = 1, play.forced_schedule
        roots.gumbel_scale[b] = 0.0
    elif slots.full[b] == 1:
        roots.target[b], roots.schedule[b] = play.simulations, play.schedule
        roots.noise_fraction[b] = play.noise_fraction
    else:
        roots.target[b], roots.schedule[b] = play.fast_simulations, play.fast_schedule


@helper
def record_row(trees: Trees, roots: Roots, slots: Slots, play: Play, b: int, count: int, policy: Float64) -> None:
    """Keep the position, the search's policy over its legal actions and its value."""
    row, at = slots.rows[b], slots.entries[b]
    first = trees.node[b, 0].first_edge
    proven = trees.node[b, 0].proven
    copy_into(slots.state[b, row], roots.state[b])
    slots.row_ply[b, row] = slots.ply[b]
    if proven != UNKNOWN:
        slots.value[b, row] = float(proven)
    elif play.policy_value == 1:
        slots.value[b, row] = policy_value(trees, b, policy)
    else:
        slots.value[b, row] = trees.node[b, 0].value_sum / trees.node[b, 0].visits
    for i in range(count):
        slots.action[b, at + i] = trees.edge[b, first + i].action
        slots.prob[b, at + i] = policy[i]
    slots.end[b, row] = at + count
    slots.rows[b] = row + 1
    slots.entries[b] = at + count


@helper
def make_move(
    trees: Trees, scratch: Trees, roots: Roots, slots: Slots, play: Play, b: int, index: int, apply: Any, outcome: Any
) -> None:
    """Play the move of the root's edge `index` in game b, or end the game with what its search has proven."""
    if slots.adjudicated[b] == 1 and trees.node[b, 0].proven != UNKNOWN:
        slots.result[b] = trees.node[b, 0].proven  # for the player to move, as outcome() gives it
        return
    edge = trees.node[b, 0].first_edge + index
    apply(roots.state[b], int(trees.edge[b, edge].action))
    make_root(trees, scratch, b, edge if play.reuse == 1 else -1, play.keep_most)
    slots.ply[b] += 1
    slots.result[b] = outcome(roots.state[b])


@state_kernel(
    lambda t: types.int64(
        TREES, TREES, roots_type(t.states), SETTINGS, slots_type(t), PLAY, types.int64[::1], types.boolean[::1],
        types.float64[::1], types.int64[::1], *[types.int64] * 3,
    )
)  # fmt: skip
def play_moves(trees, scratch, roots, settings, slots, play, active, mask, policy, finished, rule1, rule2, rule3):
    """Play the move of every active game whose search is done, and begin its next search.

    mask, policy: scratch [num_actions]. Games that end are written into `finished` [>= active]; returns their number,
    or -1 when a slot's room is used up (grow the slots and call again: what was done stays done).
    rule1 … rule3: addresses of apply, legal and outcome.
    """
    state = roots.state[0]
    apply, legal, outcome = apply_at(rule1, state), legal_at(rule2, state), outcome_at(rule3, state)
    ended = 0
    for b in active:
        if slots.result[b] != ONGOING:
            finished[ended] = b
            ended += 1
            continue
        if roots.started[b] < roots.target[b]:
            continue
        wanted = slots.entries[b] + trees.node[b, 0].num_edges
        if slots.rows[b] >= slots.end.shape[1] or wanted > slots.action.shape[1]:
            return -1
        count = write_policy(trees, settings, b, policy)
        temperature = play.temperature if slots.ply[b] < play.temperature_plies else 0.0
        index = choose(trees, roots, settings, b, temperature, policy)
        if slots.full[b] == 1:
            record_row(trees, roots, slots, play, b, count, policy)
        slots.simulations[b] += roots.target[b]
        make_move(trees, scratch, roots, slots, play, b, index, apply, outcome)
        if slots.result[b] == ONGOING:
            begin_search(roots, slots, play, b, mask, legal)
        else:
            finished[ended] = b
            ended += 1
    return ended


@state_kernel(
    lambda t: types.void(roots_type(t.states), slots_type(t), PLAY, types.int64, types.boolean[::1], types.int64)
)
def begin_game(roots: Roots, slots: Slots, play: Play, b: int, mask: NDArray[np.bool_], rule2: int) -> None:
    """Begin the first search of game b, whose position and random stream are in place."""
    slots.adjudicated[b] = 1 if play.adjudicate > 0.0 and uniform(roots.random[b]) < play.adjudicate else 0
    begin_search(roots, slots, play, b, mask, legal_at(rule2, roots.state[0]))
