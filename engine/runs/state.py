"""Whether a process trains in a run's folder, and how a run is kept from one meanwhile.

A training process holds locks on the folder and on its file `lock` (train/run/lock.py). Asking takes a shared lock for
some microseconds; a process that begins to train tries again for longer than that.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from az.engine.errors import WrongRequest


def is_running(run: Path) -> bool:
    """Whether a process holds the run now. Never waits."""
    try:
        with _locked(run, exclusive=False):
            return False
    except BlockingIOError:
        return True
    except OSError:  # gone, or not to be opened
        return False


@contextmanager
def held(run: Path) -> Generator[None]:
    """Keep the run from other processes. Raises WrongRequest where one has it."""
    try:
        with _locked(run, exclusive=True):
            yield
    except BlockingIOError:
        raise WrongRequest(f"the run '{run}' is in use by another process: stop that one first.") from None


@contextmanager
def _locked(run: Path, exclusive: bool) -> Generator[None]:
    """Both locks. Raises BlockingIOError where another process has one of them, OSError where there is no folder."""
    with ExitStack() as kept:
        if sys.platform != "win32":
            _lock(run, exclusive, kept)
        with suppress(FileNotFoundError):  # a run that was copied without it
            _lock(run / "lock", exclusive, kept)
        yield


def _lock(path: Path, exclusive: bool, kept: ExitStack) -> None:
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
    handle = os.open(path, os.O_RDWR if sys.platform == "win32" else flags)
    kept.callback(os.close, handle)  # which unlocks
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK):
            raise BlockingIOError(error.errno, "locked") from None
        # a file system without such locks: as for the training process, the other lock alone decides
