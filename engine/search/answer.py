"""What a finished search says: its policy, its move, and the line it expects."""

from __future__ import annotations

import math

from numba import types

from az.engine.jit import helper, kernel, state_kernel
from az.engine.rng import uniform
from az.engine.search.params import UNKNOWN
from az.engine.search.select import edge_q, gumbel_score, mixed_value, sigma_scale
from az.engine.search.tree import SETTINGS, TREES, roots_type

WIN, LOSS = 1, -1


@helper
def best_proven(trees, b):
    """WIN if some root edge is a proven win, LOSS if all are lost, else UNKNOWN."""
    first, count = trees.first_edge[b, 0], trees.num_edges[b, 0]
    lost = count > 0
    for e in range(first, first + count):
        if trees.edge_proven[b, e] == WIN:
            return WIN
        if trees.edge_proven[b, e] != LOSS:
            lost = False
    return LOSS if lost else UNKNOWN


@helper
def allowed(trees, b, e, verdict):
    """Whether an edge may be played: wins only where there is one, never a loss where something else is left."""
    if verdict == WIN:
        return trees.edge_proven[b, e] == WIN
    return verdict == LOSS or trees.edge_proven[b, e] != LOSS


@helper
def _visit_policy(trees, b, verdict, policy):
    """Shares of visits over the allowed edges; of the priors, where none of them was visited."""
    first, count = trees.first_edge[b, 0], trees.num_edges[b, 0]
    total, mass, options = 0.0, 0.0, 0
    for e in range(first, first + count):
        if allowed(trees, b, e, verdict):
            total += trees.edge_visits[b, e]
            mass += float(trees.prior[b, e])
            options += 1
    for i in range(count):
        e = first + i
        if not allowed(trees, b, e, verdict):
            policy[i] = 0.0
        elif total > 0:
            policy[i] = trees.edge_visits[b, e] / total
        else:
            policy[i] = float(trees.prior[b, e]) / mass if mass > 0 else 1.0 / options


@helper
def _gumbel_policy(trees, settings, b, verdict, policy):
    """softmax(logits + sigma(completed q)) over the allowed edges: Danihelka et al. 2022, equation 11."""
    first, count = trees.first_edge[b, 0], trees.num_edges[b, 0]
    unvisited = mixed_value(trees, b, 0)
    scale = sigma_scale(trees, settings, b, 0)
    top, mass = -1e30, 0.0
    for e in range(first, first + count):
        if allowed(trees, b, e, verdict):
            top = max(top, float(trees.logit[b, e]) + scale * edge_q(trees, b, e, unvisited))
    for i in range(count):
        e = first + i
        policy[i] = 0.0
        if allowed(trees, b, e, verdict):
            policy[i] = math.exp(float(trees.logit[b, e]) + scale * edge_q(trees, b, e, unvisited) - top)
            mass += policy[i]
    for i in range(count):
        policy[i] /= mass


@helper
def write_policy(trees, settings, b, policy):
    """Write the search's policy over the root's edges into `policy` [>= edges]; returns the number of edges."""
    verdict = best_proven(trees, b)
    if settings.gumbel == 1:
        _gumbel_policy(trees, settings, b, verdict, policy)
    else:
        _visit_policy(trees, b, verdict, policy)
    return trees.num_edges[b, 0]


@kernel(types.int64(TREES, SETTINGS, types.int64, types.float64[::1]))
def root_policy(trees, settings, b, policy):
    """`write_policy` for Python."""
    return write_policy(trees, settings, b, policy)


@helper
def prefer(trees, roots, settings, b, verdict):
    """The index of the root edge to play.

    A win in the fewest plies; among losses the longest; else the most visited (Gumbel: of those, the best score),
    ties broken by prior.
    """
    first, count = trees.first_edge[b, 0], trees.num_edges[b, 0]
    unvisited, scale = mixed_value(trees, b, 0), sigma_scale(trees, settings, b, 0)
    best, best_major, best_minor = 0, -1e30, -1e30
    for i in range(count):
        e = first + i
        if not allowed(trees, b, e, verdict):
            continue
        if verdict == UNKNOWN:
            major = float(trees.edge_visits[b, e])
            minor = float(trees.prior[b, e])
            if settings.gumbel == 1:
                minor = gumbel_score(trees, roots, b, e, scale, unvisited)
        else:
            plies = float(trees.proof_plies[b, trees.child[b, e]])
            major = -plies if verdict == WIN else plies
            minor = float(trees.prior[b, e])
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
    return sample_index(policy, trees.num_edges[b, 0], temperature, roots.random[b])
