"""stdin, stdout and stderr of a command, where the caller may have closed them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper
from typing import BinaryIO


def open_closed_streams() -> None:
    """Let a closed stream read nothing and write nowhere, so that no command trips over it.

    The number of a closed stream would be given to the next file that is opened, and a line that is printed would end
    in that file; so each gets the null device, which processes that are started from here inherit.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:  # Python found it closed when it started
            with suppress(OSError):
                _null_device_at(number)
            stream = open(number, "w" if number else "r", encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows no '×' is no reason for a traceback


def _null_device_at(number: int) -> None:
    try:
        os.fstat(number)
    except OSError:
        device = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: often the right one
        if device != number:
            os.dup2(device, number)
            os.close(device)
        os.set_inheritable(number, True)


def forget_stdout() -> None:
    """Nothing reads it any more, or it cannot be written: Python must not try again when it ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(text: str) -> None:
    """One line on stderr; where that is closed or broken the exit code must do."""
    try:
        print(f"az: {text}", file=sys.stderr, flush=True)
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def chunks_of(stdin: BinaryIO) -> Callable[[], bytes]:
    """Reads the next bytes of a stream, at most 64 KiB; b"" at its end.

    os.read in place of the buffered stream, whose lock a daemon thread would hold while Python leaves.
    """
    try:
        descriptor = stdin.fileno()
    except (OSError, AttributeError):  # not a file: a test's BytesIO
        return lambda: stdin.read(1 << 16)
    return lambda: os.read(descriptor, 1 << 16)
