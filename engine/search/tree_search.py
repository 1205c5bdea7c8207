"""One game, one tree that is kept between moves: the terminal and anyone who thinks about one position at a time."""

from __future__ import annotations

import time

import numpy as np

from az.engine.game import Game, State
from az.engine.inference.evaluator import Evaluator
from az.engine.rng import stream
from az.engine.search.batch import BatchSearch
from az.engine.search.params import SearchParams
from az.engine.search.result import SearchResult
from az.engine.search.tree import UNVISITED

LOOK_AHEAD = 400  # positions tried when looking for the new position in the old tree
KEEP_MOST = 1_000_000  # visits; a search by the clock has far more than the parameters' simulations
CHUNK = 64  # simulations between two looks at the clock


class TreeSearch:
    """Searches that add to one tree as long as each position follows from the one before."""

    def __init__(self, game: Game, evaluator: Evaluator, params: SearchParams) -> None:
        self.game = game
        self.evaluator = evaluator
        self.params = params
        self.batch = BatchSearch(game, params, 1)
        self.batch.keep_most = KEEP_MOST
        self._placed = False
        self._active = np.zeros(1, np.int64)

    def search(self, state: State, simulations: int | None = None, seconds: float | None = None) -> SearchResult:
        """Add simulations (default: the parameters') to the tree of this unfinished position, or think so long."""
        self._move_to(state)
        budget = self.params.simulations if simulations is None else simulations
        if seconds is None:
            self._think(budget)
            return self.batch.result(0)
        deadline = time.monotonic() + seconds
        made = 0
        while True:
            self._think(CHUNK)
            made += int(self.batch.roots.started[0])
            self.batch.roots.started[0] = made
            if time.monotonic() >= deadline or self.is_settled():
                return self.batch.result(0)

    def is_settled(self) -> bool:
        """More walks would change nothing. A loss of which only the end is known is none: some moves resist longer."""
        return self.batch.is_settled(0)

    def lines(self) -> dict[int, tuple[int, ...]]:
        """Of each action of the root that was tried, the line that the search expects after it, beginning with it."""
        return self.batch.lines(0)

    def _think(self, simulations: int) -> None:
        if simulations not in self.batch.budgets and self.params.algorithm == "gumbel":
            raise ValueError("Gumbel search needs its number of simulations in advance")
        self.batch.begin(0, simulations, self.params.noise_fraction, self.params.gumbel_scale)
        self.batch.run(self.evaluator, self._active)

    def _move_to(self, state: State) -> None:
        if self._placed and self.params.algorithm == "puct":  # sequential halving counts from an empty tree
            if np.array_equal(self.batch.roots.state[0], state):
                return
            path = self._path_to(state)
            if path is not None:
                for action in path:
                    first, count = self.batch.trees.node["first_edge"][0, 0], self.batch.trees.node["num_edges"][0, 0]
                    actions = self.batch.trees.edge["action"][0, first : first + count]
                    self.batch.advance(0, int(np.flatnonzero(actions == action)[0]), reuse=True)
                return
        self.batch.place(0, state, stream("single", int(state[0])))
        self._placed = True

    def _path_to(self, state: State) -> list[int] | None:
        """The actions from the old root to this position, if the tree has gone there."""
        trees = self.batch.trees
        waiting = [(0, self.batch.roots.state[0].copy(), [])]
        looked = 0
        while waiting and looked < LOOK_AHEAD:
            node, before, path = waiting.pop(0)
            first, count = int(trees.node["first_edge"][0, node]), int(trees.node["num_edges"][0, node])
            for edge in range(first, first + count):
                child = int(trees.edge["child"][0, edge])
                if child == UNVISITED or trees.node["num_edges"][0, child] == 0:
                    continue
                looked += 1
                after = before.copy()
                self.game.apply(after, int(trees.edge["action"][0, edge]))
                step = [*path, int(trees.edge["action"][0, edge])]
                if np.array_equal(after, state):
                    return step
                waiting.append((child, after, step))
        return None
