"""A view that is redrawn in place, and stays whole when the window changes its width or a key is pressed."""

from __future__ import annotations

import threading
from collections.abc import Callable

from rich.console import Console, RenderableType
from rich.control import Control
from rich.live import Live

EVERY = 0.25  # seconds between two drawings
ROOM = 3  # columns left free at the right: the terminal's `^C` must fit beside the last line, or it starts a new one


class LiveView:
    """rich's Live with a thread of its own, which sees a resized window before anything is drawn into it.

    A window that became narrower wraps the lines that stand there, so rich would go up too few of them and leave the
    rest on the screen; one that became taller gets such a rest back from the terminal's history. What stands there goes
    up into that history instead, and the view begins at the top.
    """

    def __init__(self, console: Console, view: Callable[[], RenderableType]) -> None:
        self._console, self._view = console, view
        self._live = self._new()
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._drawn = self._seen = console.size

    def _new(self) -> Live:
        return Live(console=self._console, get_renderable=self._view, auto_refresh=False)

    def start(self) -> None:
        """Begin to draw, every quarter of a second. Raises OSError where the terminal has gone."""
        self._live.start()
        threading.Thread(target=self._draw, daemon=True).start()

    def stop(self) -> None:
        """Draw for the last time and leave that on the screen. Raises OSError where the terminal has gone."""
        self._over.set()
        with self._lock:
            if self._console.size != self._drawn:
                self._begin_at_the_top()
            self._live.stop()

    def _draw(self) -> None:
        while not self._over.wait(EVERY):
            try:
                self.draw()
            except OSError:  # the terminal has gone; the work goes on
                return

    def draw(self) -> None:
        """One drawing; none while the window is being pulled."""
        with self._lock:
            size, before = self._console.size, self._seen
            self._seen = size
            if self._over.is_set() or size != before:
                return
            if size != self._drawn:
                self._begin_at_the_top()
            self._drawn = size
            self._live.refresh()

    def _begin_at_the_top(self) -> None:
        self._live.transient = True
        self._live.stop()
        self._console.line(max(1, self._console.height - 1))  # to the history, where erasing would lose it
        self._console.control(Control.home())
        self._live = self._new()
        self._live.start()
