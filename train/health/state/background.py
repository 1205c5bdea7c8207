"""A second thread that takes over compiled work while the first one goes on."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any

import torch

from .flat_tensors import Layout

WORTH = 1 << 20  # bytes: below it waking a thread takes longer than what it would take over


class BackgroundTask:
    """Lends itself to one caller at a time. The thread is made at the first need and sleeps between two."""

    __slots__ = ("_at",)  # and no `__dict__`: code that walks through objects cannot reach the locks

    def __init__(self) -> None:
        self._at: Mailbox | None = None

    def is_worth(self, layout: Layout) -> bool:
        """Whether there is a core for it and enough to do. Ask before torch's own threads are held back."""
        return torch.get_num_threads() > 1 and layout.plain_bytes >= WORTH

    @contextmanager
    def beside(self, work: Callable[[], None] | None, worth: bool) -> Generator[None]:
        """`work` runs while the body does; both are done at the end, whatever the body or a signal raises.

        work: one compiled call that lets go of Python's lock, or the two would only take turns. None: nothing.
        """
        bench = self._bench() if work is not None and worth else None
        if work is None or bench is None:
            if work is not None:
                work()
            yield
            return
        try:
            bench.begin(work)
            yield
        finally:
            bench.end()

    def _bench(self) -> Mailbox | None:
        if self._at is None or self._at.process != os.getpid():  # a fork takes no threads along
            try:
                self._at = Mailbox()
            except RuntimeError:  # the system gives no more threads
                return None
        return self._at

    def __deepcopy__(self, _: dict[int, Any]) -> BackgroundTask:
        return BackgroundTask()

    def __del__(self) -> None:
        bench = getattr(self, "_at", None)  # a half-made one has none
        if bench is not None:
            bench.close()


class Mailbox:
    """Holds the work for the thread, which refers to this alone: the `BackgroundTask` can be garbage-collected.

    A signal may raise in any wait: `_over` and not a lock says whether the work is done.
    """

    def __init__(self) -> None:
        self.process = os.getpid()
        self._work: Callable[[], None] | None = None
        self._error: BaseException | None = None
        self._over, self._closed = True, False
        self._asked, self._begun, self._done = (threading.Lock() for _ in range(3))  # let go: it is so
        for lock in (self._asked, self._begun, self._done):
            lock.acquire()
        threading.Thread(target=self._serve, name="flight recorder", daemon=True).start()

    def begin(self, work: Callable[[], None]) -> None:
        """Returns when the thread has begun."""
        for lock in (self._begun, self._done):  # what a wait that was broken off has left
            lock.acquire(blocking=False)
        self._work, self._over = work, False
        self._ask()
        self._begun.acquire()  # or a first thread busy in Python would keep the second one waiting for its lock

    def end(self) -> None:
        """Returns when the work is over; raises what it or a signal raised."""
        stopped: BaseException | None = None
        while not self._over:
            try:
                if self._work is not None:  # the signal may have come before the question
                    self._ask()
                self._done.acquire()
            except BaseException as raised:
                stopped = raised
        error, self._error = stopped or self._error, None
        if error is not None:
            raise error

    def close(self) -> None:
        """The thread ends."""
        self._closed = True
        self._ask()

    def _ask(self) -> None:
        with suppress(RuntimeError):  # asked already
            self._asked.release()

    def _serve(self) -> None:
        while not self._closed:
            self._asked.acquire()
            work, self._work = self._work, None
            if work is None:
                continue
            self._begun.release()
            try:
                work()
            except BaseException as error:
                self._error = error
            del work  # it holds the whole state
            self._over = True
            self._done.release()
