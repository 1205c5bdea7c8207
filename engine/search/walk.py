"""One step of many searches: walk every tree to a leaf, and after the evaluation expand and back up."""

from __future__ import annotations

import math

from numba import types

from az.engine.jit import apply_at, copy_into, encode_at, helper, kernel, legal_at, outcome_at, state_kernel
from az.engine.rng import gumbel, log_gamma_sample
from az.engine.search.cache import CACHE, find, remember
from az.engine.search.params import UNKNOWN
from az.engine.search.select import select_gumbel_inner, select_gumbel_root, select_puct
from az.engine.search.tree import LEAVES, SCHEDULES, SETTINGS, TREES, UNVISITED, roots_type

ONGOING, WIN, LOSS = 2, 1, -1
LEAF, ENDED, COLLISION = 0, 1, 2


@helper
def new_node(trees, b, parent, parent_edge, player):
    """A node that the network has not judged yet."""
    node = trees.nodes_used[b]
    trees.nodes_used[b] = node + 1
    trees.first_edge[b, node] = 0
    trees.num_edges[b, node] = 0
    trees.parent[b, node] = parent
    trees.parent_edge[b, node] = parent_edge
    trees.player[b, node] = player
    trees.visits[b, node] = 0
    trees.value_sum[b, node] = 0.0
    trees.raw_value[b, node] = 0.0
    trees.proven[b, node] = UNKNOWN
    trees.proof_plies[b, node] = 0
    trees.inflight[b, node] = 0
    return node


@helper
def prove_from_edges(trees, b, node):
    """Prove a node from its edges: one winning edge, or all edges proven. Says whether it is proven."""
    first, count = trees.first_edge[b, node], trees.num_edges[b, node]
    best, shortest_win, longest = LOSS, 1 << 30, 0
    complete = True
    for e in range(first, first + count):
        proven = trees.edge_proven[b, e]
        if proven == UNKNOWN:
            complete = False
            continue
        plies = trees.proof_plies[b, trees.child[b, e]] + 1
        if proven == WIN:
            shortest_win = min(shortest_win, plies)
        longest = max(longest, plies)
        best = max(best, proven)
    if best == WIN:
        trees.proven[b, node] = WIN
        trees.proof_plies[b, node] = shortest_win
        return True
    if complete and count > 0:
        trees.proven[b, node] = best
        trees.proof_plies[b, node] = longest
        return True
    return False


@helper
def back_up(trees, settings, b, leaf, value, was_inflight):
    """Add a value (view of the leaf's player) to every node and edge on the way up; carry proofs as far as they go."""
    node = leaf
    trees.visits[b, node] += 1
    trees.value_sum[b, node] += value
    proving = settings.solve == 1 and trees.proven[b, node] != UNKNOWN
    while node != 0:
        parent, e = trees.parent[b, node], trees.parent_edge[b, node]
        same = trees.player[b, parent] == trees.player[b, node]
        if not same:
            value = -value
        trees.edge_visits[b, e] += 1
        trees.edge_value[b, e] += value
        if proving and trees.edge_proven[b, e] == UNKNOWN:
            trees.edge_proven[b, e] = trees.proven[b, node] if same else -trees.proven[b, node]
            proving = prove_from_edges(trees, b, parent)
            if proving:
                value = float(trees.proven[b, parent])
        else:
            proving = False
        trees.visits[b, parent] += 1
        trees.value_sum[b, parent] += value
        if was_inflight:
            trees.edge_inflight[b, e] -= 1
            trees.inflight[b, parent] -= 1
        node = parent


@helper
def forget_walk(trees, b, node):
    """A walk that met a leaf already in flight: take its marks back."""
    while node != 0:
        trees.edge_inflight[b, trees.parent_edge[b, node]] -= 1
        node = trees.parent[b, node]
        trees.inflight[b, node] -= 1


@helper
def draw_root_noise(trees, roots, settings, b):
    """Temperature and Dirichlet noise on the root's priors, and its Gumbel draws."""
    first, count = trees.first_edge[b, 0], trees.num_edges[b, 0]
    top = -1e30
    for i in range(count):
        top = max(top, float(trees.logit[b, first + i]) / settings.root_temperature)
    mass = 0.0
    for i in range(count):
        roots.prior[b, i] = math.exp(float(trees.logit[b, first + i]) / settings.root_temperature - top)
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
def descend(trees, roots, settings, schedules, b, state, apply, outcome):
    """Walk tree b from its root to a leaf; `state` becomes the leaf's. Returns (what it met, node)."""
    node = 0
    while True:
        if node != 0 and settings.solve == 1 and trees.proven[b, node] != UNKNOWN:
            return ENDED, node
        if trees.num_edges[b, node] == 0:
            if trees.proven[b, node] != UNKNOWN:
                return ENDED, node
            return COLLISION, node
        if settings.gumbel == 0:
            e = select_puct(trees, roots, settings, b, node)
        elif node == 0:
            e = select_gumbel_root(trees, roots, settings, schedules, b)
        else:
            e = select_gumbel_inner(trees, settings, b, node)
        trees.edge_inflight[b, e] += 1
        trees.inflight[b, node] += 1
        apply(state, int(trees.action[b, e]))
        child = trees.child[b, e]
        if child == UNVISITED:
            child = new_node(trees, b, node, e, state[0])
            trees.child[b, e] = child
            result = outcome(state)
            if result == ONGOING:
                return LEAF, child
            trees.proven[b, child] = result
            return ENDED, child
        node = child


