"""How often the whole state is copied, so that the recorder stays within its share of a step's time and of memory."""

from __future__ import annotations

MOST_DEPTH, MOST_MEMORY = 8, 256 << 20  # copies where the state is copied before every step, and their bytes
SPARE = 30 << 20  # bytes that may be taken beside two copies of the state
MOST_STEPS = 64  # between two copies
FASTEST = 8  # times as many steps from one window to the next
WINDOW, WARM_UP = 16, 4  # steps over which time is added up; first steps, which also prepare


class Pace:
    """every: steps from one copy to the next. depth: how many steps keep one where that is 1."""

    def __init__(self, budget: float, interval: int | None, depth: int | None) -> None:
        self.budget, self.every, self.depth = budget, interval or 1, depth or MOST_DEPTH
        self._fixed, self._depth, self._most = interval is not None, depth, interval or MOST_STEPS
        self.is_tight = False  # one copy more than those that are kept would be too many
        self._own = self._steps = 0.0
        self._count = -WARM_UP

    def always(self) -> None:
        """Steps of this loop cannot be made again: copy before each."""
        self.every, self._fixed = 1, True

    def told_size(self, copy: int, batch: int) -> None:
        """copy, batch: bytes of a copy of the state, and of the batch alone."""
        if self._fixed:
            self.depth = self._depth or max(1, min(MOST_DEPTH, MOST_MEMORY // max(1, copy)))
            return
        self._most = max(1, min(MOST_STEPS, SPARE // max(1, 3 * batch)))
        self.depth = self._depth or MOST_DEPTH
        if self.every == 1 and (self.depth - 2) * copy > SPARE:
            self.every = min(self.depth, self._most)
            self.depth = self._depth or 2
        self.is_tight = self._depth is None and (self.every > 1 or (self.depth - 1) * copy > SPARE)

    def told_time(self, own: float, step: float) -> None:
        """own, step: seconds of the recorder and of the step itself, of a step that ended well."""
        self._count += 1
        if self._fixed or self._count <= 0:
            return
        self._own, self._steps = self._own + own, self._steps + step
        if self._count >= WINDOW:
            if self._own > self.budget * self._steps:
                over = self._own / max(1e-9, self.budget * self._steps)
                self.every = min(self.every * max(2, min(FASTEST, int(over))), self._most)
            self._own = self._steps = 0.0
            self._count = 0
