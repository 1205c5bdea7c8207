"""A thread that answers questions for one player, several at a time by turns, until each is done or its client left.

A question is a generator: each step of it thinks for a moment and yields an answer, or None where there is nothing
new to tell. Moves of a game come before analysis.
"""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

from az.engine.errors import AzError

Json = dict[str, Any]
Steps = Iterator[Json | None]
HEARTBEAT = 0.5  # seconds without an answer after which the client is told what is being waited for
HEAD_START = 0.5  # seconds that a page has to show its board before the engine gets ready, unless it is asked
MOST_UNREAD = 200  # answers that wait for a client; one that reads no more is left


class Job:
    """One question, and the client that waits for its answers."""

    def __init__(self, begin: Callable[[], Steps], urgent: bool) -> None:
        self.begin, self.urgent, self.steps = begin, urgent, None
        self.left = False  # the client
        self._loop = asyncio.get_running_loop()
        self.answers: asyncio.Queue[Json | None] = asyncio.Queue()

    steps: Steps | None

    def tell(self, answer: Json | None) -> None:
        """From the thread; None: that was all."""
        if self.answers.qsize() > MOST_UNREAD:
            self.left = True
        with suppress(RuntimeError):  # the server has ended
            self._loop.call_soon_threadsafe(self.answers.put_nowait, answer)


class Worker:
    """The thread. prepare: what is needed once before the first answer; doing: what it is at, for people."""

    def __init__(self, prepare: Callable[[], None], doing: Callable[[], str]) -> None:
        self.prepare, self.doing = prepare, doing
        self._jobs: deque[Job] = deque()
        self._current: Job | None = None  # what the thread thinks about
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._prepared = self.closed = False

    def begin(self) -> None:
        """Start the thread, which gets ready."""
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True)
                self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether it is getting ready, or has questions."""
        return self._thread is not None and (not self._prepared or bool(self._jobs) or self._current is not None)

    def close(self) -> None:
        """End the thread once it has no question."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    async def ask(self, begin: Callable[[], Steps], urgent: bool = False) -> AsyncIterator[Json]:
        """The answers to a question as they come. `begin` runs in the thread."""
        job = Job(begin, urgent)
        with self._changed:
            was_closed, self.closed = self.closed, False  # another player took its place since it was chosen
            self._jobs.append(job)
            self._changed.notify_all()
        self.begin()
        try:
            while True:
                try:
                    answer = await asyncio.wait_for(job.answers.get(), HEARTBEAT)
                except TimeoutError:
                    if job.left:
                        return
                    yield {"waiting": self._waiting(job)}
                    continue
                if answer is None:
                    return
                yield answer
                if answer.get("done"):  # the thread may be at another question before it comes back to this one
                    return
        finally:
            job.left = True
            if was_closed:
                self.close()

    def _waiting(self, job: Job) -> str:
        if not self._prepared:
            return self.doing() or "getting ready"
        return "thinking" if job.steps is not None else "waiting for another question"

    def _work(self) -> None:
        fault = ""
        with self._changed:
            if not self._jobs:
                self._changed.wait(HEAD_START)
        try:
            self.prepare()
        except AzError as error:
            fault = str(error)
        except Exception as error:
            traceback.print_exc()
            fault = f"the engine could not be loaded ({type(error).__name__}): the terminal shows why."
        self._prepared = True
        while (job := self._next()) is not None:
            if fault:
                job.tell({"error": fault})
                job.tell(None)
            elif self._step(job):
                with self._changed:
                    self._jobs.append(job)

    def _next(self) -> Job | None:
        with self._changed:
            self._current = None
            while True:
                for gone in [job for job in self._jobs if job.left]:
                    self._jobs.remove(gone)
                if self._jobs:
                    job = next((job for job in self._jobs if job.urgent), self._jobs[0])
                    self._jobs.remove(job)
                    self._current = job
                    return job
                if self.closed:
                    self._thread = None
                    return None
                self._changed.wait(60)

    def _step(self, job: Job) -> bool:
        """One step; whether there are more."""
        try:
            if job.steps is None:
                job.steps = job.begin()
            answer = next(job.steps)
        except StopIteration:
            job.tell(None)
            return False
        except AzError as error:
            job.tell({"error": str(error)})
            job.tell(None)
            return False
        except Exception as error:
            traceback.print_exc()
            job.tell({"error": f"the engine tripped ({type(error).__name__}): the terminal shows where."})
            job.tell(None)
            return False
        if answer is not None:
            job.tell(answer)
        return True