@helper
def add_edges(trees, b, node, mask, logits):
    """One edge for each legal action; its prior is the softmax over the legal actions."""
    first = trees.edges_used[b]
    e, top = first, -1e30
    for action in range(mask.shape[0]):
        if mask[action]:
            trees.action[b, e] = action
            trees.logit[b, e] = logits[action]
            top = max(top, float(logits[action]))
            e += 1
    mass = 0.0
    for i in range(first, e):
        part = math.exp(float(trees.logit[b, i]) - top)
        trees.edge_value[b, i] = part  # in double precision, for a moment
        mass += part
    log_mass = top + math.log(mass)
    for i in range(first, e):
        trees.logit[b, i] = float(trees.logit[b, i]) - log_mass
        trees.prior[b, i] = trees.edge_value[b, i] / mass
        trees.edge_visits[b, i] = 0
        trees.edge_value[b, i] = 0.0
        trees.edge_inflight[b, i] = 0
        trees.edge_proven[b, i] = UNKNOWN
        trees.child[b, i] = UNVISITED
    trees.first_edge[b, node] = first
    trees.num_edges[b, node] = e - first
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
    trees.raw_value[b, node] = cache.values[entry]
    back_up(trees, settings, b, node, float(cache.values[entry]), node != 0)
    return True


@state_kernel(
    lambda t: types.int64(
        TREES,
        roots_type(t.states),
        SETTINGS,
        SCHEDULES,
        LEAVES,
        CACHE,
        t.state,
        types.int64[::1],
        types.int64[::1],
        *[types.int64] * 4,
    )
)
def gather(trees, roots, settings, schedules, leaves, cache, state, active, full, rule1, rule2, rule3, rule4):
    """Walk every active tree until `settings.leaves` leaves wait for the network, or its simulations are all begun.

    active: [n] trees to walk. full: [1] set to 1 when some tree had no room (grow the trees and go on). A root that the
    network has not judged waits alone and is not a simulation. Returns the number of rows filled in `leaves`.
    rule1 … rule4: addresses of apply, legal, outcome and encode.
    """
    apply, legal = apply_at(rule1, state), legal_at(rule2, state)
    outcome, encode = outcome_at(rule3, state), encode_at(rule4, state)
    rows = 0
    actions = leaves.mask.shape[1]
    room = trees.first_edge.shape[1]
    edge_room = trees.action.shape[1]
    for b in active:
        waiting = 0
        if trees.nodes_used[b] == 0:
            new_node(trees, b, -1, -1, roots.state[b, 0])
        if trees.num_edges[b, 0] == 0:
            if trees.edges_used[b] + actions > edge_room:
                full[0] = 1
                continue
            copy_into(state, roots.state[b])
            encode(state, leaves.planes[rows])
            legal(state, leaves.mask[rows])
            leaves.tree[rows], leaves.node[rows] = b, 0
            if not known(trees, settings, leaves, cache, rows, b, 0):
                rows += 1
                continue
        if roots.prepared[b] == 0:
            draw_root_noise(trees, roots, settings, b)
        left = roots.target[b] - roots.started[b]
        if left > 0 and (
            trees.nodes_used[b] + left > room or trees.edges_used[b] + settings.leaves * actions > edge_room
        ):
            full[0] = 1  # before the step, not in it: a step that is broken off has fewer leaves in flight
            continue
        while waiting < settings.leaves and roots.started[b] < roots.target[b]:
            if trees.edges_used[b] + settings.leaves * actions > edge_room:
                full[0] = 1  # what the cache knew has filled the room
                break
            copy_into(state, roots.state[b])
            met, node = descend(trees, roots, settings, schedules, b, state, apply, outcome)
            if met == COLLISION:
                forget_walk(trees, b, node)
                break
            roots.started[b] += 1
            if met == ENDED:
                back_up(trees, settings, b, node, float(trees.proven[b, node]), True)
                continue
            encode(state, leaves.planes[rows])
            legal(state, leaves.mask[rows])
            leaves.tree[rows], leaves.node[rows] = b, node
            if not known(trees, settings, leaves, cache, rows, b, node):
                rows += 1
                waiting += 1
    return rows


@kernel(types.void(TREES, SETTINGS, LEAVES, CACHE, types.int64))
def expand(trees, settings, leaves, cache, rows):
    """Give each judged leaf its edges and back its value up; remember the answers."""
    for row in range(rows):
        b, node = leaves.tree[row], leaves.node[row]
        add_edges(trees, b, node, leaves.mask[row], leaves.logits[row])
        trees.raw_value[b, node] = leaves.values[row]
        back_up(trees, settings, b, node, float(leaves.values[row]), node != 0)
        if cache.values.shape[0] > 1:
            remember(cache, leaves.key[row], leaves.logits[row], leaves.values[row])
