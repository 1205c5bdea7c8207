"""log.jsonl: one JSON object a line. Lines of steps that were undone are taken out: no step stands there twice."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from az.engine.system.files import AppendFile, write_atomic
from az.engine.system.safe_read import MB

MOST_LINE = MB  # bytes; no line of az's is longer


class RunLog:
    """Appends to RUN/log.jsonl. last_step: what the run has done; later steps in the file are taken out (-1: all)."""

    def __init__(self, path: Path, last_step: int) -> None:
        self.path = path
        _cut(path, last_step)
        self._file = AppendFile(path)

    def write(self, kind: str, values: Mapping[str, Any]) -> None:
        """Append {"kind": …, …}; NaN never appears as a bare word that JSON does not know. Raises OSError."""
        clean = {k: (None if isinstance(v, float) and not abs(v) < float("inf") else v) for k, v in values.items()}
        self._file.append((json.dumps({"kind": kind, **clean}, separators=(",", ":")) + "\n").encode())

    def cut(self, last_step: int) -> None:
        """Steps after this one were undone and will come again. Raises OSError."""
        self._file.close()
        _cut(self.path, last_step)
        self._file = AppendFile(self.path)

    def sync(self) -> None:
        """Return once every line is on the disk. Raises OSError."""
        self._file.sync()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _cut(path: Path, last_step: int) -> None:
    """Take out lines of later steps, and a last line that a kill tore; a file that is right is not written."""
    if path.exists() and not all(keep for keep, _ in _lines(path, last_step)):
        write_atomic(path, (line for keep, line in _lines(path, last_step) if keep))


def _lines(path: Path, last_step: int) -> Iterator[tuple[bool, bytes]]:
    """(whether it stays, line); what is no line of az's stays."""
    with path.open("rb") as file:
        while line := file.readline(MOST_LINE):
            yield (line.endswith(b"\n") or len(line) == MOST_LINE) and not _is_later(line, last_step), line


def _is_later(line: bytes, last_step: int) -> bool:
    try:
        step = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
    return isinstance(step, int) and step > last_step
