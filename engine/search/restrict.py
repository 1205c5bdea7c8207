"""Searches that may not play every move: some are left out at the root, and for a few moves after it.

Edges of moves that are left out are taken from a node as soon as the network has judged it, so no walk, proof or
answer ever sees them. What such a search proves holds for the moves that are left.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from az.engine.game import Game, State
from az.engine.search.tree import Trees
from az.engine.search.whole_moves import Hops


@dataclass(frozen=True)
class Restriction:
    """Which whole moves the player to move at the root may play, in the game's own text."""

    allow: frozenset[str] | None = None  # None: all
    avoid: frozenset[str] = frozenset()
    until: int = 1  # whole moves of both players from the root on; 1: the root's alone

    def left(self, game: Game, state: State) -> dict[str, Hops]:
        """The legal moves that may be played; none may be left."""
        allow = None if self.allow is None else {game.normalize_move(state, text) for text in self.allow}
        avoid = {game.normalize_move(state, text) for text in self.avoid}
        legal = game.moves(state).items()
        return {text: hops for text, hops in legal if (allow is None or text in allow) and text not in avoid}


@dataclass(frozen=True)
class _Place:
    """A node within the restricted moves: the position where its turn began, and the hops since then."""

    state: State
    depth: int  # whole moves from the root
    hops: Hops
    legal: Mapping[str, Hops]
    left: Mapping[str, Hops]  # equal to `legal` where nothing is left out


class Pruner:
    """Takes the edges of one tree that a restriction forbids; called for each node that the network has judged."""

    def __init__(self, game: Game, restriction: Restriction, root: State, begun: Hops = ()) -> None:
        """begun: the hops already played of the move that the restriction speaks of; `root` is before them."""
        self.game, self.restriction = game, restriction
        self._player = int(root[0])
        self._places = {0: self._place(root, 0, begun)}

    def _place(self, state: State, depth: int, hops: Hops = ()) -> _Place:
        legal = self.game.moves(state)
        left = self.restriction.left(self.game, state) if int(state[0]) == self._player else legal
        return _Place(state, depth, hops, legal, left or legal)

    def prune(self, trees: Trees, b: int, node: int) -> None:
        """Leave the edges of a node that the network has just judged which may be played."""
        place = self._places.get(node) or self._below(trees, b, node)
        if place is None or len(place.left) == len(place.legal):
            return
        at = len(place.hops)
        actions = {hops[at] for hops in place.left.values() if hops[:at] == place.hops}
        if actions:  # a hop that the restriction does not speak of has none
            _keep(trees, b, node, actions)

    def _below(self, trees: Trees, b: int, node: int) -> _Place | None:
        parent = int(trees.node["parent"][b, node])
        above = self._places.get(parent)
        if above is None and trees.node["num_edges"][b, parent] == 1:  # an only move: the network did not judge it
            above = self._below(trees, b, parent)
        if above is None:
            return None
        hops = (*above.hops, int(trees.edge["action"][b, int(trees.node["parent_edge"][b, node])]))
        if hops not in above.legal.values():
            place = _Place(above.state, above.depth, hops, above.legal, above.left)
        elif above.depth + 1 < self.restriction.until:
            place = self._place(self.game.play(above.state, hops), above.depth + 1)
        else:
            return None
        self._places[node] = place
        return place


def _keep(trees: Trees, b: int, node: int, actions: set[int]) -> None:
    """Leave the edges of these actions, their priors summing to 1."""
    first, count = int(trees.node["first_edge"][b, node]), int(trees.node["num_edges"][b, node])
    block = trees.edge[b, first : first + count]
    kept = np.flatnonzero(np.isin(block["action"], list(actions)))
    if not len(kept) or len(kept) == count:
        return
    block[: len(kept)] = block[kept]
    trees.node["num_edges"][b, node] = len(kept)
    logits = block["logit"][: len(kept)].astype(np.float64)
    top = float(logits.max())
    logits -= top + math.log(float(np.exp(logits - top).sum()))
    block["logit"][: len(kept)], block["prior"][: len(kept)] = logits, np.exp(logits)
