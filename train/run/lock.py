"""One process at a time uses a run; the system lets go of it when that process ends, however it ends."""

from __future__ import annotations

import errno
import os
import sys
import time
from pathlib import Path

from filelock import FileLock, Timeout

from az.engine.errors import WrongRequest

TRIES, PAUSE = 10, 0.02  # seconds; a process that asks whether a run goes on holds a shared lock for some microseconds


class RunLock:
    """Locks the file `lock` and the folder itself: a file that was removed by hand leaves the folder locked.

    Windows does not remove a file that is open, and a few network file systems cannot lock a folder: there the file
    alone does it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = FileLock(folder / "lock", timeout=0)
        self._handle: int | None = None

    def acquire(self) -> None:
        """Hold the run against other processes. Raises WrongRequest where one of them has it."""
        for left in reversed(range(TRIES)):
            try:
                self._lock_folder()
                self._file.acquire()
                return
            except (Timeout, BlockingIOError):
                self.release()
                if not left:
                    reason = "is in use by another process: stop that one first"
                    raise WrongRequest(f"the run '{self.folder}' {reason}.") from None
                time.sleep(PAUSE)
            except BaseException:
                self.release()
                raise

    def release(self) -> None:
        """Let others use the run."""
        self._file.release()
        if self._handle is not None:
            handle, self._handle = self._handle, None
            os.close(handle)

    def _lock_folder(self) -> None:
        if sys.platform == "win32" or self._handle is not None:
            return
        import fcntl

        self._handle = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise BlockingIOError(error.errno, "locked") from None
