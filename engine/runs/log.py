"""A run's log.jsonl: read whole, or only what has come since the last time.

The log of a run that goes on may end in half a line, and is written again where steps were undone.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from az.engine.system.safe_read import MB, open_regular, parse_json, tail

MOST_LOG = 24 * MB  # bytes: a day of steps has a few
MOST_PIECE = MB  # bytes that one reading gives
Line = dict[str, Any]


def read_log(path: Path, most: int = MOST_LOG) -> tuple[list[Line], int]:
    """(the lines of a log, how many could not be read). A line that a kill or a running process left half is one.

    Of a log that is far longer than any run's, the last `most` bytes.
    """
    lines, bad = list[Line](), 0
    for text in tail(path, most):
        line = parsed(text)
        if line is None:
            bad += 1
        else:
            lines.append(line)
    return lines, bad


def parsed(text: bytes | str) -> Line | None:
    """A line as an object; None for anything else."""
    try:
        line = parse_json(text, nan=True)
    except ValueError:
        return None
    return cast("Line", line) if isinstance(line, dict) else None


@dataclass(frozen=True)
class Piece:
    """Whole lines of a log. id and next are to be handed to the next reading."""

    text: str  # whole lines, each with its end
    next: int  # byte after them
    id: str  # of the file that was read
    fresh: bool  # these lines are the first of the log: what was read before is out of date
    more: bool  # more lines are there already


def read_on(path: Path, position: int, file_id: str, most: int = MOST_PIECE) -> Piece:
    """The whole lines after byte `position` of the file that was `file_id`; those from the start of another one.

    No log is an empty one. Reads at most `most` bytes (a line longer than that is passed over), and never waits.
    """
    try:
        handle = open_regular(path)
    except OSError:
        return Piece("", 0, "", bool(position or file_id), False)
    with open(handle, "rb", buffering=0) as file:
        status = os.fstat(handle)
        own = f"{status.st_dev:x}-{status.st_ino:x}"
        same = own == file_id and position <= status.st_size and _ends_line(file, position)
        begin = position if same else 0
        file.seek(begin)
        data = file.read(most)
        end = data.rfind(b"\n") + 1
        whole = len(data) == most
        at = begin + end if end or not whole else _next_line(file, begin + most)  # no line of az's is so long
        more = whole and at < status.st_size
    return Piece(data[:end].decode("utf-8", "replace"), at, own, not same, more)


def _ends_line(file: Any, position: int) -> bool:
    """Whether a line begins at `position`: a log that was cut and has grown again may have its beginning elsewhere."""
    if position == 0:
        return True
    file.seek(position - 1)
    return file.read(1) == b"\n"


def _next_line(file: Any, position: int) -> int:
    file.seek(position)
    while data := file.read(MOST_PIECE):
        if (end := data.find(b"\n")) >= 0:
            return position + end + 1
        position += len(data)
    return position
