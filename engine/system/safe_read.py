"""Reading a file that may be anything: a device, a pipe, a link to either, or far larger than it should be.

Links to regular files are followed: reading through one harms nothing. What az writes or deletes never follows one.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

from az.engine.system.files import naming

MB = 1 << 20
_EXTRA_FLAGS = sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"))
NOT_REGULAR = "it is not a regular file"


class UnusableFileError(OSError):
    """A file that is there and is not read: of the wrong kind, or too large. `strerror` says which."""


def read_regular(path: Path, most: int) -> bytes:
    """The bytes of a regular file of at most `most` bytes; never waits, whatever stands at `path`.

    Raises OSError with `strerror` set: no such file, not permitted, not a regular file, too large.
    """
    descriptor = os.open(path, os.O_RDONLY | _EXTRA_FLAGS)  # O_NONBLOCK: a pipe without a writer opens at once
    with naming(path), open(descriptor, "rb", buffering=0) as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnusableFileError(errno.EINVAL, NOT_REGULAR, str(path))
        if status.st_size > most:
            raise _too_large(path, status.st_size, most)
        parts, size = [], 0
        while part := file.read(min(16 * MB, most + 1 - size)):  # it may grow while it is read
            parts.append(part)
            size += len(part)
            if size > most:
                raise _too_large(path, size, most)
    return b"".join(parts)


def open_regular(path: Path) -> int:
    """A descriptor for reading a regular file; never waits. Raises OSError, for anything else too."""
    descriptor = os.open(path, os.O_RDONLY | _EXTRA_FLAGS)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise UnusableFileError(errno.EINVAL, NOT_REGULAR, str(path))


def tail(path: Path, most: int) -> list[bytes]:
    """The last lines, whole, of a regular file, in `most` bytes; [] where there is none. Never waits."""
    try:
        descriptor = open_regular(path)
    except OSError:
        return []
    with open(descriptor, "rb") as file:
        start = max(0, os.fstat(descriptor).st_size - most)
        file.seek(start)
        lines = file.read(most).splitlines(keepends=True)
    return lines[1:] if start else lines


def is_regular(path: Path) -> bool:
    """Whether a regular file stands at `path`, itself and not by a link."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (OSError, ValueError):
        return False


def read_json(path: Path, most: int) -> Any:
    """The JSON value in a regular file of at most `most` bytes. Raises OSError, or ValueError with a reason."""
    return parse_json(read_regular(path, most))


def parse_json(data: bytes | str, nan: bool = False) -> Any:
    """The value of a JSON text. nan: NaN and Infinity may stand in it, as Python writes them.

    Raises ValueError, saying why, for everything that is no JSON, deep nesting included.
    """
    try:
        return json.loads(data, parse_constant=float if nan else _no_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error.msg} at character {error.pos + 1}") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"it is not JSON: {name} is no number")


def _too_large(path: Path, size: int, most: int) -> UnusableFileError:
    return UnusableFileError(errno.EFBIG, f"it has {size:,} bytes and at most {most:,} are read", str(path))
