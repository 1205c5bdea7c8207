"""What the protocols have in common: reading lines, a search in the background that can be stopped, leaving."""

from __future__ import annotations

import os
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import BinaryIO, TextIO

from az.engine.errors import AzError
from az.engine.game import State
from az.engine.protocols.brain import Brain, Json, Limit
from az.engine.protocols.lines import Lines, Output
from az.engine.system.stopping import Stopped, on_stop_signal, raise_stopped
from az.engine.system.streams import complain

LEAVING = 10.0  # seconds that a search gets to notice that it is over


class Speaker(ABC):
    """One conversation. A protocol fills in `answer`."""

    def __init__(self, brain: Brain, stdin: BinaryIO, stdout: TextIO) -> None:
        self.brain, self.game = brain, brain.game
        self.lines = Lines(stdin)
        self.output = Output(stdout, self.lines.end)
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._done = threading.Event()  # a join that a signal breaks off takes the thread for ended, before Python 3.13

    @abstractmethod
    def answer(self, line: str) -> bool:
        """Answer one line; False ends the conversation. Raises AzError for what is wrong with it."""

    @abstractmethod
    def complain(self, sentence: str) -> None:
        """Say what was wrong with a line, in the protocol's own way."""

    def finish(self) -> None:
        """At the end of the input: what is still being thought about is given up."""
        self.stop()

    def run(self) -> int:
        """Talk until the other program says quit or closes a pipe; returns the exit code."""
        code = 0
        try:
            with on_stop_signal(raise_stopped):
                self._talk()
        except Stopped as stopped:
            code = stopped.exit_code
            complain("stopped.")
        self._stop.set()
        if self.thinking and not self._done.wait(LEAVING):  # it compiles, and Python would trip over it on its way out
            sys.stdout.flush()
            os._exit(code)
        return code

    def _talk(self) -> None:
        for line in self.lines:
            try:
                if not self.answer(line):
                    return
            except AzError as error:
                self.complain(str(error))
        self.finish()

    # The search in the background.

    @property
    def thinking(self) -> bool:
        """Whether a search is on."""
        return self._thread is not None and not self._done.is_set()

    def begin(
        self,
        state: State,
        limit: Callable[[], Limit],
        done: Callable[[Json], None],
        tell: Callable[[Json], None] | None = None,
    ) -> None:
        """Think in the background; `done` gets the last answer. What was being thought about is stopped first."""

        def work() -> None:
            try:
                done(self.brain.think(state, limit, self._stop, tell))
            except AzError as error:
                self.complain(str(error))
            except MemoryError:
                self.complain("there is not enough memory to think so long: ask for less.")

        self.work(work)

    def work(self, task: Callable[[], None]) -> None:
        """Run any task in the background; what runs there is stopped first."""
        self.stop()
        self._stop, self._done = threading.Event(), threading.Event()
        done = self._done

        def run() -> None:
            try:
                task()
            finally:
                done.set()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    @property
    def stopping(self) -> threading.Event:
        """Set once the task in the background is to end."""
        return self._stop

    def stop(self) -> None:
        """Stop the search, which still tells its move."""
        self._stop.set()
        self.wait()

    def wait(self) -> None:
        """Wait for the search to end by itself; Ctrl-C gets through."""
        while self.thinking:
            self._done.wait(0.2)
        self._thread = None
