"""What the recorder remembers of the steps before: numbers of each, and the whole state of the last few."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

from az.train.health.snapshot import Snapshot
from az.train.health.trace.python_values import Values

KEPT = 512  # steps whose numbers are remembered


@dataclass
class Step:
    """The numbers of one step that ended well."""

    step: int
    rates: list[float]  # learning rate of every parameter group
    update: float  # norm of what the weights moved by
    weights: float  # norm of the weights
    loss: float | None
    snapshot: Snapshot | None = None  # the state before it
    batch: Any = None
    function: Any = None  # the step itself: a lambda written in the loop is another one each time
    python: Values | None = None  # numbers and tensors that it read besides its batch


class History:
    """The last steps, the newest last. `depth`: how many keep the state before them."""

    def __init__(self, depth: int) -> None:
        self.steps: deque[Step] = deque(maxlen=KEPT)
        self.depth = depth

    def add(self, step: Step) -> Snapshot | None:
        """Remember a step; returns a snapshot that is no longer needed, whose memory may be used again."""
        self.steps.append(step)
        old = self.steps[-self.depth - 1] if len(self.steps) > self.depth else None
        if old is None or old.snapshot is None:
            return None
        free, old.snapshot, old.batch, old.function, old.python = old.snapshot, None, None, None, None
        return free

    def forget_from(self, step: int) -> None:
        """Steps from this one on have been undone."""
        while self.steps and self.steps[-1].step >= step:
            self.steps.pop()

    def at(self, step: int) -> Step | None:
        """The numbers of a step, if they are still remembered."""
        return next((s for s in reversed(self.steps) if s.step == step), None)

    def rate_spikes(self, rates: list[float], step: int, within: int = 16) -> tuple[list[int], list[float]]:
        """The last steps whose learning rate stood out a hundredfold, the newest first; their neighbours' rates."""
        recent = [*list(self.steps)[-within:], Step(step, rates, 0.0, 0.0, None)]
        before = [s.rates for s in list(self.steps)[: -within or None]] or []
        usual = [
            _median([r[g] for r in (*before, *(s.rates for s in recent)) if g < len(r)]) for g in range(len(rates))
        ]

        def stands_out(one: Step) -> bool:
            return any(r > 100 * max(u, 1e-30) for r, u in zip(one.rates, usual, strict=False) if u > 0)

        return [one.step for one in reversed(recent) if stands_out(one)], usual

    def usual_rates(self, within: int = 64) -> list[float]:
        """The learning rate of every parameter group as it has been in the last steps; [] before the first."""
        recent = [s.rates for s in list(self.steps)[-within:]]
        return [_median(list(rates)) for rates in zip(*recent, strict=False)]

    def update_spike(self, within: int = 16) -> int | None:
        """The step whose update stood out a hundredfold from those before it; the first of the last few."""
        steps = list(self.steps)
        for i in range(max(8, len(steps) - within), len(steps)):
            usual = _median([s.update for s in steps[max(0, i - 64) : i]])
            if usual > 0 and steps[i].update > 100 * usual:
                return steps[i].step
        return None


def _median(values: list[float]) -> float:
    good = sorted(v for v in values if math.isfinite(v))
    return good[len(good) // 2] if good else 0.0
