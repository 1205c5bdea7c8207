"""A process that ends with the process that started it, whenever and however that one ends."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

_starting = threading.Lock()


class Child(SpawnProcess):
    """`Child(target, args)`: a spawned process that is followed from its first instruction of ours.

    It holds the reading end of a pipe whose other end only the parent has: when the parent ends, the system closes that
    end, and a thread of the child ends the child. The pipe travels in front of everything else, so that the thread
    stands before the target's modules are imported, which takes seconds; and an end that came earlier is seen as well.
    On Linux the kernel kills the child besides, which also works while a long call holds the interpreter. That signal
    comes when the thread that called `start` ends: call it in one that lives as long as the child is needed.

    Ctrl-C is left to the parent.
    """

    def __init__(self, target: Callable[..., None], args: tuple[Any, ...]) -> None:
        super().__init__(target=target, args=args, daemon=True)
        self._theirs: Connection | None = None
        self._ours: Connection | None = None  # never used: that it is open says that we are there

    def start(self) -> None:
        """Start the process. Raises OSError where the system makes no more of them."""
        self._theirs, self._ours = multiprocessing.Pipe(duplex=False)  # pyright: ignore[reportAttributeAccessIssue]
        # A spawned process imports its parent's main module before anything else. For `az` that is the command line,
        # which no child needs, and until it is imported the child would not be followed.
        with _starting, _ctrl_c_waits():
            main = sys.modules["__main__"]
            sys.modules["__main__"] = types.ModuleType("__main__")
            try:
                super().start()
            finally:
                sys.modules["__main__"] = main
                assert self._theirs is not None
                self._theirs.close()
        atexit.register(self.end)

    def end(self) -> None:
        """Kill the process, if it runs, and wait until it has gone; files that it was writing are left half-written."""
        atexit.unregister(self.end)
        if self._popen is not None:  # pyright: ignore[reportAttributeAccessIssue]
            self.kill()
            self.join()
        if self._ours is not None:
            self._ours.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """The pipe first: a child begins to follow before it reads the rest, which imports the target."""
        own = ("_theirs", "_ours")
        return _followed, (self._theirs,), {name: value for name, value in self.__dict__.items() if name not in own}


@contextlib.contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """A process started in this block begins with Ctrl-C blocked: until it ignores it, Python would print a traceback.

    The parent has it when the block ends.
    """
    if sys.platform == "win32":
        yield
        return
    resource_tracker.ensure_running()  # first: where it has to start the tracker, it unblocks Ctrl-C at its end
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _followed(lifeline: Connection) -> Child:
    """In the child: end with the parent from now on; the process object, still empty."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # its own children are to have it
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    threading.Thread(target=_follow, args=(lifeline,), daemon=True).start()
    return Child.__new__(Child)


def _follow(lifeline: Connection) -> None:
    try:
        lifeline.recv_bytes()
    except (EOFError, OSError):
        os._exit(1)


def end_of(process: Child) -> str:
    """How a process ended, for people: "by SIGKILL", "with exit code 1"."""
    code = process.exitcode
    if code is None:
        return "without a word"
    if code < 0:
        known = {int(number): number.name for number in signal.Signals}
        return f"by {known.get(-code, f'signal {-code}')}"
    return f"with exit code {code}"
