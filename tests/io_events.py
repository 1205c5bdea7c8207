"""Every change that a process makes below a folder, as a numbered event: counted, made to fail, or its last act.

What is seen: calls of Python's `os` module (open for writing, write, fsync, truncate, rename, unlink, rmdir, mkdir), by
whatever library, and, where asked, opening for reading by `os.open` or `open` and listing a folder. What is not: writes
by C code, and buffered writes of Python's `open`. That none is missed is proved by `rebuilt`, which makes the folder
from the events.
"""

from __future__ import annotations

import builtins
import io
import os
import signal
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
KINDS = ("open", "write", "fsync", "truncate", "rename", "unlink", "rmdir", "mkdir")


@dataclass(frozen=True)
class Event:
    """kind: one of KINDS, or `read` (opening for reading, or listing). path: below the folder."""

    kind: str
    path: str
    data: bytes = b""
    to: str = ""  # the new name
    size: int = 0  # of a truncation


@dataclass(frozen=True)
class Plan:
    """What happens at event number `at` (from 0): nothing (None), `before`, `after` or `torn` a kill, or an errno."""

    at: int = -1
    act: str | int | None = None


class Recorder:
    """Counts the events below `root` from `install` on."""

    def __init__(self, root: Path, plan: Plan, reads: bool = False) -> None:
        self.root, self.plan, self.reads = os.path.abspath(root), plan, reads
        self.events: list[Event] = []
        self._places: dict[int, str] = {}  # of open descriptors
        self._lock = threading.RLock()
        self._real = {name: getattr(os, name) for name in ("open", "close", "write", "fsync", "ftruncate", "truncate",
                      "replace", "rename", "unlink", "remove", "rmdir", "mkdir", "scandir", "listdir")}  # fmt: skip
        self._open = builtins.open

    def install(self) -> None:
        """From now on every event is seen."""
        put: Any = os
        put.open, put.close, put.write, put.fsync = self._os_open, self._os_close, self._os_write, self._os_fsync
        put.ftruncate, put.truncate = self._ftruncate, self._truncate
        put.replace, put.rename = self._moved("replace"), self._moved("rename")
        put.unlink, put.remove = self._gone("unlink", "unlink"), self._gone("remove", "unlink")
        if self.reads:
            put.scandir, put.listdir = self._listed("scandir"), self._listed("listdir")
        put.rmdir, put.mkdir = self._gone("rmdir", "rmdir"), self._gone("mkdir", "mkdir")
        builtins.open = io.open = self._any_open

    # -- the calls -----------------------------------------------------------------------------------------------------

    def _os_open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        place = self._place(path, dir_fd)
        writes = bool(flags & WRITING)

        def call() -> int:
            return self._real["open"](path, flags, mode, dir_fd=dir_fd)

        if place is None or not (writes or self.reads):
            handle = call()
        else:
            size = -1 if writes and flags & os.O_TRUNC else 0
            handle = self._event(Event("open" if writes else "read", place, size=size), call)
        self._places.pop(handle, None)  # the number may have been another file's, closed by C code
        if place is not None:
            self._places[handle] = place
        return handle

    def _os_close(self, handle: int) -> None:
        self._places.pop(handle, None)
        self._real["close"](handle)

    def _any_open(self, file: Any, mode: str = "r", *more: Any, **named: Any) -> Any:
        place = None if isinstance(file, int) else self._place(file, None)
        if place is not None and not set(mode) & set("wax+") and self.reads:
            return self._event(Event("read", place), lambda: self._open(file, mode, *more, **named))
        return self._open(file, mode, *more, **named)

    def _os_write(self, handle: int, data: Any) -> int:
        place = self._places.get(handle)
        if place is None:
            return self._real["write"](handle, data)
        return self._event(Event("write", place, bytes(data)), lambda: self._real["write"](handle, data), handle)

    def _os_fsync(self, handle: int) -> None:
        place = self._places.get(handle)
        if place is None:
            return self._real["fsync"](handle)
        return self._event(Event("fsync", place), lambda: self._real["fsync"](handle))

    def _ftruncate(self, handle: int, size: int) -> None:
        place = self._places.get(handle)
        if place is None:
            return self._real["ftruncate"](handle, size)
        return self._event(Event("truncate", place, size=size), lambda: self._real["ftruncate"](handle, size))

    def _truncate(self, path: Any, size: int) -> None:
        place = self._places.get(path) if isinstance(path, int) else self._place(path, None)
        if place is None:
            return self._real["truncate"](path, size)
        return self._event(Event("truncate", place, size=size), lambda: self._real["truncate"](path, size))

    def _moved(self, name: str) -> Any:
        def moved(source: Any, target: Any, **named: Any) -> None:
            place, to = self._place(source, named.get("src_dir_fd")), self._place(target, named.get("dst_dir_fd"))
            if place is None or to is None:
                return self._real[name](source, target, **named)
            return self._event(Event("rename", place, to=to), lambda: self._real[name](source, target, **named))

        return moved

    def _gone(self, name: str, kind: str) -> Any:
        def gone(path: Any, *more: Any, dir_fd: int | None = None, **named: Any) -> None:
            place = self._place(path, dir_fd)

            def call() -> None:
                self._real[name](path, *more, dir_fd=dir_fd, **named)

            return call() if place is None else self._event(Event(kind, place), call)

        return gone

    def _listed(self, name: str) -> Any:
        def listed(path: Any = ".") -> Any:
            place = self._places.get(path) if isinstance(path, int) else self._place(path, None)
            if place is None:
                return self._real[name](path)
            return self._event(Event("read", place), lambda: self._real[name](path))

        return listed

    # -- what happens there --------------------------------------------------------------------------------------------

    def _place(self, path: Any, dir_fd: int | None) -> str | None:
        """The path below the folder; None outside."""
        if isinstance(path, int):
            return None
        text = os.fsdecode(path)
        if dir_fd is not None:
            if dir_fd not in self._places:
                return None
            text = os.path.join(self.root, self._places[dir_fd], text)
        text = os.path.abspath(text)
        return os.path.relpath(text, self.root) if text.startswith(self.root + os.sep) or text == self.root else None

    def _event(self, event: Event, call: Any, handle: int = -1) -> Any:
        with self._lock:
            number, act = len(self.events), self.plan.act
            self.events.append(event)
            if number != self.plan.at:
                return self._done(event, call)
            half = event.data[: len(event.data) // 2]
            if isinstance(act, int):
                if half and act == 28:  # ENOSPC: some of it still went in
                    self._real["write"](handle, half)
                raise OSError(act, os.strerror(act), *([] if event.kind in ("write", "fsync") else [event.path]))
            if act == "after":
                call()
            elif act == "torn" and half:
                self._real["write"](handle, half)
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError("killed")

    def _done(self, event: Event, call: Any) -> Any:
        try:
            return call()
        except OSError:  # it changed nothing
            self.events[-1] = Event("failed", event.path)
            raise


def rebuilt(events: list[Event]) -> dict[str, bytes]:
    """The files that these events leave in a folder that was empty."""
    files: dict[str, bytes] = {}
    for event in events:
        if event.kind == "open":
            files[event.path] = b"" if event.size < 0 else files.get(event.path, b"")
        elif event.kind == "write":
            files[event.path] += event.data
        elif event.kind == "truncate":
            files[event.path] = files[event.path][: event.size]
        elif event.kind == "unlink":
            files.pop(event.path)
        elif event.kind == "rename":
            below = [name for name in files if name == event.path or name.startswith(event.path + os.sep)]
            for name in below:
                files[event.to + name[len(event.path) :]] = files.pop(name)
    return files
