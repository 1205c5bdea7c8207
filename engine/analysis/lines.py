"""Lines from a stream that another program writes: read by a thread, bounded in number and in bytes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import BinaryIO

from az.engine.system.streams import chunks_of

MAX_LINE = 1 << 20  # bytes; of a longer line only MAX_LINE + 1 bytes are kept, enough to refuse it
MAX_WAITING = 4096  # lines read ahead; then the writer of the requests waits
MAX_WAITING_BYTES = 16 << 20  # of these lines; one line always has room


class LineQueue:
    """Lines between the thread that reads and the one that answers, bounded in number and in bytes; None is the end."""

    def __init__(self) -> None:
        self._lines: deque[bytes | None] = deque()
        self._bytes = 0
        self._changed = threading.Condition()

    def put(self, line: bytes | None) -> None:
        """Append; waits while there is no room."""
        size = len(line or b"")
        with self._changed:
            self._changed.wait_for(lambda: not self._lines or self._has_room(size))
            self._lines.append(line)
            self._bytes += size
            self._changed.notify_all()

    def _has_room(self, size: int) -> bool:
        return len(self._lines) < MAX_WAITING and self._bytes + size <= MAX_WAITING_BYTES

    def take(self, most: int, wait: bool) -> list[bytes | None]:
        """What is there, `most` lines at most; waits for the first line only when there is nothing else to do."""
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: bool(self._lines))
            taken = [self._lines.popleft() for _ in range(min(most, len(self._lines)))]
            self._bytes -= sum(len(line or b"") for line in taken)
            self._changed.notify_all()
        return taken


def read_lines(stdin: BinaryIO, lines: LineQueue) -> None:
    """Put every line of a stream, and None after the last."""
    try:
        for line in split_lines(chunks_of(stdin)):
            lines.put(line)
    except (OSError, ValueError):  # stdin was closed under us: the same as its end
        pass
    finally:
        lines.put(None)


def split_lines(read: Callable[[], bytes]) -> Iterator[bytes]:
    """Lines of a byte stream; of a line longer than MAX_LINE only the first MAX_LINE + 1 bytes are kept."""
    kept = bytearray()
    while chunk := read():
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            yield bytes(kept + piece)[: MAX_LINE + 1]
            kept.clear()
        kept += rest
        del kept[MAX_LINE + 1 :]
    if kept:
        yield bytes(kept)
