"""Lines between az and the program that drives it: read by a thread, so that a search can be stopped; written whole."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import BinaryIO, TextIO

from az.engine.system.streams import chunks_of

MOST_LINE = 1 << 16  # bytes; of a longer line the rest is dropped
MOST_WAITING = 1000  # lines read ahead; then the other program waits


class Lines:
    """The lines of stdin, without their ends; iterating stops where it ends, or after `end`."""

    def __init__(self, stdin: BinaryIO) -> None:
        self._lines: queue.Queue[str | None] = queue.Queue(MOST_WAITING)
        self._ended = threading.Event()
        threading.Thread(target=self._read, args=(stdin,), daemon=True).start()

    def __iter__(self) -> Iterator[str]:
        while not self._ended.is_set():
            try:
                line = self._lines.get(timeout=0.5)  # in pieces: Ctrl-C gets through on every system
            except queue.Empty:
                continue
            if line is None:
                return
            yield line

    def any_waiting(self) -> bool:
        """Whether the next line, or the end, is there already."""
        return self._ended.is_set() or not self._lines.empty()

    def end(self) -> None:
        """Read no more: no program reads the answers."""
        self._ended.set()

    def _read(self, stdin: BinaryIO) -> None:
        read, kept = chunks_of(stdin), bytearray()
        try:
            while chunk := read():
                *whole, rest = chunk.split(b"\n")
                for piece in whole:
                    self._put(bytes(kept + piece))
                    kept.clear()
                kept += rest
                del kept[MOST_LINE:]
            if kept:
                self._put(bytes(kept))
        except (OSError, ValueError):  # stdin was closed under us: the same as its end
            pass
        self._lines.put(None)

    def _put(self, line: bytes) -> None:
        self._lines.put(line[:MOST_LINE].decode("utf-8", "replace").rstrip("\r"))


class Output:
    """Writes lines from any thread; `gone` is set once no program reads them, and the rest is dropped."""

    def __init__(self, stdout: TextIO, on_gone: Callable[[], None]) -> None:
        self.stdout, self._on_gone = stdout, on_gone
        self._lock = threading.Lock()
        self.gone = False

    def say(self, text: str) -> None:
        """One line, or several that must not be parted, flushed."""
        with self._lock:
            if self.gone:
                return
            try:
                self.stdout.write(text + "\n")
                self.stdout.flush()
            except (OSError, ValueError):
                self.gone = True
        if self.gone:
            self._on_gone()
