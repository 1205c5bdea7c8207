"""Keep the part of a tree that the game walked into: the chosen child becomes the root."""

from __future__ import annotations

from numba import types

from az.engine.jit import helper, kernel
from az.engine.search.tree import TREES, UNVISITED


@helper
def _copy_node(source, b, node, target, to):
    target.num_edges[0, to] = source.num_edges[b, node]
    target.player[0, to] = source.player[b, node]
    target.visits[0, to] = source.visits[b, node]
    target.value_sum[0, to] = source.value_sum[b, node]
    target.raw_value[0, to] = source.raw_value[b, node]
    target.proven[0, to] = source.proven[b, node]
    target.proof_plies[0, to] = source.proof_plies[b, node]
    target.inflight[0, to] = 0


@helper
def _copy_edge(source, b, edge, target, row, to):
    target.action[row, to] = source.action[b, edge]
    target.prior[row, to] = source.prior[b, edge]
    target.logit[row, to] = source.logit[b, edge]
    target.edge_visits[row, to] = source.edge_visits[b, edge]
    target.edge_value[row, to] = source.edge_value[b, edge]
    target.edge_inflight[row, to] = 0
    target.edge_proven[row, to] = source.edge_proven[b, edge]


@helper
def make_root(trees, scratch, b, edge, keep_most):
    """Make the child at `edge` the root of tree b, breadth first through `scratch` (one tree, as roomy).

    The tree is emptied instead when that child has no edges yet or keeps more than `keep_most` nodes. Returns the
    number of nodes kept. No walk may be in flight.
    """
    old = trees.child[b, edge] if edge >= 0 else UNVISITED
    if old == UNVISITED or trees.num_edges[b, old] == 0 or trees.visits[b, old] > keep_most:
        trees.nodes_used[b] = 0
        trees.edges_used[b] = 0
        return 0
    _copy_node(trees, b, old, scratch, 0)
    scratch.parent[0, 0] = -1
    scratch.parent_edge[0, 0] = -1
    scratch.first_edge[0, 0] = old  # until its edges are copied: the node it came from
    nodes, edges, at = 1, 0, 0
    while at < nodes:
        source = scratch.first_edge[0, at]
        first = trees.first_edge[b, source]
        scratch.first_edge[0, at] = edges
        for e in range(first, first + trees.num_edges[b, source]):
            _copy_edge(trees, b, e, scratch, 0, edges)
            child = trees.child[b, e]
            if child == UNVISITED:
                scratch.child[0, edges] = UNVISITED
            else:
                scratch.child[0, edges] = nodes
                _copy_node(trees, b, child, scratch, nodes)
                scratch.parent[0, nodes] = at
                scratch.parent_edge[0, nodes] = edges
                scratch.first_edge[0, nodes] = child
                nodes += 1
            edges += 1
        at += 1
    for node in range(nodes):
        trees.first_edge[b, node] = scratch.first_edge[0, node]
        trees.num_edges[b, node] = scratch.num_edges[0, node]
        trees.parent[b, node] = scratch.parent[0, node]
        trees.parent_edge[b, node] = scratch.parent_edge[0, node]
        trees.player[b, node] = scratch.player[0, node]
        trees.visits[b, node] = scratch.visits[0, node]
        trees.value_sum[b, node] = scratch.value_sum[0, node]
        trees.raw_value[b, node] = scratch.raw_value[0, node]
        trees.proven[b, node] = scratch.proven[0, node]
        trees.proof_plies[b, node] = scratch.proof_plies[0, node]
        trees.inflight[b, node] = 0
    for e in range(edges):
        _copy_edge(scratch, 0, e, trees, b, e)
        trees.child[b, e] = scratch.child[0, e]
    trees.nodes_used[b] = nodes
    trees.edges_used[b] = edges
    return nodes


@kernel(types.int64(TREES, TREES, types.int64, types.int64, types.int64))
def reroot(trees, scratch, b, edge, keep_most):
    """`make_root` for Python."""
    return make_root(trees, scratch, b, edge, keep_most)
