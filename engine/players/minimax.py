"""A player that looks a fixed number of actions ahead: alpha-beta over the outcomes of finished games, nothing else.

Values are counted for player 0 always (player 0 takes the greatest, player 1 the least), so nothing depends on who
moves after whom. The horizon is worth 0. A won game is worth more the sooner it ends, a lost one less: a player for
whom all wins are alike can put off its win for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from az.engine.game import ONGOING, Game
from az.engine.jit import helper, state_kernel
from az.engine.players.slices import Stop, in_slices, never
from az.engine.rng import below, seed_words

CURSOR, BEST, ALPHA, BETA = range(4)  # what is remembered at each level of the walk
ROW, MOVE, LEVEL, ROOT_BEST, EQUALS, MOST = range(6)  # where a call goes on; LEVEL 0: at no move of the root
INFINITE = 1 << 40
FIRST_SLICE = 4096  # positions

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
Rule = Callable[..., Any]  # a function of the game, compiled


@helper
def _open_level(levels: Ints, level: int, state: Ints) -> None:
    levels[level, CURSOR] = 0
    levels[level, BEST] = -INFINITE if state[0] == 0 else INFINITE


@helper
def _take(levels: Ints, level: int, mover: int, value: int) -> None:
    """Tell a level what one of its moves is worth."""
    if mover == 0:
        levels[level, BEST] = max(levels[level, BEST], value)
        levels[level, ALPHA] = max(levels[level, ALPHA], value)
    else:
        levels[level, BEST] = min(levels[level, BEST], value)
        levels[level, BETA] = min(levels[level, BETA], value)


@helper
def _next_action(levels: Ints, level: int, mask: Mask) -> int:
    """The next untried legal action of a level, or -1 when there is none or the others cannot matter any more."""
    if levels[level, ALPHA] >= levels[level, BETA]:
        return -1
    for action in range(levels[level, CURSOR], len(mask)):
        if mask[action]:
            levels[level, CURSOR] = action + 1
            return action
    return -1


@helper
def _play(stack: Ints, level: int, action: int, apply: Rule) -> None:
    """stack[level + 1] = the position after `action` in stack[level]."""
    for word in range(stack.shape[1]):
        stack[level + 1, word] = stack[level, word]
    apply(stack[level + 1], action)


@helper
def _alpha_beta(
    stack: Ints, masks: Mask, levels: Ints, at: Ints, first: int, last: int, apply: Rule, legal: Rule, outcome: Rule
) -> None:
    """Worth of stack[first] for player 0, to levels[first, BEST], in the window (ALPHA, BETA) of that level.

    stack[last] is the horizon. Goes on at at[LEVEL], where a position waits to be looked at, and leaves there 0 when
    it is done, or the level where it broke off because at[MOST] positions were used up. The loop climbs and descends by
    itself: numba does not cache recursion through function pointers reliably.
    """
    level, left = at[LEVEL], at[MOST]
    while left > 0:
        left -= 1
        state = stack[level]
        result = outcome(state)
        if result == ONGOING and level < last:
            legal(state, masks[level])
            _open_level(levels, level, state)
            action = _next_action(levels, level, masks[level])
        else:
            levels[level, BEST] = 0
            if result != ONGOING:
                levels[level, BEST] = result * (last - level + 1) * (1 if state[0] == 0 else -1)
            action = -1
        while action < 0:  # this level is done: hand its worth up until a level has a move left
            if level == first:
                at[LEVEL], at[MOST] = 0, left
                return
            level -= 1
            _take(levels, level, stack[level, 0], levels[level + 1, BEST])
            action = _next_action(levels, level, masks[level])
        _play(stack, level, action, apply)
        levels[level + 1, ALPHA] = levels[level, ALPHA]
        levels[level + 1, BETA] = levels[level, BETA]
        level += 1
    at[LEVEL], at[MOST] = level, 0


@helper
def _begin_row(stack: Ints, masks: Mask, words: Ints, at: Ints, state: Ints, key: int, legal: Rule) -> None:
    """The root of the next state."""
    seed_words(key, words)
    for word in range(stack.shape[1]):
        stack[0, word] = state[word]
    legal(stack[0], masks[0])
    at[ROOT_BEST], at[EQUALS], at[LEVEL] = -INFINITE, 0, 0


@helper
def _begin_move(stack: Ints, levels: Ints, at: Ints, apply: Rule) -> None:
    """One move of the root."""
    _play(stack, 0, at[MOVE], apply)
    # a window that begins one below the best: moves that are exactly as good are told from worse ones
    levels[1, ALPHA] = at[ROOT_BEST] - 1 if stack[0, 0] == 0 else -INFINITE
    levels[1, BETA] = INFINITE if stack[0, 0] == 0 else 1 - at[ROOT_BEST]
    at[LEVEL] = 1


@state_kernel(
    lambda t: types.void(
        t.states,
        types.int64[::1],
        types.int64[::1],
        t.states,
        types.boolean[:, ::1],
        types.int64[:, ::1],
        types.int64[::1],
        types.int64[::1],
        types.int64[::1],
        t.pointer("apply"),
        t.pointer("legal"),
        t.pointer("outcome"),
    )
)
def minimax_moves(
    states: Ints,
    keys: Ints,
    at: Ints,
    stack: Ints,
    masks: Mask,
    levels: Ints,
    words: Ints,
    chosen: Ints,
    values: Ints,
    apply: Rule,
    legal: Rule,
    outcome: Rule,
) -> None:
    """Fill chosen[i] and values[i] (of the player to move) for states[i], none of them over, and keys[i].

    at: [6] int64, zeros for the first call but for at[MOST], the positions that this call may look at; the next one
    goes on from there. Done when at[ROW] == len(states). stack: [depth + 1, S], masks: [depth + 1, num_actions],
    levels: [depth + 1, 4], words: [4]: scratch, kept between the calls.
    """
    while at[ROW] < len(states):
        row = at[ROW]
        if at[MOVE] == 0 and at[LEVEL] == 0:
            _begin_row(stack, masks, words, at, states[row], keys[row], legal)
        while at[MOVE] < masks.shape[1]:
            if masks[0, at[MOVE]]:
                if at[LEVEL] == 0:
                    _begin_move(stack, levels, at, apply)
                _alpha_beta(stack, masks, levels, at, 1, len(stack) - 1, apply, legal, outcome)
                if at[LEVEL] > 0:
                    return
                value = levels[1, BEST] if stack[0, 0] == 0 else -levels[1, BEST]
                if value > at[ROOT_BEST]:
                    at[ROOT_BEST], at[EQUALS] = value, 0
                if value == at[ROOT_BEST]:
                    at[EQUALS] += 1
                    if below(words, at[EQUALS]) == 0:
                        chosen[row] = at[MOVE]
            at[MOVE] += 1
        values[row] = at[ROOT_BEST]
        at[ROW] += 1
        at[MOVE] = 0


def look_ahead(
    game: Game, states: NDArray[np.integer], keys: NDArray[np.int64], depth: int, stop: Stop = never
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(actions, values), each [n]: a best action of each state (drawn by its key among equals) and what it is worth.

    A value is of the player to move: 0 when nothing is decided within `depth` actions, +k for a win and -k for a loss
    that comes depth + 1 - k actions from now. Where stop() ends it, what it has not come to is action -1 and value 0.
    """
    chosen, values = np.full(len(states), -1, np.int64), np.zeros(len(states), np.int64)
    at, words = np.zeros(6, np.int64), np.zeros(4, np.int64)
    stack, masks = np.zeros((depth + 1, game.state_size), game.dtype), np.zeros((depth + 1, game.num_actions), np.bool_)
    levels, run = np.zeros((depth + 1, 4), np.int64), minimax_moves[game.dtype]

    def work(most: int) -> bool:
        at[MOST] = most
        run(
            states, keys, at, stack, masks, levels, words, chosen, values, game.apply, game.legal, game.outcome,
        )  # fmt: skip
        return bool(at[ROW] == len(states))

    in_slices(work, FIRST_SLICE, stop)
    return chosen, values


class MinimaxPlayer:
    """Perfect to `depth` actions, blind beyond; equally good moves are drawn by the key. Depth 9 solves tictactoe."""

    def __init__(self, game: Game, depth: int) -> None:
        self.game = game
        self.depth = min(depth, game.max_plies)
        self.name = f"minimax:{depth}"

    def choose(self, states: NDArray[np.integer], keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """[n] actions for states [n, S] (none of them over) and keys [n]."""
        return look_ahead(self.game, states, keys, self.depth)[0]

    def choose_until(self, state: NDArray[np.integer], key: int, stop: Stop) -> int:
        """The action that `choose` finds for one state; once stop() is true the best one of those looked at so far."""
        keys = np.array([key], np.int64)
        found = int(look_ahead(self.game, state[None], keys, self.depth, stop)[0][0])
        return found if found >= 0 else int(look_ahead(self.game, state[None], keys, 1)[0][0])
