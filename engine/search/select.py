"""Which edge a walk takes: PUCT, and Gumbel with sequential halving. Formulas only; the walk is in simulate.py."""

from __future__ import annotations

import math

import numpy as np

from az.engine.jit import helper
from az.engine.search.params import UNKNOWN
from az.engine.search.tree import Roots, Settings, Trees

WIN, LOSS = 1, -1
ROOT = np.int64(0)  # not a plain number: numba compiles a helper again for each literal that it is handed


@helper
def edge_q(trees: Trees, b: int, e: int, unvisited: float) -> float:
    """Mean value of an edge; exact where proven; `unvisited` where nothing is known."""
    if trees.edge[b, e].edge_proven != UNKNOWN:
        return float(trees.edge[b, e].edge_proven)
    if trees.edge[b, e].edge_visits == 0:
        return unvisited
    return trees.edge[b, e].edge_value / trees.edge[b, e].edge_visits


@helper
def all_lost(trees: Trees, b: int, first: int, count: int) -> bool:
    """Every edge is a proven loss."""
    for e in range(first, first + count):  # noqa: SIM110 (a generator does not compile well)
        if trees.edge[b, e].edge_proven != LOSS:
            return False
    return True


@helper
def select_puct(trees: Trees, roots: Roots, settings: Settings, b: int, node: int) -> int:
    """argmax of q + c · prior · sqrt(visits of the node) / (1 + visits of the edge); Silver et al. 2017.

    Leaves in flight count as visits without a value (Liu et al. 2020, WU-UCT). A proven win is taken, a proven loss is
    not, and an unvisited edge is worth the node's mean less `fpu_reduction` · sqrt(prior mass visited).
    """
    first, count = trees.node[b, node].first_edge, trees.node[b, node].num_edges
    seen, lost = 0.0, True
    for e in range(first, first + count):
        if trees.edge[b, e].edge_proven == WIN:
            return e
        lost = lost and trees.edge[b, e].edge_proven == LOSS
        if trees.edge[b, e].edge_visits > 0:
            seen += float(trees.edge[b, e].prior)
    mean = trees.node[b, node].value_sum / max(1, trees.node[b, node].visits)
    unvisited = max(-1.0, mean - settings.fpu_reduction * math.sqrt(seen))
    scale = settings.c_puct * math.sqrt(float(trees.node[b, node].visits + trees.node[b, node].inflight))
    best, best_score = first, -1e30
    for e in range(first, first + count):
        if trees.edge[b, e].edge_proven == LOSS and not lost:
            continue
        prior = float(roots.prior[b, e - first]) if node == 0 else float(trees.edge[b, e].prior)
        tried = trees.edge[b, e].edge_visits + trees.edge[b, e].edge_inflight
        score = edge_q(trees, b, e, unvisited) + scale * prior / (1.0 + tried)
        if score > best_score:
            best, best_score = e, score
    return best


@helper
def mixed_value(trees: Trees, b: int, node: int) -> float:
    """The value of a node's unvisited actions: Danihelka et al. 2022, equation 33 (v_mix)."""
    first, count = trees.node[b, node].first_edge, trees.node[b, node].num_edges
    mass, weighted, total = 0.0, 0.0, 0
    for e in range(first, first + count):
        if trees.edge[b, e].edge_visits > 0:
            mass += float(trees.edge[b, e].prior)
            weighted += float(trees.edge[b, e].prior) * edge_q(trees, b, e, 0.0)
            total += trees.edge[b, e].edge_visits
    raw = float(trees.node[b, node].raw_value)
    if mass <= 0.0:
        return raw
    return (raw + total * weighted / mass) / (1.0 + total)


@helper
def sigma_scale(trees: Trees, settings: Settings, b: int, node: int) -> float:
    """sigma(q) = this · (q + 1) / 2: Danihelka et al. 2022, equation 8, for values in [-1, +1]."""
    first, count = trees.node[b, node].first_edge, trees.node[b, node].num_edges
    most = 0
    for e in range(first, first + count):
        most = max(most, trees.edge[b, e].edge_visits)
    return (settings.c_visit + most) * settings.c_scale * 0.5


@helper
def select_gumbel_inner(trees: Trees, settings: Settings, b: int, node: int) -> int:
    """argmax of improved policy − visits / (1 + all visits): Danihelka et al. 2022, equation 14."""
    first, count = trees.node[b, node].first_edge, trees.node[b, node].num_edges
    unvisited = mixed_value(trees, b, node)
    scale = sigma_scale(trees, settings, b, node)
    lost = all_lost(trees, b, first, count)
    top, total = -1e30, 1.0
    for e in range(first, first + count):
        if trees.edge[b, e].edge_proven == WIN:
            return e
        top = max(top, float(trees.edge[b, e].logit) + scale * edge_q(trees, b, e, unvisited))
        total += trees.edge[b, e].edge_visits + trees.edge[b, e].edge_inflight
    mass = 0.0
    for e in range(first, first + count):
        mass += math.exp(float(trees.edge[b, e].logit) + scale * edge_q(trees, b, e, unvisited) - top)
    best, best_score = first, -1e30
    for e in range(first, first + count):
        if trees.edge[b, e].edge_proven == LOSS and not lost:
            continue
        share = math.exp(float(trees.edge[b, e].logit) + scale * edge_q(trees, b, e, unvisited) - top) / mass
        score = share - (trees.edge[b, e].edge_visits + trees.edge[b, e].edge_inflight) / total
        if score > best_score:
            best, best_score = e, score
    return best


@helper
def gumbel_score(trees: Trees, roots: Roots, b: int, e: int, scale: float, unvisited: float) -> float:
    """g + logit + sigma(q) of a root edge."""
    noise = roots.gumbel_scale[b] * roots.gumbel[b, e - trees.node[b, 0].first_edge]
    return noise + float(trees.edge[b, e].logit) + scale * edge_q(trees, b, e, unvisited)


@helper
def select_gumbel_root(trees, roots, settings, schedules, b):
    """Sequential halving: among the edges visited as often as the schedule says, the one with the best score."""
    first, count = trees.node[b, 0].first_edge, trees.node[b, 0].num_edges
    unvisited = mixed_value(trees, b, ROOT)
    scale = sigma_scale(trees, settings, b, ROOT)
    lost = all_lost(trees, b, first, count)
    considered = min(settings.considered, count)
    step = min(roots.started[b], schedules.shape[2] - 1)
    wanted = schedules[roots.schedule[b], considered, step]
    best, best_score = -1, -1e30
    spare, spare_score, spare_tried = first, -1e30, 1 << 30
    for e in range(first, first + count):
        if trees.edge[b, e].edge_proven == WIN:
            return e
        if trees.edge[b, e].edge_proven == LOSS and not lost:
            continue
        tried = trees.edge[b, e].edge_visits + trees.edge[b, e].edge_inflight
        score = gumbel_score(trees, roots, b, e, scale, unvisited)
        if tried == wanted and score > best_score:
            best, best_score = e, score
        if tried < spare_tried or (tried == spare_tried and score > spare_score):
            spare, spare_score, spare_tried = e, score, tried
    return best if best >= 0 else spare
