"""Every process that a command started, found by a mark in its environment whatever has become of its parents."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

MARK = "AZ_TEST_MARK"


class Marked:
    """A command as a real process, with all that it starts. Use as `with Marked(command, folder) as run:`."""

    def __init__(self, command: list[str], folder: Path, **popen: Any) -> None:
        self.mark = uuid.uuid4().hex
        environment = os.environ | {"NO_COLOR": "1", "TERM": "dumb", MARK: self.mark}
        silent: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.main = subprocess.Popen(
            command, cwd=folder, env=environment, start_new_session=True, **(silent | popen)
        )  # fmt: skip

    def __enter__(self) -> Marked:
        return self

    def __exit__(self, *_: object) -> None:
        for process in [self.main, *self.others()]:
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                process.kill()
        self.main.wait()

    def others(self) -> list[psutil.Process]:
        """The processes besides the main one that are there now."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if process.pid != self.main.pid and process.environ().get(MARK) == self.mark:
                    found.append(process)
        return found

    def wait_for(self, reached: Callable[[], object], seconds: float = 300) -> None:
        """Wait for something that the command does. Fails where it ends before, or takes longer."""
        deadline = time.monotonic() + seconds
        while not reached():
            assert self.main.poll() is None, f"it ended by itself with {self.main.returncode}"
            assert time.monotonic() < deadline, "it did not get there in time"
            time.sleep(0.01)

    def left_after_kill(self, seconds: float = 1.0) -> list[str]:
        """SIGKILL the main process; the command lines of what is still there after so many seconds."""
        with suppress(ProcessLookupError):
            os.kill(self.main.pid, signal.SIGKILL)
        self.main.wait()
        time.sleep(seconds)
        left = []
        for process in self.others():
            with suppress(psutil.NoSuchProcess):
                if process.status() != psutil.STATUS_ZOMBIE:
                    left.append(f"{process.pid}: {' '.join(process.cmdline())}")
        return left
