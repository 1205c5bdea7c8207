"""A player without a network: Monte-Carlo tree search with random play to the end (UCT).

UCB1 of Auer, Cesa-Bianchi and Fischer 2002 in a tree, Kocsis and Szepesvári 2006: among the tried moves the one with
the greatest w/n + sqrt(2) sqrt(ln N / n), w counting a win as 1 and a draw as 1/2. Untried moves come first, in random
order. A simulation adds one node.
"""

from __future__ import annotations

import math

import numpy as np
from numba import types
from numpy.typing import NDArray

from az.engine.game import Game
from az.engine.jit import helper, state_kernel
from az.engine.players.slices import Stop, in_slices, never
from az.engine.rng import below, seed_words

# A node is one row. Children form a list (FIRST, then NEXT), so a tree of N simulations takes N + 1 rows however many
# actions the game has. TOTAL is always counted for player 0: no sign changes on the way up, even where a player moves
# twice in a row.
ACTION, PARENT, FIRST, NEXT, VISITS, TOTAL, UNTRIED, RESULT = range(8)
FIELDS = 8
ROW, MADE, USED = range(3)  # where a call goes on: the state, simulations made for it, nodes of its tree
FIRST_SLICE = 64  # simulations


@helper
def _count(mask):
    total = 0
    for action in range(len(mask)):
        total += mask[action]
    return total


@helper
def _pick(mask, count, words):
    """One of the `count` marked actions, each alike."""
    skip = below(words, count)
    for action in range(len(mask)):
        if mask[action]:
            if skip == 0:
                return action
            skip -= 1
    return -1


@helper
def _for_player_0(result, state):
    return result if state[0] == 0 else -result


@helper
def _add_node(nodes, node, parent, action, untried, result):
    nodes[node, ACTION] = action
    nodes[node, PARENT] = parent
    nodes[node, FIRST] = -1
    nodes[node, NEXT] = -1
    nodes[node, VISITS] = 0
    nodes[node, TOTAL] = 0
    nodes[node, UNTRIED] = untried
    nodes[node, RESULT] = result
    if parent >= 0:
        nodes[node, NEXT] = nodes[parent, FIRST]
        nodes[parent, FIRST] = node
        nodes[parent, UNTRIED] -= 1


@helper
def _ucb_child(nodes, node, mover):
    """The child with the greatest UCB1, seen by the player who moves."""
    log_visits = math.log(nodes[node, VISITS])
    side = 0.5 if mover == 0 else -0.5
    best, best_score = -1, -1.0
    child = nodes[node, FIRST]
    while child >= 0:
        visits = nodes[child, VISITS]
        score = 0.5 + side * nodes[child, TOTAL] / visits + math.sqrt(2.0 * log_visits / visits)
        if score > best_score:
            best, best_score = child, score
        child = nodes[child, NEXT]
    return best


@helper
def _most_visited(nodes, mover):
    """The root's most visited move; among equals the one that scored more, then the one tried last."""
    best, best_visits, best_total = -1, -1, 0
    child = nodes[0, FIRST]
    while child >= 0:
        visits = nodes[child, VISITS]
        total = nodes[child, TOTAL] if mover == 0 else -nodes[child, TOTAL]
        if visits > best_visits or (visits == best_visits and total > best_total):
            best, best_visits, best_total = nodes[child, ACTION], visits, total
        child = nodes[child, NEXT]
    return best


@helper
def _simulate(nodes, used, state, mask, words, apply, legal, outcome):
    """One simulation from the root position in `state`, which it overwrites. Returns how many nodes are used then."""
    node = 0
    while nodes[node, UNTRIED] == 0 and nodes[node, FIRST] >= 0:
        node = _ucb_child(nodes, node, state[0])
        apply(state, nodes[node, ACTION])
    result = nodes[node, RESULT]
    if nodes[node, UNTRIED] > 0:
        legal(state, mask)
        child = nodes[node, FIRST]
        while child >= 0:
            mask[nodes[child, ACTION]] = False
            child = nodes[child, NEXT]
        action = _pick(mask, nodes[node, UNTRIED], words)
        apply(state, action)
        legal(state, mask)
        count = _count(mask)
        _add_node(nodes, used, node, action, count, 0)
        ended = count == 0
        while count > 0:  # no legal action means that the game is over: cheaper than asking for the outcome every ply
            apply(state, _pick(mask, count, words))
            legal(state, mask)
            count = _count(mask)
        result = _for_player_0(outcome(state), state)
        if ended:
            nodes[used, RESULT] = result
        node = used
        used += 1
    while node >= 0:
        nodes[node, VISITS] += 1
        nodes[node, TOTAL] += result
        node = nodes[node, PARENT]
    return used


@state_kernel(
    lambda t: types.void(
        t.states,
        types.int64[::1],
        types.int64,
        types.int64,
        types.int64[::1],
        types.int64[:, ::1],
        t.state,
        types.boolean[::1],
        types.int64[::1],
        types.int64[::1],
        t.pointer("apply"),
        t.pointer("legal"),
        t.pointer("outcome"),
    )
)
def uct_moves(states, keys, simulations, most, at, nodes, state, mask, words, chosen, apply, legal, outcome):
    """Fill chosen[i] for states[i] and keys[i], `most` simulations in this call: what is known so far stands there.

    at: [3] int64, zeros for the first call; the next one goes on from there with the same nodes and words. Done when
    at[ROW] == len(states). nodes, state, mask and words are scratch, reused for each tree.
    """
    while at[ROW] < len(states):
        root = states[at[ROW]]
        if at[MADE] == 0:
            seed_words(keys[at[ROW]], words)
            legal(root, mask)
            _add_node(nodes, 0, -1, -1, _count(mask), 0)
            at[USED] = 1
        used, now = at[USED], min(simulations - at[MADE], most)
        for _ in range(now):
            for word in range(len(state)):
                state[word] = root[word]
            used = _simulate(nodes, used, state, mask, words, apply, legal, outcome)
        at[USED] = used
        at[MADE] += now
        most -= now
        chosen[at[ROW]] = _most_visited(nodes, root[0])
        if at[MADE] < simulations:
            return
        at[ROW] += 1
        at[MADE] = 0


class RolloutPlayer:
    """Plain MCTS: `simulations` random games for each move (see the module)."""

    def __init__(self, game: Game, simulations: int) -> None:
        self.game = game
        self.simulations = simulations
        self.name = f"rollouts:{simulations}"

    def choose(self, states: NDArray[np.integer], keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """[n] actions for states [n, S] (none of them over) and keys [n]."""
        return self._chosen(states, keys, never)

    def choose_until(self, state: NDArray[np.integer], key: int, stop: Stop) -> int:
        """The action that `choose` finds for one state, or the best one so far once stop() is true."""
        return int(self._chosen(state[None], np.array([key], np.int64), stop)[0])

    def _chosen(self, states: NDArray[np.integer], keys: NDArray[np.int64], stop: Stop) -> NDArray[np.int64]:
        game = self.game
        chosen, at = np.full(len(states), -1, np.int64), np.zeros(3, np.int64)
        nodes = np.zeros((self.simulations + 1, FIELDS), np.int64)
        state, mask = np.zeros(game.state_size, game.dtype), np.zeros(game.num_actions, np.bool_)
        words, run = np.zeros(4, np.int64), uct_moves[game.dtype]

        def work(most: int) -> bool:
            run(
                states, keys, self.simulations, most, at, nodes, state, mask, words, chosen,
                game.apply, game.legal, game.outcome,
            )  # fmt: skip
            return bool(at[ROW] == len(states))

        in_slices(work, FIRST_SLICE, stop)
        return chosen
