"""Many trees on flat arrays. Row b of every array is tree b; its root is node 0.

A node keeps edges for its legal actions only, as one block [first_edge, first_edge + num_edges) of its tree's pool.
Trees keep no states: a walk rebuilds them from the root's. Every value is in the view of the player to move at the
node; an edge's numbers are in the view of the node that it leaves.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import from_dtype, types
from numpy.typing import NDArray

from az.engine.game import Game
from az.engine.jit import JIT_OFF
from az.engine.system.cores import usable_memory

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Int8 = NDArray[np.int8]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

UNVISITED = -1


# A walk reads most fields of a node and of its edges: they stand side by side in memory, a record each (measured: as
# arrays of their own a step takes a sixth longer, and numba compiles for 70 s instead of 41).
NODE = np.dtype(
    [
        ("first_edge", np.int32),
        ("num_edges", np.int32),  # 0 until the network has judged the node, and for ever where the game is over
        ("value_sum", np.float64),
        ("visits", np.int32),
        ("inflight", np.int32),  # walks below this node that wait for the network
        ("raw_value", np.float32),  # the network's; of what comes after, where an only move was followed
        ("parent", np.int32),
        ("parent_edge", np.int32),
        ("proof_plies", np.int32),  # actions to the end of the game, where proven
        ("player", np.int8),
        ("proven", np.int8),  # LOSS, DRAW, WIN or UNKNOWN
    ],
    align=True,
)
EDGE = np.dtype(
    [
        ("edge_value", np.float64),  # sum
        ("edge_visits", np.int32),
        ("prior", np.float32),  # probability over the legal actions
        ("logit", np.float32),  # log of the prior, finite even where the prior underflows
        ("action", np.int32),
        ("child", np.int32),  # node, or UNVISITED
        ("edge_inflight", np.int16),
        ("edge_proven", np.int8),
    ],
    align=True,
)


class Trees(NamedTuple):
    """B trees with room for N nodes and E edges each."""

    nodes_used: Int32  # [B]
    edges_used: Int32  # [B]
    node: NDArray[Any]  # [B, N] of NODE
    edge: NDArray[Any]  # [B, E] of EDGE


class Roots(NamedTuple):
    """What belongs to the search of each tree's root."""

    state: NDArray[np.int64]  # [B, S] of the game's dtype
    started: Int32  # [B] simulations of this search begun
    target: Int32  # [B] simulations of this search in all
    ended: Int32  # [B] of those begun, how many met the end of the game
    tried: Int64  # [B] positions that a proof of this root was allowed, in vain
    prepared: Int8  # [B] the root's noise has been drawn
    noise_fraction: Float64  # [B]
    gumbel_scale: Float64  # [B]
    schedule: Int32  # [B] row of the Gumbel tables
    random: Int64  # [B, 4] the stream of the game
    prior: Float32  # [B, A] the root's priors with temperature and noise, by edge
    gumbel: Float32  # [B, A] the root's Gumbel draws, by edge


class Settings(NamedTuple):
    """The scalars of `SearchParams` that kernels read."""

    gumbel: int
    c_puct: float
    fpu_reduction: float
    noise_alpha: float
    root_temperature: float
    considered: int
    c_visit: float
    c_scale: float
    leaves: int
    solve: int
    prove: int


class Leaves(NamedTuple):
    """The rows of one evaluation: R = rows in use at most."""

    tree: Int32  # [R]
    node: Int32  # [R]
    mask: NDArray[np.bool_]  # [R, A]
    planes: Float32  # [R, C, H, W]
    words: NDArray[np.uint32]  # [R, C · H · W] the bits of the planes: the same memory
    key: Int64  # [R, 2] of the position, for the cache
    logits: Float32  # [R, A]
    values: Float32  # [R]


def _arrays(dtype: types.Type, ndim: int) -> types.Array:
    return types.Array(dtype, ndim, "C")


_I32, _I8, _F32, _F64 = types.int32, types.int8, types.float32, types.float64

