"""A long choice in slices of a tenth of a second: between two a signal gets through, and a caller may stop it."""

from __future__ import annotations

import time
from collections.abc import Callable

SLICE = 0.1  # seconds
Stop = Callable[[], bool]


def never() -> bool:
    """The stop of a choice that nothing but a signal ends."""
    return False


def in_slices(work: Callable[[int], bool], first: int, stop: Stop) -> None:
    """Call work(amount) until it returns True (done) or stop() does; at least once.

    amount: `first` in the beginning; then it doubles or halves until a call takes about SLICE seconds, whatever the
    rules of the game cost. What comes out must not depend on where the slices part.
    """
    amount = first
    while True:
        begun = time.perf_counter()
        if work(amount) or stop():
            return
        spent = time.perf_counter() - begun
        if spent < SLICE / 2:
            amount *= 2
        elif spent > 2 * SLICE:
            amount = max(1, amount // 2)
