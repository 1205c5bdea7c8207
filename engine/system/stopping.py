"""How a command is asked to end: Ctrl-C, SIGTERM, or a terminal that was closed (SIGHUP)."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any


class Stopped(BaseException):
    """Asked to end by a signal; the command line exits with 128 + its number, as shells do.

    Not a KeyboardInterrupt, which typer turns into an error of its own that does not tell the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


_asked: list[int] = []  # by `raise_stopped`, in the outermost block


@contextmanager
def on_stop_signal(handler: Callable[[int], None]) -> Generator[None]:
    """Inside this block the signals call `handler` with their number.

    Raises Stopped at once where `raise_stopped` was called before and what it raised came to nothing: libraries catch
    everything here and there while they are imported. SIGHUP is left alone where it is ignored: that is how nohup asks
    to be kept running.
    """
    if _asked:
        raise Stopped(_asked[-1])
    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # not on Windows
        numbers.append(signal.SIGHUP)

    def ask(number: int, _: Any) -> None:
        handler(number)

    told = sys.unraisablehook

    def tell(found: sys.UnraisableHookArgs) -> None:
        if not isinstance(
            found.exc_value, Stopped
        ):  # in a callback, from which nothing can be raised: it is remembered
            told(found)

    sys.unraisablehook = tell
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield
    finally:
        sys.unraisablehook = told
        for number, earlier in before.items():
            signal.signal(number, earlier)
        _asked.clear()


def raise_stopped(number: int) -> None:
    """A handler for what can end at any moment: raises Stopped wherever the main thread is."""
    _asked.append(number)
    raise Stopped(number)
