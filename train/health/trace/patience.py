"""How long a diagnosis may take, and what is said while it lasts."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

LIMIT = 45.0  # seconds after which no replay is begun, and a watched one ends
WATCHING, TRYING = "running it again with every operation watched", "running it again, as it was or with a repair"
ALWAYS = 2  # replays that are made however long one takes: without them nothing is known
SPEAK_AFTER = 5.0  # seconds of silence

Clock = Callable[[], float]


class OutOfTime(BaseException):
    """The diagnosis has lasted as long as it may. No Exception: the step's own handlers do not take it for theirs."""


class Patience:
    """`with Patience(number): …` says on stderr every 5 s what is being done; `check()` raises OutOfTime."""

    def __init__(self, number: int, clock: Clock = time.monotonic, limit: float = LIMIT) -> None:
        self.number, self.clock, self.limit = number, clock, limit
        self.begun = clock()
        self.doing = WATCHING
        self._replay = 0.0  # how long the last plain replay took
        self._made = 0  # replays
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._speak, daemon=True, name="recorder says what it does")

    def seconds(self) -> float:
        """Since the diagnosis began."""
        return self.clock() - self.begun

    def check(self) -> None:
        """Raise OutOfTime where the limit is reached."""
        if self.seconds() > self.limit:
            raise OutOfTime

    def before(self, doing: str = "") -> float:
        """Before a replay, which must fit in: the time it begins. Raises OutOfTime."""
        if self._made >= ALWAYS and self.seconds() + self._replay > self.limit:
            raise OutOfTime
        self.doing = doing or self.doing
        return self.clock()

    def after(self, begun: float, plain: bool) -> None:
        """After a replay. plain: without a watch, as long as the next ones will take."""
        self._made += 1
        if plain:
            self._replay = self.clock() - begun

    def __enter__(self) -> Patience:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._done.set()
        self._thread.join()

    def _speak(self) -> None:
        begun = time.monotonic()
        while not self._done.wait(SPEAK_AFTER):
            text = f"step {self.number} failed; {self.doing}: {time.monotonic() - begun:.0f} s, at most about a minute"
            print(f"recorder: {text}", file=sys.stderr, flush=True)
