"""What the recorder knows of the step that runs and of the last ones: numbers of each, and the state before a few."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .state.snapshot import Snapshot
from .state.starts import Start
from .state.torch_modes import Modes
from .trace.python_values import Values

KEPT = 512  # steps whose numbers are remembered


@dataclass
class Step:
    """The numbers of one step that ended well."""

    step: int
    rates: list[float]  # learning rate of every parameter group
    update: float  # norm of what the weights moved by; NaN where the state was not copied before it
    weights: float  # norm of the weights
    loss: float | None
    snapshot: Snapshot | None = None  # the state before it
    batch: Any = None
    function: Any = None  # the step itself: a lambda written in the loop is another one each time
    python: Values | None = None  # numbers and tensors that it read besides its batch
    ends: list[float] = field(default_factory=list[float])  # the numbers from which it began backward
    start: Start | None = None  # or what it takes to make the step again after the one before

    @property
    def inputs(self) -> list[tuple[Any, Any]]:
        """(leaf, its copy) of the batch; [] where it is not kept."""
        kept = self.snapshot or self.start
        return kept.batch if kept is not None else []


@dataclass
class Running:
    """A step that has begun. step: None where it cannot be run again."""

    number: int
    step: Callable[[Any], Any] | None
    batch: Any
    begun: float
    python: Values
    began: Snapshot | Start
    modes: Modes
    stepping: float = 0.0
    is_over: bool = False  # well, or undone: nothing is left to undo


class History:
    """The numbers of the last steps, the newest last, and what it takes to make the last few again.

    depth: how many keep the state before them where all do; copies: how many do where only some do.
    """

    def __init__(self, depth: int, copies: int = 2) -> None:
        self.steps: deque[Step] = deque(maxlen=KEPT)
        self.kept: deque[Step] = deque()  # can be made again one after the other; the first has a snapshot
        self.depth, self.copies = depth, copies
        self.free: list[Snapshot] = []  # no longer needed: their memory may be used
        self.free_starts: list[Start] = []
        self.since_copy = 0  # steps since the state was last copied, that one included; 0: there is no copy
        self._snapshots = 0

    def add(self, step: Step) -> None:
        """Remember a step, and let go of what is no longer needed."""
        self.steps.append(step)
        self.kept.append(step)
        self.since_copy = 1 if step.snapshot is not None else self.since_copy + 1
        self._snapshots += step.snapshot is not None
        most = self.depth if self._snapshots == len(self.kept) else self.copies
        while self._snapshots > most:
            self._let_go()
            while self.kept[0].snapshot is None:
                self._let_go()

    def make_room(self) -> None:
        """Let go of the oldest copy before the next is taken, which then has its memory."""
        most = self.depth if self._snapshots == len(self.kept) else self.copies
        while self._snapshots >= most:
            self._let_go()
            while self.kept and self.kept[0].snapshot is None:
                self._let_go()
        self.recount()

    def recount(self) -> None:
        """More of the last steps have a snapshot now."""
        self._snapshots = sum(one.snapshot is not None for one in self.kept)
        copied = (i for i, one in enumerate(reversed(self.kept), 1) if one.snapshot is not None)
        self.since_copy = next(copied, 0)

    def _let_go(self) -> None:
        old = self.kept.popleft()
        self._snapshots -= old.snapshot is not None
        if old.snapshot is not None:
            self.free = [old.snapshot]
            old.snapshot.extras.clear()  # lists of tensors, such as those of LBFGS, are copied into fresh memory
        if old.start is not None:
            self.free_starts.append(old.start)
        old.snapshot = old.start = old.batch = old.function = old.python = None

    def forget_from(self, step: int) -> None:
        """Steps from this one on have been undone."""
        while self.steps and self.steps[-1].step >= step:
            self.steps.pop()
        while self.kept and self.kept[-1].step >= step:
            self.kept.pop()
        self.recount()

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