TREES = types.NamedTuple(
    [_arrays(_I32, 1), _arrays(_I32, 1), _arrays(from_dtype(NODE), 2), _arrays(from_dtype(EDGE), 2)], Trees
)
SETTINGS = types.NamedTuple(
    [types.int64, *[types.float64] * 4, types.int64, types.float64, types.float64, *[types.int64] * 3], Settings
)
LEAVES = types.NamedTuple(
    [
        _arrays(_I32, 1),
        _arrays(_I32, 1),
        _arrays(types.boolean, 2),
        _arrays(_F32, 4),
        _arrays(types.uint32, 2),
        _arrays(types.int64, 2),
        _arrays(_F32, 2),
        _arrays(_F32, 1),
    ],
    Leaves,
)
SCHEDULES = _arrays(_I32, 3)


def roots_type(states: types.Array) -> types.NamedTuple:
    """The numba type of `Roots` for one state dtype."""
    return types.NamedTuple(
        [
            states,
            *[_arrays(_I32, 1)] * 3,
            _arrays(types.int64, 1),
            _arrays(_I8, 1),
            *[_arrays(_F64, 1)] * 2,
            _arrays(_I32, 1),
            _arrays(types.int64, 2),
            *[_arrays(_F32, 2)] * 2,
        ],
        Roots,
    )


def tree_bytes(nodes: int, edges: int) -> int:
    """Memory of one tree."""
    return nodes * NODE.itemsize + edges * EDGE.itemsize


def make_trees(num_trees: int, nodes: int, edges: int) -> Trees:
    """Empty trees with room for so many nodes and edges each. Raises MemoryError for more than this machine has.

    The system would often grant it, and end the process once the trees fill.
    """
    if num_trees * tree_bytes(nodes, edges) > usable_memory():
        raise MemoryError
    used = np.zeros(num_trees, np.int32), np.zeros(num_trees, np.int32)
    records = np.zeros((num_trees, nodes), NODE), np.zeros((num_trees, edges), EDGE)
    if JIT_OFF:  # plain Python reads fields by name only from these
        return Trees(*used, *(part.view(np.recarray) for part in records))
    return Trees(*used, *records)


def grow_trees(trees: Trees, nodes: int, edges: int) -> Trees:
    """The same trees with room for more; what they hold does not change."""
    grown = make_trees(len(trees.nodes_used), nodes, edges)
    for old, new in zip(trees, grown, strict=True):
        new[..., : old.shape[-1]] = old
    return grown


def make_roots(game: Game, num_trees: int) -> Roots:
    """Roots without a position yet."""
    width = (num_trees, game.num_actions)
    return Roots(
        state=np.zeros((num_trees, game.state_size), game.dtype),
        started=np.zeros(num_trees, np.int32),
        target=np.zeros(num_trees, np.int32),
        ended=np.zeros(num_trees, np.int32),
        tried=np.zeros(num_trees, np.int64),
        prepared=np.zeros(num_trees, np.int8),
        noise_fraction=np.zeros(num_trees, np.float64),
        gumbel_scale=np.zeros(num_trees, np.float64),
        schedule=np.zeros(num_trees, np.int32),
        random=np.zeros((num_trees, 4), np.int64),
        prior=np.zeros(width, np.float32),
        gumbel=np.zeros(width, np.float32),
    )


def make_leaves(game: Game, rows: int) -> Leaves:
    """Room for one evaluation of so many rows."""
    planes = np.zeros((rows, *game.planes_shape), np.float32)
    return Leaves(
        tree=np.zeros(rows, np.int32),
        node=np.zeros(rows, np.int32),
        mask=np.zeros((rows, game.num_actions), np.bool_),
        planes=planes,
        words=planes.reshape(rows, -1).view(np.uint32),
        key=np.zeros((rows, 2), np.int64),
        logits=np.zeros((rows, game.num_actions), np.float32),
        values=np.zeros(rows, np.float32),
    )
