"""Perft: how many sequences of moves of one length a position allows; the standard test of a move generator."""

from __future__ import annotations

import numpy as np
from numba import types

from az.engine.game import ONGOING, Game, State
from az.engine.jit import helper, state_kernel


@helper
def next_action(mask, words, action, num_actions):
    """The first legal action from `action` on; `words` is the same memory, eight entries at a time."""
    while action < num_actions and not mask[action]:
        action += 8 if action & 7 == 0 and words[action >> 3] == 0 else 1
    return min(action, num_actions)


@state_kernel(
    lambda t: types.int64(
        t.states,
        types.boolean[:, ::1],
        types.int64[:, ::1],
        types.int64[::1],
        types.int64[::1],
        types.int64,
        types.boolean,
        t.pointer("apply"),
        t.pointer("legal"),
        t.pointer("outcome"),
    )
)
def count_sequences(states, masks, words, cursors, moves_left, num_actions, hops, apply, legal, outcome):
    """Depth first from states[0] with moves_left[0] >= 1; -1 when a branch needs more levels than there are."""
    total, level = 0, 0
    legal(states[0], masks[0, :num_actions])
    cursors[0] = 0
    while level >= 0:
        if hops and moves_left[level] == 1:  # every legal action is one sequence: nothing need be played
            for action in range(num_actions):
                total += masks[level, action]
            level -= 1
            continue
        action = next_action(masks[level], words[level], cursors[level], num_actions)
        if action == num_actions:
            level -= 1
            continue
        cursors[level] = action + 1
        if level + 1 == len(states):
            return -1
        parent, child = states[level], states[level + 1]
        for word in range(len(parent)):
            child[word] = parent[word]
        apply(child, action)
        done = hops or child[0] != parent[0] or outcome(child) != ONGOING
        left = moves_left[level] - 1 if done else moves_left[level]
        if left == 0:
            total += 1
            continue
        level += 1
        moves_left[level] = left
        cursors[level] = 0
        legal(child, masks[level, :num_actions])
    return total


EXTRA_LEVELS = 32  # for the hops within moves; doubled where they do not suffice


def perft(game: Game, state: State, depth: int, hops: bool = False) -> int:
    """Sequences of exactly `depth` moves from `state`; a game that ended earlier adds nothing.

    A multiple jump is one move, or one per hop with `hops`: a move goes on while the player to move stays the same, so
    a game in which a player moves twice running by two moves of their own counts them as one.
    """
    if depth <= 0:
        return 1
    extra = EXTRA_LEVELS
    while True:
        levels = depth + extra
        states = np.zeros((levels, game.state_size), game.dtype)
        masks = np.zeros((levels, -(-game.num_actions // 8) * 8), np.bool_)
        cursors, moves_left = np.zeros(levels, np.int64), np.zeros(levels, np.int64)
        states[0], moves_left[0] = state, depth
        kernel = count_sequences[game.dtype]
        total = kernel(
            states,
            masks,
            masks.view(np.int64),
            cursors,
            moves_left,
            game.num_actions,
            hops,
            game.apply,
            game.legal,
            game.outcome,
        )
        if total >= 0:
            return int(total)
        extra *= 2
