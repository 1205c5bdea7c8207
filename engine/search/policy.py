"""What a finished search says: its policy, its move, and the line it expects."""

from __future__ import annotations

import math

from numba import types

from az.engine.jit import helper, kernel, state_kernel
from az.engine.rng import uniform
from az.engine.search.params import UNKNOWN
from az.engine.search.prove import plies_of
from az.engine.search.select import ROOT, edge_q, gumbel_score, mixed_value, sigma_scale
from az.engine.search.tree import SETTINGS, TREES, Float64, Trees, roots_type

WIN, DRAW, LOSS = 1, 0, -1


@helper
def best_proven(trees, b):
    """WIN if some root edge is a proven win, LOSS if all are lost, DRAW if that is proven, else UNKNOWN."""
    first, count = trees.node[b, 0].first_edge, trees.node[b, 0].num_edges
    lost, drawn = count > 0, False
    for e in range(first, first + count):
        if trees.edge[b, e].edge_proven == WIN:
            return WIN
        lost = lost and trees.edge[b, e].edge_proven == LOSS
        drawn = drawn or trees.edge[b, e].edge_proven == DRAW
    if lost:
        return LOSS
    return DRAW if drawn and trees.node[b, 0].proven == DRAW else UNKNOWN


@helper
def allowed(trees, b, e, proven):
    """Whether an edge may be played: what keeps a proven win or draw, never a loss where something else is left."""
    if proven in (WIN, DRAW):
        return trees.edge[b, e].edge_proven == proven
    return proven == LOSS or trees.edge[b, e].edge_proven != LOSS


@helper
def _visit_policy(trees, b, proven, policy):
    """Shares of visits over the allowed edges; of the priors, where none of them was visited."""
    first, count = trees.node[b, 0].first_edge, trees.node[b, 0].num_edges
    total, mass, options = 0.0, 0.0, 0
    for e in range(first, first + count):
        if allowed(trees, b, e, proven):
            total += trees.edge[b, e].edge_visits
            mass += float(trees.edge[b, e].prior)
            options += 1
    for i in range(count):
        e = first + i
        if not allowed(trees, b, e, proven):
            policy[i] = 0.0
        elif total > 0:
            policy[i] = trees.edge[b, e].edge_visits / total
        else:
            policy[i] = float(trees.edge[b, e].prior) / mass if mass > 0 else 1.0 / options


@helper
def _gumbel_policy(trees, settings, b, proven, policy):
    """softmax(logits + sigma(completed q)) over the allowed edges: Danihelka et al. 2022, equation 11."""
    first, count = trees.node[b, 0].first_edge, trees.node[b, 0].num_edges
    unvisited = mixed_value(trees, b, ROOT)
    scale = sigma_scale(trees, settings, b, ROOT)
    top, mass = -1e30, 0.0
    for e in range(first, first + count):
        if allowed(trees, b, e, proven):
            top = max(top, float(trees.edge[b, e].logit) + scale * edge_q(trees, b, e, unvisited))
    for i in range(count):
        e = first + i
        policy[i] = 0.0
        if allowed(trees, b, e, proven):
            policy[i] = math.exp(float(trees.edge[b, e].logit) + scale * edge_q(trees, b, e, unvisited) - top)
            mass += policy[i]
    for i in range(count):
        policy[i] /= mass


@helper
def write_policy(trees, settings, b, policy):
    """Write the search's policy over the root's edges into `policy` [>= edges]; returns the number of edges."""
    proven = best_proven(trees, b)
    if settings.gumbel == 1:
        _gumbel_policy(trees, settings, b, proven, policy)
    else:
        _visit_policy(trees, b, proven, policy)
    return trees.node[b, 0].num_edges


@helper
def policy_value(trees: Trees, b: int, policy: Float64) -> float:
    """The root's value if its moves are played by `policy`, which `write_policy` wrote."""
    first, count = trees.node[b, 0].first_edge, trees.node[b, 0].num_edges
    unvisited = mixed_value(trees, b, ROOT)
    value = 0.0
    for i in range(count):
        value += policy[i] * edge_q(trees, b, first + i, unvisited)
    return min(1.0, max(-1.0, value))


@kernel(types.int64(TREES, SETTINGS, types.int64, types.float64[::1]))
def root_policy(trees, settings, b, policy):
    """`write_policy` for Python."""
    return write_policy(trees, settings, b, policy)


@helper
def prefer(trees, roots, settings, b, proven):
    """The index of the root edge to play.

    A win in the fewest plies; among losses the longest; else the most visited (Gumbel: of those, the best score),
    ties broken by prior.
    """
    first, count = trees.node[b, 0].first_edge, trees.node[b, 0].num_edges
    unvisited, scale = mixed_value(trees, b, ROOT), sigma_scale(trees, settings, b, ROOT)
    best, best_major, best_minor = 0, -1e30, -1e30
    for i in range(count):
        e = first + i
        if not allowed(trees, b, e, proven):
            continue
        if proven in (UNKNOWN, DRAW):
            major = float(trees.edge[b, e].edge_visits)
            minor = float(trees.edge[b, e].prior)
            if settings.gumbel == 1:
                minor = gumbel_score(trees, roots, b, e, scale, unvisited)
        else:
            plies = float(plies_of(trees, b, e))
            major = -plies if proven == WIN else plies
            minor = float(trees.edge[b, e].prior)
        if major > best_major or (major == best_major and minor > best_minor):
            best, best_major, best_minor = i, major, minor
    return best


@helper
def sample_index(policy, count, temperature, words):
    """Draw an index from policy^(1/temperature), in logs: no temperature can overflow (leela-chess #283)."""
    top = -1e300
    for i in range(count):
        if policy[i] > 0.0:
            top = max(top, math.log(policy[i]) / temperature)
    mass = 0.0
    for i in range(count):
        if policy[i] > 0.0:
            mass += math.exp(math.log(policy[i]) / temperature - top)
    mark = uniform(words) * mass
    last = 0
    for i in range(count):
        if policy[i] > 0.0:
            mark -= math.exp(math.log(policy[i]) / temperature - top)
            last = i
            if mark <= 0.0:
                return i
    return last


@state_kernel(lambda t: types.int64(TREES, roots_type(t.states), SETTINGS, types.int64))
def best_index(trees, roots, settings, b):
    """The index of the root edge to play, without chance."""
    return prefer(trees, roots, settings, b, best_proven(trees, b))


@helper
def choose(trees, roots, settings, b, temperature, policy):
    """The index of the root edge to play in self-play; `policy` is what write_policy wrote.

    With a temperature above 0 a PUCT search draws from it; Gumbel search has drawn at the root already.
    """
    if temperature <= 0.0 or settings.gumbel == 1:
        return prefer(trees, roots, settings, b, best_proven(trees, b))
    return sample_index(policy, trees.node[b, 0].num_edges, temperature, roots.random[b])
