"""Many searches side by side: the one place that knows that there are many trees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from az.engine.game import LOSS, Game, State
from az.engine.inference.evaluator import Evaluator
from az.engine.jit.pointers import address
from az.engine.search.cache import make_cache
from az.engine.search.params import UNKNOWN, SearchParams
from az.engine.search.policy import best_index, root_policy
from az.engine.search.prove import FAR, make_prover
from az.engine.search.result import SearchResult
from az.engine.search.reuse import reroot
from az.engine.search.schedule import schedules
from az.engine.search.simulate import ONLY_MOVES, expand, gather
from az.engine.search.tree import Settings, grow_trees, make_leaves, make_roots, make_trees


def settings_of(params: SearchParams) -> Settings:
    """The scalars that the kernels read."""
    return Settings(
        gumbel=int(params.algorithm == "gumbel"),
        c_puct=params.c_puct,
        fpu_reduction=params.fpu_reduction,
        noise_alpha=params.noise_alpha,
        root_temperature=params.root_temperature,
        considered=params.gumbel_considered,
        c_visit=params.c_visit,
        c_scale=params.c_scale,
        leaves=params.leaves,
        solve=int(params.solve),
        prove=params.prove if params.solve else 0,
    )


def tree_size(game: Game, simulations: int, leaves: int) -> tuple[int, int]:
    """(nodes, edges) that a tree has room for at first."""
    edges = min(game.num_actions, 12) * (simulations + 8) + (game.num_actions + ONLY_MOVES) * (leaves + 1)
    return 2 * simulations + (ONLY_MOVES + 1) * leaves, edges


class BatchSearch:
    """B searches of one game. A tree's answer depends on its own root, parameters and random stream alone."""

    def __init__(self, game: Game, params: SearchParams, num_trees: int, budgets: Sequence[int] | None = None) -> None:
        """budgets: the simulation counts that will be asked for (Gumbel's schedules are made for them)."""
        self.game = game
        self.params = params
        self.settings = settings_of(params)
        self.budgets: list[int] = sorted({params.simulations, *(budgets or [])})
        self.schedules = schedules(max(1, params.gumbel_considered), self.budgets)
        most = max(self.budgets)
        self.keep_most = 4 * max(1, most)  # visits of a subtree that is still kept when its move is played
        nodes, edges = tree_size(game, most, params.leaves)
        self.trees = make_trees(num_trees, nodes, edges)
        self.scratch = make_trees(1, nodes, edges)
        self.roots = make_roots(game, num_trees)
        self.prover = make_prover(game, enabled=self.settings.prove > 0)
        self.leaves = make_leaves(game, num_trees * params.leaves)
        self.cache = make_cache(game, enabled=False)  # a caller that uses one network for long puts a real one here
        self.policy = np.zeros(game.num_actions, np.float64)
        self._state = game.new_state()
        self._full = np.zeros(1, np.int64)
        dtype = game.dtype
        self._gather, self._best = gather[dtype], best_index[dtype]
        self.rules = tuple(address(rule) for rule in (game.apply, game.legal, game.outcome, game.encode))

    def place(self, b: int, state: State, random: NDArray[np.int64]) -> None:
        """Give tree b a new position and a stream of its own; what it held is forgotten."""
        self.trees.nodes_used[b] = 0
        self.trees.edges_used[b] = 0
        self.roots.state[b] = state
        self.roots.random[b] = random
        self.roots.started[b] = self.roots.target[b] = 0
        self.roots.tried[b] = 0

    def begin(self, b: int, simulations: int, noise_fraction: float = 0.0, gumbel_scale: float = 0.0) -> None:
        """Begin a search of tree b's position with so many new simulations."""
        roots = self.roots
        roots.started[b] = roots.ended[b] = 0
        roots.target[b] = simulations
        roots.prepared[b] = 0
        roots.noise_fraction[b] = noise_fraction
        roots.gumbel_scale[b] = gumbel_scale
        roots.schedule[b] = self.schedule_of(simulations)

    def schedule_of(self, simulations: int) -> int:
        """Which of Gumbel's schedules a search of so many simulations follows."""
        return self.budgets.index(simulations) if simulations in self.budgets else len(self.budgets) - 1

    def begin_as_asked(self, b: int) -> None:
        """Begin a search of tree b with this batch's own parameters."""
        self.begin(b, self.params.simulations, self.params.noise_fraction, self.params.gumbel_scale)

    def gather(self, active: NDArray[np.int64]) -> int:
        """Walk the active trees; returns the rows that now wait in `leaves`. 0 = all their searches are done.

        What `self.cache` knows is expanded on the way and needs no evaluation.
        """
        while True:
            self._full[0] = 0
            rows = self._gather(
                self.trees, self.roots, self.settings, self.schedules, self.leaves, self.cache, self.prover,
                self._state, active, self._full, *self.rules,
            )  # fmt: skip
            if not self._full[0]:
                return rows
            self._grow()
            if rows:
                return rows

    def _grow(self) -> None:
        nodes = self.trees.node.shape[1] * 2
        edges = self.trees.edge.shape[1] * 2
        self.trees = grow_trees(self.trees, nodes, edges)
        self.scratch = make_trees(1, nodes, edges)

    def expand(self, rows: int) -> None:
        """Take in the answers that stand in `leaves` for the first `rows` rows."""
        expand(self.trees, self.settings, self.leaves, self.cache, rows)

    def evaluate_and_expand(self, evaluator: Evaluator, rows: int) -> None:
        """One evaluation for all waiting leaves."""
        leaves = self.leaves
        evaluator.evaluate(leaves.planes[:rows], leaves.logits[:rows], leaves.values[:rows])
        self.expand(rows)

    def run(self, evaluator: Evaluator, active: NDArray[np.int64]) -> None:
        """Step until the searches of the active trees are done."""
        while rows := self.gather(active):
            self.evaluate_and_expand(evaluator, rows)

    def advance(self, b: int, index: int, reuse: bool) -> None:
        """Play the root edge of that index in tree b; the search to follow must still be begun."""
        edge = int(self.trees.node["first_edge"][b, 0]) + index
        self.game.apply(self.roots.state[b], int(self.trees.edge["action"][b, edge]))
        reroot(self.trees, self.scratch, b, edge if reuse else -1, self.keep_most)
        self.roots.tried[b] = 0

    def root_policy(self, b: int) -> int:
        """Write the policy of tree b's finished search into `self.policy`; returns the number of root edges."""
        return root_policy(self.trees, self.settings, b, self.policy)

    def best(self, b: int) -> int:
        """The index of the edge to play, without chance."""
        return self._best(self.trees, self.roots, self.settings, b)

    def result(self, b: int) -> SearchResult:
        """The answer of tree b's finished search."""
        trees = self.trees
        count = self.root_policy(b)
        first = int(trees.node["first_edge"][b, 0])
        block = slice(first, first + count)
        visits = trees.edge["edge_visits"][b, block].astype(np.int64)
        proven = trees.edge["edge_proven"][b, block].copy()
        value = float(trees.node["value_sum"][b, 0] / max(1, trees.node["visits"][b, 0]))
        root_proven = int(trees.node["proven"][b, 0])
        known = np.where(visits > 0, trees.edge["edge_value"][b, block] / np.maximum(1, visits), value)
        best = self.best(b)
        return SearchResult(
            actions=trees.edge["action"][b, block].astype(np.int64),
            visits=visits,
            priors=trees.edge["prior"][b, block].copy(),
            values=np.where(proven != 2, proven, known).astype(np.float32),
            proven=proven,
            policy=self.policy[:count].copy(),
            value=float(root_proven) if root_proven != 2 else value,
            root_proven=root_proven,
            simulations=int(self.roots.started[b]),
            best=int(trees.edge["action"][b, first + best]),
            pv=self.line(b, first + best),
        )

    def is_settled(self, b: int) -> bool:
        """More walks would change nothing. A loss of which only the end is known is none: some moves resist longer."""
        root = self.trees.node[b, 0]
        return root["proven"] != UNKNOWN and not (root["proven"] == LOSS and root["proof_plies"] == FAR)

    def lines(self, b: int) -> dict[int, tuple[int, ...]]:
        """Of each action of the root that was tried, the line that the search expects after it, beginning with it."""
        trees = self.trees
        first, count = int(trees.node["first_edge"][b, 0]), int(trees.node["num_edges"][b, 0])
        tried = [edge for edge in range(first, first + count) if trees.edge["edge_visits"][b, edge]]
        return {int(trees.edge["action"][b, edge]): self.line(b, edge) for edge in tried}

    def line(self, b: int, edge: int) -> tuple[int, ...]:
        """The most visited moves, beginning with this edge."""
        trees, line = self.trees, []
        while True:
            line.append(int(trees.edge["action"][b, edge]))
            node = int(trees.edge["child"][b, edge])
            if node < 0 or trees.node["num_edges"][b, node] == 0 or len(line) >= 40:
                return tuple(line)
            first, count = int(trees.node["first_edge"][b, node]), int(trees.node["num_edges"][b, node])
            block = slice(first, first + count)
            proven = trees.edge["edge_proven"][b, block]
            order = trees.edge["edge_visits"][b, block] + np.where(proven == 1, 1 << 30, 0)
            if not order.any():
                return tuple(line)
            edge = first + int(np.argmax(order))
