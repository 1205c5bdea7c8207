"""Keep the part of a tree that the game walked into: the chosen child becomes the root."""

from __future__ import annotations

from numba import types

from az.engine.jit import helper, kernel
from az.engine.search.tree import TREES, UNVISITED


@helper
def make_root(trees, scratch, b, edge, keep_most):
    """Make the child at `edge` the root of tree b, breadth first through `scratch` (one tree, as roomy).

    The tree is emptied instead when that child has no edges yet or keeps more than `keep_most` nodes. Returns the
    number of nodes kept. No walk may be in flight.
    """
    old = trees.edge[b, edge].child if edge >= 0 else UNVISITED
    if old == UNVISITED or trees.node[b, old].num_edges == 0 or trees.node[b, old].visits > keep_most:
        trees.nodes_used[b] = 0
        trees.edges_used[b] = 0
        return 0
    scratch.node[0, 0] = trees.node[b, old]
    scratch.node[0, 0].parent = -1
    scratch.node[0, 0].parent_edge = -1
    scratch.node[0, 0].first_edge = old  # until its edges are copied: the node it came from
    nodes, edges, at = 1, 0, 0
    while at < nodes:
        source = scratch.node[0, at].first_edge
        first = trees.node[b, source].first_edge
        scratch.node[0, at].first_edge = edges
        for e in range(first, first + trees.node[b, source].num_edges):
            scratch.edge[0, edges] = trees.edge[b, e]
            child = trees.edge[b, e].child
            if child != UNVISITED:
                scratch.edge[0, edges].child = nodes
                scratch.node[0, nodes] = trees.node[b, child]
                scratch.node[0, nodes].parent = at
                scratch.node[0, nodes].parent_edge = edges
                scratch.node[0, nodes].first_edge = child
                nodes += 1
            edges += 1
        at += 1
    for node in range(nodes):
        trees.node[b, node] = scratch.node[0, node]
    for e in range(edges):
        trees.edge[b, e] = scratch.edge[0, e]
    trees.nodes_used[b] = nodes
    trees.edges_used[b] = edges
    return nodes


@kernel(types.int64(TREES, TREES, types.int64, types.int64, types.int64))
def reroot(trees, scratch, b, edge, keep_most):
    """`make_root` for Python."""
    return make_root(trees, scratch, b, edge, keep_most)
