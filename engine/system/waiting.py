"""One line that says what is being waited for and how far it is: nothing here waits for rich, or for anything else."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

EVERY = 0.25  # seconds between two drawings
PLAIN_EVERY = 10.0  # seconds between two lines where nothing can be redrawn


class Waiting:
    """Use as `with Waiting() as waiting: waiting.stage("…")`; the line is erased when the wait is over.

    Into a pipe, or a terminal that cannot move its cursor, go lines, and none for a short wait.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._live = self._stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")
        self._text: Callable[[], str] = str
        self._printed = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._draw, daemon=True)

    def stage(self, text: str | Callable[[], str]) -> None:
        """What is being done now; a function is asked again for every drawing."""
        self._text = text if callable(text) else lambda: text
        now = time.monotonic()
        if not self._live and now - self._printed >= PLAIN_EVERY:
            self._printed = now
            self._write(self._text() + "\n")

    def __enter__(self) -> Self:
        if self._live:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._live:
            self._thread.join()
            self._write("\r\033[K")

    def _draw(self) -> None:
        while not self._over.wait(EVERY):
            text = self._text()
            room = shutil.get_terminal_size().columns - 1  # the last column would start a new line
            self._write("\r\033[K" + (text if len(text) <= room else text[: max(0, room - 1)] + "…"))

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # the terminal has gone; the work goes on
            self._over.set()


def modules_loaded(what: str) -> Callable[[], str]:
    """`loading PyTorch: 812 modules`, for a stage that imports."""
    before = len(sys.modules)
    return lambda: f"loading {what}: {len(sys.modules) - before:,} modules"
