"""The process that a run lives in: its device and its threads."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from statistics import median

import torch

from az.engine.errors import WrongRequest
from az.engine.system.cores import usable_cores
from az.train.config import RunConfig

TRIED = 4  # steps of each kind before one is chosen
HOPELESS = 4  # times as long as usual: no second try
FIRST_WAIT, LONGEST_WAIT = 200, 20_000  # steps between two trials


def device_of(config: RunConfig) -> torch.device:
    """Where the network trains. Raises WrongRequest for a device that is not there."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise WrongRequest("device is cuda and this torch finds no CUDA device: use device=cpu or device=auto.")
    cuda = config.device != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if cuda else "cpu")


class LearnerThreads:
    """How many threads a step has: few beside self-play; while that rests, few or all cores, whichever is faster.

    Threads of one product wait for each other without giving up their cores. On a quiet machine two are up to twice as
    fast as one; where other programs want the cores, two were 10 to 60 times slower (docs/log.md). So both are timed,
    and again after a while: the longer, the more often all cores have lost.
    """

    def __init__(self, config: RunConfig, clock: Callable[[], float] = time.monotonic) -> None:
        cores = usable_cores()
        # Workers fill the cores; a second learner thread would only wait at barriers for a core that a worker has.
        self.few = 1 if config.deterministic or cores <= 2 else max(1, cores // 4)
        self.many = self.few if config.deterministic else cores
        self._clock = clock
        self._alone = False
        self._times: dict[int, list[float]] = {self.few: [], self.many: []}  # seconds of the steps that were tried
        self._since, self._wait = 0, FIRST_WAIT  # steps since the last trial began, and until the next one
        self._used: int = 0
        self.use(alone=False)

    def use(self, alone: bool) -> None:
        """Set the threads of the next step. alone: self-play rests."""
        self._alone = alone
        wanted = self._faster() if alone and self.many != self.few else self.few
        if torch.get_num_threads() != wanted:
            torch.set_num_threads(wanted)

    def timed(self, step: Callable[[], None]) -> None:
        """Make a step, and remember how long it took where that says something."""
        threads: int = torch.get_num_threads()
        begun = self._clock()
        step()
        if not self._alone or self.many == self.few:
            return
        self._since += 1
        took = self._clock() - begun
        # The first step with other threads prepares its products: it counts only where it is hopeless.
        if threads == self._used or (threads == self.many and took > HOPELESS * self._usual(self.few)):
            self._times[threads].append(took)
        self._used = threads
        if self._since >= self._wait:
            won = self._usual(self.many) < self._usual(self.few)
            self._wait = FIRST_WAIT if won else min(LONGEST_WAIT, 2 * self._wait)
            self._since = 0
            self._times = {self.few: [], self.many: []}

    def _usual(self, threads: int) -> float:
        return median(self._times[threads]) if self._times[threads] else math.inf

    def _faster(self) -> int:
        if len(self._times[self.few]) < TRIED:
            return self.few
        lost = self._usual(self.many) > self._usual(self.few)
        if len(self._times[self.many]) < TRIED and not (lost and self._times[self.many]):
            return self.many
        return self.few if lost else self.many
