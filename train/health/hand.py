"""A second thread that takes over compiled work while the first one goes on."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from az.train.health.layout import Layout

WORTH = 1 << 20  # bytes: below it waking a thread takes longer than what it would take over


class Hand:
    """Lends itself to one caller at a time. The thread is made at the first need and sleeps between two."""

    def __init__(self) -> None:
        self._at: Bench | None = None

    def is_worth(self, layout: Layout) -> bool:
        """Whether there is a core for it and enough to do. Ask before torch's own threads are held back."""
        return torch.get_num_threads() > 1 and sum(layout.held[i].tensor.nbytes for i in layout.by_address) >= WORTH

    @contextmanager
    def beside(self, work: Callable[[], None] | None, worth: bool) -> Iterator[None]:
        """`work` runs while the body does; both are done at the end, whatever the body raises.

        work: one compiled call that lets go of Python's lock, or the two would only take turns. None: nothing.
        """
        if work is None or not worth:
            if work is not None:
                work()
            yield
            return
        if self._at is None or self._at.process != os.getpid():  # a fork takes no threads along
            self._at = Bench()
        self._at.begin(work)
        try:
            yield
        finally:
            self._at.end()

    def __del__(self) -> None:
        if self._at is not None:
            self._at.close()


class Bench:
    """Where the work is laid down and picked up. The thread knows this and not the `Hand`, which may be let go."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self._work: Callable[[], None] | None = None
        self._error: BaseException | None = None
        self._asked, self._begun, self._done = (threading.Lock() for _ in range(3))  # let go: it is so
        for lock in (self._asked, self._begun, self._done):
            lock.acquire()
        threading.Thread(target=self._serve, name="flight recorder", daemon=True).start()

    def begin(self, work: Callable[[], None]) -> None:
        self._work = work
        self._asked.release()
        self._begun.acquire()  # or a first thread busy in Python would keep the second one waiting for its lock

    def end(self) -> None:
        self._done.acquire()
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def close(self) -> None:
        self._work = None
        self._asked.release()

    def _serve(self) -> None:
        while True:
            self._asked.acquire()
            work, self._work = self._work, None
            if work is None:
                return
            self._begun.release()
            try:
                work()
            except BaseException as error:
                self._error = error
            self._done.release()
