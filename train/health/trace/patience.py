"""How long a diagnosis may take, and what is said while it lasts."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

LIMIT = 45.0  # seconds after which no replay is begun, and a watched one ends
WATCHING, TRYING = "running it again with every operation watched", "running it again, as it was or with a repair"
ALWAYS = 2  # replays that are made however long one takes: without them nothing is known
LONG_STEP = 10.0  # seconds of a step whose replay may itself be ended
SPEAK_AFTER = 5.0  # seconds of silence
LAST_REPLAY = 20.0  # seconds after the limit in which a diagnosis is over

Clock = Callable[[], float]


class OutOfTime(BaseException):
    """The diagnosis has lasted as long as it may. No Exception: the step's own handlers do not take it for theirs."""


class _Ends(TorchFunctionMode):
    """Asks at every call of torch with a tensor whether there is time left. Not within contexts that are left."""

    def __init__(self, check: Callable[[], None]) -> None:
        super().__init__()
        self._check = check

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if args and isinstance(args[0], Tensor):
            self._check()
        return func(*args, **(kwargs or {}))


class Patience:
    """`with Patience(number): …` says on stderr every 5 s what is being done; `check()` raises OutOfTime."""

    def __init__(
        self, number: int, clock: Clock = time.monotonic, limit: float | None = None, doing: str = WATCHING
    ) -> None:
        self.number, self.clock, self.limit = number, clock, LIMIT if limit is None else limit
        self.took = 0.0  # seconds of the step that failed
        self.begun = clock()
        self.doing = doing
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

    def ends(self) -> AbstractContextManager[Any]:
        """A replay of a long step in it raises OutOfTime when the limit is reached. Others run as they are: torch has
        kernels of its own for modules that are called without such a mode."""
        return _Ends(self.check) if self.took > LONG_STEP else nullcontext()

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
        self.be_silent()
        self._thread.join()

    def be_silent(self) -> None:
        """Say nothing more."""
        self._done.set()

    def _speak(self) -> None:
        begun = time.monotonic()
        most = max(self.limit, LIMIT) + LAST_REPLAY  # a signal may break off what would have ended it
        while not self._done.wait(SPEAK_AFTER) and time.monotonic() - begun < most:
            text = f"step {self.number} failed; {self.doing}: {time.monotonic() - begun:.0f} s, at most about a minute"
            print(f"recorder: {text}", file=sys.stderr, flush=True)
