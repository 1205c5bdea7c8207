"""One step of many searches: walk every tree to a leaf, and after the evaluation expand and back up."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from az.engine.jit import copy_into, helper, kernel, state_kernel
from az.engine.jit.pointers import apply_at, encode_at, legal_at, outcome_at
from az.engine.rng import gumbel, log_gamma_sample
from az.engine.search.cache import CACHE, find, remember
from az.engine.search.params import UNKNOWN
from az.engine.search.prove import plies_of, prove_root, prover_type
from az.engine.search.select import select_gumbel_inner, select_gumbel_root, select_puct
from az.engine.search.tree import LEAVES, SCHEDULES, SETTINGS, TREES, UNVISITED, Roots, Settings, Trees, roots_type

ONGOING, WIN, LOSS = 2, 1, -1
# Not plain numbers: numba compiles a helper again for each literal that it is handed.
ROOT, NO_PARENT = np.int64(0), np.int64(-1)
LEAF, ENDED, COLLISION = 0, 1, 2
ONLY_MOVES = 16  # in a row, that a walk follows past a new node before the network is asked after all


@helper
def new_node(trees, b, parent, parent_edge, player):
    """A node that the network has not judged yet."""
    node = trees.nodes_used[b]
    trees.nodes_used[b] = node + 1
    trees.node[b, node].first_edge = 0
    trees.node[b, node].num_edges = 0
    trees.node[b, node].parent = parent
    trees.node[b, node].parent_edge = parent_edge
    trees.node[b, node].player = player
    trees.node[b, node].visits = 0
    trees.node[b, node].value_sum = 0.0
    trees.node[b, node].raw_value = 0.0
    trees.node[b, node].proven = UNKNOWN
    trees.node[b, node].proof_plies = 0
    trees.node[b, node].inflight = 0
    return node


@helper
def prove_from_edges(trees: Trees, b: int, node: int) -> bool:
    """Prove a node from its edges: one winning edge, or all edges proven. Says whether it is proven."""
    first, count = trees.node[b, node].first_edge, trees.node[b, node].num_edges
    best, shortest_win, longest = LOSS, 1 << 30, 0
    complete = True
    for e in range(first, first + count):
        proven = trees.edge[b, e].edge_proven
        if proven == UNKNOWN:
            complete = False
            continue
        plies = plies_of(trees, b, e) + 1
        if proven == WIN:
            shortest_win = min(shortest_win, plies)
        longest = max(longest, plies)
        best = max(best, proven)
    if best == WIN:
        trees.node[b, node].proven = WIN
        trees.node[b, node].proof_plies = shortest_win
        return True
    if complete and count > 0:
        trees.node[b, node].proven = best
        trees.node[b, node].proof_plies = longest
        return True
    return False


@helper
def back_up(trees, settings, b, leaf, value, was_inflight):
    """Add a value (view of the leaf's player) to every node and edge on the way up; carry proofs as far as they go."""
    node = leaf
    trees.node[b, node].visits += 1
    trees.node[b, node].value_sum += value
    proving = settings.solve == 1 and trees.node[b, node].proven != UNKNOWN
    while node != 0:
        parent, e = trees.node[b, node].parent, trees.node[b, node].parent_edge
        same = trees.node[b, parent].player == trees.node[b, node].player
        if not same:
            value = -value
        if trees.node[b, parent].visits == 0:  # its only move was followed: the network has judged what comes after
            trees.node[b, parent].raw_value = value
        trees.edge[b, e].edge_visits += 1
        trees.edge[b, e].edge_value += value
        if proving and trees.edge[b, e].edge_proven == UNKNOWN:
            trees.edge[b, e].edge_proven = trees.node[b, node].proven if same else -trees.node[b, node].proven
            proving = prove_from_edges(trees, b, parent)
            if proving:
                value = float(trees.node[b, parent].proven)
        else:
            proving = False
        trees.node[b, parent].visits += 1
        trees.node[b, parent].value_sum += value
        if was_inflight:
            trees.edge[b, e].edge_inflight -= 1
            trees.node[b, parent].inflight -= 1
        node = parent


@helper
def forget_walk(trees: Trees, b: int, node: int) -> None:
    """A walk that met a leaf already in flight: take its marks back."""
    while node != 0:
        trees.edge[b, trees.node[b, node].parent_edge].edge_inflight -= 1
        node = trees.node[b, node].parent
        trees.node[b, node].inflight -= 1


@helper
def draw_root_noise(trees: Trees, roots: Roots, settings: Settings, b: int) -> None:
    """Temperature and Dirichlet noise on the root's priors, and its Gumbel draws."""
    first, count = trees.node[b, 0].first_edge, trees.node[b, 0].num_edges
    top = -1e30
    for i in range(count):
        top = max(top, float(trees.edge[b, first + i].logit) / settings.root_temperature)
    mass = 0.0
    for i in range(count):
        roots.prior[b, i] = math.exp(float(trees.edge[b, first + i].logit) / settings.root_temperature - top)
        mass += float(roots.prior[b, i])
    for i in range(count):
        roots.prior[b, i] = float(roots.prior[b, i]) / mass
    words = roots.random[b]
    fraction = roots.noise_fraction[b]
    if fraction > 0.0:
        top = -1e300
        for i in range(count):  # the draws wait in `gumbel`, which Gumbel search alone uses afterwards
            roots.gumbel[b, i] = log_gamma_sample(words, settings.noise_alpha / count)
            top = max(top, float(roots.gumbel[b, i]))
        mass = 0.0
        for i in range(count):
            mass += math.exp(float(roots.gumbel[b, i]) - top)
        for i in range(count):
            noise = math.exp(float(roots.gumbel[b, i]) - top) / mass
            roots.prior[b, i] = (1.0 - fraction) * float(roots.prior[b, i]) + fraction * noise
    if settings.gumbel == 1:
        for i in range(count):
            roots.gumbel[b, i] = gumbel(words) if roots.gumbel_scale[b] > 0.0 else 0.0
    roots.prepared[b] = 1


@helper
def untried_beside_a_win(trees: Trees, b: int) -> int:
    """An edge of the root that no walk has tried, where a win is proven that takes more than one action; else -1.

    It may win at once: a first walk can prove a longer win when only moves lead to the end of the game.
    """
    if trees.node[b, 0].proven != WIN or trees.node[b, 0].proof_plies <= 1:
        return -1
    first = trees.node[b, 0].first_edge
    for e in range(first, first + trees.node[b, 0].num_edges):
        if trees.edge[b, e].edge_visits + trees.edge[b, e].edge_inflight == 0:
            return e
    return -1


@helper
def descend(trees, roots, settings, schedules, b, state, apply, outcome):
    """Walk tree b from its root to a leaf; `state` becomes the leaf's. Returns (what it met, node)."""
    node = ROOT
    while True:
        if node != 0 and settings.solve == 1 and trees.node[b, node].proven != UNKNOWN:
            return ENDED, node
        if trees.node[b, node].num_edges == 0:
            if trees.node[b, node].proven != UNKNOWN:
                return ENDED, node
            return COLLISION, node
        quicker = untried_beside_a_win(trees, b) if node == 0 else -1
        if quicker >= 0:
            e = quicker
        elif settings.gumbel == 0:
            e = select_puct(trees, roots, settings, b, node)
        elif node == 0:
            e = select_gumbel_root(trees, roots, settings, schedules, b)
        else:
            e = select_gumbel_inner(trees, settings, b, node)
        trees.edge[b, e].edge_inflight += 1
        trees.node[b, node].inflight += 1
        apply(state, int(trees.edge[b, e].action))
        child = trees.edge[b, e].child
        if child == UNVISITED:
            child = new_node(trees, b, node, e, state[0])
            trees.edge[b, e].child = child
            result = outcome(state)
            if result == ONGOING:
                return LEAF, child
            trees.node[b, child].proven = result
            return ENDED, child
        node = child


@helper
def fresh_edge(trees: Trees, b: int, e: int, prior: float) -> None:
    """An edge that no walk has taken."""
    trees.edge[b, e].prior = prior
    trees.edge[b, e].edge_visits = 0
    trees.edge[b, e].edge_value = 0.0
    trees.edge[b, e].edge_inflight = 0
    trees.edge[b, e].edge_proven = UNKNOWN
    trees.edge[b, e].child = UNVISITED


@helper
def only_action(mask: NDArray[np.bool_]) -> int:
    """The legal action, where there is just one; -1 otherwise."""
    found = -1
    for action in range(mask.shape[0]):
        if mask[action]:
            if found >= 0:
                return -1
            found = action
    return found


@helper
def follow_only_moves(
    trees: Trees, b: int, node: int, state: NDArray[Any], mask: NDArray[np.bool_], apply: Any, legal: Any, outcome: Any
) -> tuple[int, int]:
    """Walk on from a new node while its player has one move only; `mask` becomes the last node's legal actions.

    Nothing is chosen there, and in the middle of an exchange a position is hard to judge. Returns (what it met, node).
    """
    for _ in range(ONLY_MOVES):
        legal(state, mask)
        action = only_action(mask)
        if action < 0:
            return LEAF, node
        e = trees.edges_used[b]
        trees.edges_used[b] = e + 1
        trees.edge[b, e].action = action
        trees.edge[b, e].logit = 0.0
        fresh_edge(trees, b, e, 1.0)
        trees.edge[b, e].edge_inflight = 1
        trees.node[b, node].first_edge = e
        trees.node[b, node].num_edges = 1
        trees.node[b, node].inflight += 1
        apply(state, action)
        child = new_node(trees, b, node, e, state[0])
        trees.edge[b, e].child = child
        result = outcome(state)
        if result != ONGOING:
            trees.node[b, child].proven = result
            return ENDED, child
        node = child
    legal(state, mask)
    return LEAF, node


@helper
def wants_proof(trees: Trees, roots: Roots, settings: Settings, b: int) -> bool:
    """Whether to try a proof of the root now: walks have met the end of the game, and no try was nearly as long.

    Of positions of connect four where one of 16 walks meets an end, two thirds and more can be proven (docs/log.md).
    """
    if settings.prove == 0 or roots.ended[b] == 0 or trees.node[b, 0].proven != UNKNOWN or trees.node[b, 0].inflight:
        return False
    enough = 2 * roots.started[b] >= min(32, roots.target[b])
    return enough and settings.prove * np.int64(roots.target[b]) >= 2 * roots.tried[b]


@helper
def add_edges(trees, b, node, mask, logits):
    """One edge for each legal action; its prior is the softmax over the legal actions."""
    first = trees.edges_used[b]
    e, top = first, -1e30
    for action in range(mask.shape[0]):
        if mask[action]:
            trees.edge[b, e].action = action
            trees.edge[b, e].logit = logits[action]
            top = max(top, float(logits[action]))
            e += 1
    mass = 0.0
    for i in range(first, e):
        part = math.exp(float(trees.edge[b, i].logit) - top)
        trees.edge[b, i].edge_value = part  # in double precision, for a moment
        mass += part
    log_mass = top + math.log(mass)
    for i in range(first, e):
        trees.edge[b, i].logit = float(trees.edge[b, i].logit) - log_mass
        fresh_edge(trees, b, i, trees.edge[b, i].edge_value / mass)
    trees.node[b, node].first_edge = first
    trees.node[b, node].num_edges = e - first
    trees.edges_used[b] = e


@helper
def known(trees, settings, leaves, cache, row, b, node):
    """Whether the cache knew the position that stands in this row; then its node is expanded and backed up already."""
    if cache.values.shape[0] <= 1:
        return False
    entry = find(cache, leaves.words[row], leaves.mask[row], leaves.key[row])
    if entry < 0:
        return False
    add_edges(trees, b, node, leaves.mask[row], cache.logits[entry])
    trees.node[b, node].raw_value = cache.values[entry]
    back_up(trees, settings, b, node, np.float64(cache.values[entry]), node != 0)
    return True


@state_kernel(
    lambda t: types.int64(
        TREES,
        roots_type(t.states),
        SETTINGS,
        SCHEDULES,
        LEAVES,
        CACHE,
        prover_type(t),
        t.state,
        types.int64[::1],
        types.int64[::1],
        *[types.int64] * 4,
    )
)
def gather(trees, roots, settings, schedules, leaves, cache, prover, state, active, full, rule1, rule2, rule3, rule4):
    """Walk every active tree until `settings.leaves` leaves wait for the network, or its simulations are all begun.

    active: [n] trees to walk. full: [1] set to 1 when some tree had no room (grow the trees and go on). A root that the
    network has not judged waits alone and is not a simulation. Returns the number of rows filled in `leaves`.
    rule1 … rule4: addresses of apply, legal, outcome and encode.
    """
    apply, legal = apply_at(rule1, state), legal_at(rule2, state)
    outcome, encode = outcome_at(rule3, state), encode_at(rule4, state)
    rows = np.int64(0)
    actions = leaves.mask.shape[1]
    room = trees.node.shape[1]
    edge_room = trees.edge.shape[1]
    step_nodes = settings.leaves * (ONLY_MOVES + 1)
    step_edges = settings.leaves * (ONLY_MOVES + actions)
    for b in active:
        waiting = 0
        if trees.nodes_used[b] == 0:
            new_node(trees, b, NO_PARENT, NO_PARENT, roots.state[b, 0])
        if trees.node[b, 0].num_edges == 0:
            if trees.edges_used[b] + actions > edge_room:
                full[0] = 1
                continue
            copy_into(state, roots.state[b])
            encode(state, leaves.planes[rows])
            legal(state, leaves.mask[rows])
            leaves.tree[rows], leaves.node[rows] = b, 0
            if not known(trees, settings, leaves, cache, rows, b, ROOT):
                rows += 1
                continue
        if roots.prepared[b] == 0:
            draw_root_noise(trees, roots, settings, b)
        left = roots.target[b] - roots.started[b]
        if left > 0 and (
            trees.nodes_used[b] + left + step_nodes > room or trees.edges_used[b] + step_edges > edge_room
        ):
            full[0] = 1  # before the step, not in it: a step that is broken off has fewer leaves in flight
            continue
        while waiting < settings.leaves and roots.started[b] < roots.target[b]:
            if trees.nodes_used[b] + step_nodes > room or trees.edges_used[b] + step_edges > edge_room:
                full[0] = 1  # what the cache knew, and only moves, have filled the room
                break
            if wants_proof(trees, roots, settings, b):
                most = roots.tried[b] = settings.prove * np.int64(roots.target[b])
                if prove_root(trees, prover, b, roots.state[b], most, apply, legal, outcome):
                    roots.target[b] = roots.started[b]
                    break
            copy_into(state, roots.state[b])
            met, node = descend(trees, roots, settings, schedules, b, state, apply, outcome)
            if met == COLLISION:
                forget_walk(trees, b, node)
                break
            if met == LEAF:
                met, node = follow_only_moves(trees, b, node, state, leaves.mask[rows], apply, legal, outcome)
            roots.started[b] += 1
            if met == ENDED:
                roots.ended[b] += 1
                back_up(trees, settings, b, node, np.float64(trees.node[b, node].proven), node != 0)
                continue
            encode(state, leaves.planes[rows])
            leaves.tree[rows], leaves.node[rows] = b, node
            if not known(trees, settings, leaves, cache, rows, b, node):
                rows += 1
                waiting += 1
    return rows


@kernel(types.void(TREES, SETTINGS, LEAVES, CACHE, types.int64))
def expand(trees, settings, leaves, cache, rows):
    """Give each judged leaf its edges and back its value up; remember the answers."""
    for row in range(rows):
        b, node = np.int64(leaves.tree[row]), np.int64(leaves.node[row])
        add_edges(trees, b, node, leaves.mask[row], leaves.logits[row])
        trees.node[b, node].raw_value = leaves.values[row]
        back_up(trees, settings, b, node, np.float64(leaves.values[row]), node != 0)
        if cache.values.shape[0] > 1:
            remember(cache, leaves.key[row], leaves.logits[row], leaves.values[row])
