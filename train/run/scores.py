"""Scores while a run goes on: matches of its newest model in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from az.engine.system.safe_read import MB, read_json
from az.train.config import RunConfig
from az.train.run.log import RunLog
from az.train.run.services import Services
from az.train.run.tensorboard import EventFile


class Scores:
    """Starts a match when one is due and logs its figures at the step of the model that played."""

    def __init__(self, services: Services, config: RunConfig, progress: float, message: Callable[[str], None]) -> None:
        self.services, self.config, self.message = services, config, message
        self._marks = self._passed(progress)
        self._begun = time.monotonic()
        self._step = 0  # of the model that plays

    def _passed(self, progress: float) -> int:
        """How many of the scores of a run were due by now; the last one is taken when the run ends."""
        return int(min(max(progress, 0.0), 1.0) * self.config.arena.per_run)

    def due(self, progress: float) -> bool:
        """Whether to begin a match now. progress: the share of the run's minutes or steps that is over."""
        arena, now = self.config.arena, time.monotonic()
        passed = self._passed(progress)
        by_share = self._marks < passed < arena.per_run
        by_time = 0 < arena.every_minutes * 60 <= now - self._begun
        if not arena.games or not (by_share or by_time):
            return False
        self._marks, self._begun = max(passed, self._marks), now
        return True

    def start(self, model: Path, done: int) -> None:
        """Begin a match of this model, unless one is under way or it was made by steps after `done`, then undone."""
        step = _step_of(model)
        if step is not None and step <= done and self.services.start_score(model, self.config):
            self._step = step

    def undo(self, first: int) -> None:
        """Steps from `first` on were undone: a match under way of a model that they made is ended without a score."""
        if self._step > first:
            self.services.close()

    def take(
        self, wait: Callable[[], bool], elapsed: float, log: RunLog, events: EventFile, report: Callable[..., None]
    ) -> float | None:
        """Log a match that has ended; its score, None where none has. wait: whether to go on waiting for one.

        A match that failed is told of and stands in the log as `score_error`; the run goes on.
        """
        result = self.services.finished_score(wait)
        if result is None:
            return None
        if "error" in result:
            self.message(f"no score of the model of step {self._step}: {result['error']}")
            log.write("score_error", {"step": self._step, "elapsed": elapsed, **result})
            return None
        log.write("score", {"step": self._step, "elapsed": elapsed, **result})
        events.scalars({"arena/score": result["score"]}, self._step, time.time())
        report({"arena": result["score"]})
        return float(result["score"])


def _step_of(model: Path) -> int | None:
    """The step at which a model was published, from its card."""
    try:
        step = read_json(model.with_suffix(".json"), MB)["step"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return step if isinstance(step, int) else None
