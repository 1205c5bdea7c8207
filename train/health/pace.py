"""How often the whole state is copied, so that the recorder stays within its share of a step's time and of memory."""

from __future__ import annotations

MOST_DEPTH, MOST_MEMORY = 8, 256 << 20  # copies where the state is copied before every step, and their bytes
SPARE = 30_000_000  # bytes that may be taken beside two copies of the state
SPARE_FOR_COPIES = 20_000_000  # the part of it that copies of gradients and batches may take; the rest is code
MOST_STEPS = 64  # between two copies
FASTEST = 8  # times as many steps from one window to the next
MOST_SECONDS = 10.0  # of steps between two copies: after a fault they are made again before it is explained
WINDOW, WARM_UP = 16, 4  # steps over which time is added up; first steps, which also prepare


class Pace:
    """every: steps from one copy to the next. depth: how many steps keep one where that is 1; copies: elsewhere."""

    def __init__(self, budget: float, interval: int | None, depth: int | None) -> None:
        self.budget, self.every, self.depth, self.copies = budget, interval or 1, depth or MOST_DEPTH, 2
        self._asked = interval is not None
        self._fixed, self._depth, self._most = self._asked, depth, interval or MOST_STEPS
        self.is_tight = False  # one copy more than those that are kept would be too many
        self._own = self._steps = 0.0
        self._count = -WARM_UP

    def always(self) -> None:
        """Steps of this loop cannot be made again: copy before each."""
        self.every, self._fixed = 1, True

    def told_size(self, copy: int, batch: int, beside: int = 0) -> None:
        """Bytes: of a copy, of the batch in it, and of what it keeps beside the numbers of the state."""
        if self._asked:
            self.depth = self._depth or max(1, min(MOST_DEPTH, MOST_MEMORY // max(1, copy)))
            return
        room, copy = 2 * (copy - batch - beside) + SPARE_FOR_COPIES, max(1, copy)
        most = room // copy
        self.depth = self._depth or max(2, min(MOST_DEPTH, most))  # without the one before, no cause in it is found
        self.is_tight = self._depth is None
        if self._fixed:
            return
        self._most = max(1, min(MOST_STEPS, SPARE // max(1, 6 * batch)))
        if self.every == 1 and most < MOST_DEPTH:
            self.every = min(MOST_DEPTH, self._most)
        self.copies = 2 if self._depth or room - 2 * self._most * batch >= 2 * copy else 1
        self.is_tight = self.is_tight and (self.every > 1 or most <= MOST_DEPTH)

    def told_time(self, own: float, step: float) -> None:
        """own, step: seconds of the recorder and of the step itself, of a step that ended well."""
        self._count += 1
        if self._fixed:
            return
        self.every = min(self.every, max(1, int(MOST_SECONDS / max(1e-9, step))))
        if self._count <= 0:
            return
        self._own, self._steps = self._own + own, self._steps + step
        if self._count >= WINDOW:
            if self._own > self.budget * self._steps:
                over = self._own / max(1e-9, self.budget * self._steps)
                slow = max(1, int(MOST_SECONDS * WINDOW / max(1e-9, self._steps)))
                self.every = min(self.every * max(2, min(FASTEST, int(over))), self._most, slow)
            self._own = self._steps = 0.0
            self._count = 0
