"""Positions that are searched together, step by step: between two steps other work may be done.

A step is one evaluation by the network. The answer is the same however often the work is interrupted, and whatever
else is searched in between; only requests with `seconds` depend on the machine.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from az.engine.analysis.requests import Request
from az.engine.game import Game, State
from az.engine.inference.evaluator import Evaluator
from az.engine.rng import stream
from az.engine.search.params import SearchParams
from az.engine.search.restrict import Pruner, Restriction
from az.engine.search.result import SearchResult
from az.engine.search.whole_moves import (
    Hops,
    SearchStates,
    WholeResult,
    quiet,
    searcher,
    whole_result_of,
    whole_results,
)

if TYPE_CHECKING:  # it loads the compiler
    from az.engine.search.batch import BatchSearch

CHUNK = 64  # simulations that a search by the clock begins at once
REPORT_HOPS = 400  # simulations at most, in a report, for a position in the middle of a multiple jump


@dataclass(eq=False)
class Task:
    """One position of a request."""

    request: Request
    state: State
    turn: int | None = None  # whole moves played before it, where the request asks for turns
    alone: bool = False  # its batch failed: it is tried without the others
    told: float = 0.0  # when it was last reported


@dataclass(frozen=True)
class Found:
    """What is known of a position: the answer in whole moves, and figures of its root."""

    whole: WholeResult
    visits: int
    network_value: float
    lines: dict[int, Hops]  # of each tried action


class Engine:
    """What the searches of one program share."""

    def __init__(self, game: Game, evaluator: Evaluator, params: SearchParams) -> None:
        self.game, self.evaluator, self.params = game, evaluator, params
        self.search = searcher(game, evaluator, params)


class Work:
    """Tasks of one effort, in one batch of trees; alone, where they have a restriction or are timed."""

    def __init__(self, engine: Engine, tasks: Sequence[Task], now: float) -> None:
        """Raises MemoryError where the trees have no room."""
        from az.engine.search.batch import BatchSearch  # late: the search compiles or loads kernels

        first = tasks[0].request
        self.engine, self.tasks = engine, list(tasks)
        self.priority, self.seconds = first.priority, first.seconds
        self.restriction = first.restriction
        params = quiet(engine.params, first.simulations if first.seconds is None else CHUNK)
        if self.restriction is not None:
            params = replace(params, prove=0)  # the exact search knows nothing of restrictions
        self.batch: BatchSearch = BatchSearch(engine.game, params, len(tasks))
        for b, task in enumerate(tasks):
            self.batch.place(b, task.state, stream(0))  # nothing is drawn at random
            self.batch.begin_as_asked(b)
            task.told = now
        restriction, root = self.restriction, tasks[0].state
        self._pruner = None if restriction is None else Pruner(engine.game, restriction, root)
        self._active = np.arange(len(tasks), dtype=np.int64)
        self._places = {id(task): b for b, task in enumerate(tasks)}
        self._made = 0  # simulations of the chunks before this one, of a search by the clock
        self.spent = 0.0  # seconds of thinking

    def drop(self, task: Task) -> None:
        """Search a task no longer."""
        self.tasks.remove(task)
        self._active = np.array([self._places[id(other)] for other in self.tasks], np.int64)

    def step(self) -> bool:
        """One evaluation; whether all is searched. Raises AzError or MemoryError."""
        begun = time.monotonic()
        batch = self.batch
        rows = batch.gather(self._active)
        if rows:
            batch.evaluate_and_expand(self.engine.evaluator, rows)
            if self._pruner is not None:
                for row in range(rows):
                    self._pruner.prune(batch.trees, int(batch.leaves.tree[row]), int(batch.leaves.node[row]))
        self.spent += time.monotonic() - begun
        if self.seconds is None:
            return rows == 0
        return self._out_of_time(rows)

    def _out_of_time(self, rows: int) -> bool:
        started = self._made + int(self.batch.roots.started[0])
        if started and self.spent >= self.seconds_wanted:
            return True
        if rows == 0:
            if self.batch.is_settled(0):
                return True
            self._made = started
            self.batch.begin_as_asked(0)
        return False

    @property
    def seconds_wanted(self) -> float:
        """To think in all; without bound where simulations are counted."""
        return float("inf") if self.seconds is None else self.seconds

    @property
    def known(self) -> bool:
        """Whether every root has been judged, so that there is something to report."""
        return bool((self.batch.trees.node["num_edges"][self._active, 0] > 0).all())

    def found(self, task: Task, final: bool) -> Found:
        """What is known of a task now; between two steps. Raises AzError or MemoryError."""
        b = self._places[id(task)]
        result = self.batch.result(b)
        if self._made:
            result = replace(result, simulations=self._made + result.simulations)
        whole = self._whole(task.state, result, None if final else REPORT_HOPS)
        raw = float(self.batch.trees.node["raw_value"][b, 0])
        return Found(whole, int(result.visits.sum()), min(1.0, max(-1.0, raw)), self.batch.lines(b))

    def _whole(self, root: State, result: SearchResult, most: int | None) -> WholeResult:
        """In whole moves; `most`: simulations of a search in the middle of a multiple jump, where it is bounded."""
        engine, restriction = self.engine, self.restriction

        def bounded(simulations: int) -> int:
            return simulations if most is None else min(simulations, most)

        if restriction is None:
            search: SearchStates = lambda states, simulations: engine.search(states, bounded(simulations))  # noqa: E731
            return whole_results(engine.game, [root], [result], search)[0]
        return whole_result_of(
            engine.game,
            root,
            result,
            restriction.left(engine.game, root),
            lambda hops, simulations: _restricted(engine, restriction, root, hops, bounded(simulations)),
        )


def _restricted(engine: Engine, restriction: Restriction, root: State, begun: Hops, simulations: int) -> SearchResult:
    """A search in the middle of a multiple jump of the root, under the root's restriction."""
    from az.engine.search.batch import BatchSearch

    batch = BatchSearch(engine.game, replace(quiet(engine.params, simulations), prove=0), 1)
    batch.place(0, engine.game.play(root, begun), stream(0))
    batch.begin_as_asked(0)
    pruner, active = Pruner(engine.game, restriction, root, begun), np.zeros(1, np.int64)
    while rows := batch.gather(active):
        batch.evaluate_and_expand(engine.evaluator, rows)
        for row in range(rows):
            pruner.prune(batch.trees, 0, int(batch.leaves.node[row]))
    return batch.result(0)
