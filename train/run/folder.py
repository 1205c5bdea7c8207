"""A run's folder: who may use it, what is in it, and what has left the window."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from az.engine.errors import Refused, WrongRequest
from az.engine.runs.folders import MOST_CONFIG, RUNS
from az.engine.runs.summary import IMPORTED
from az.engine.selfplay.worker import RECORD_NAME
from az.engine.system.files import naming, write_atomic
from az.engine.system.safe_read import read_regular
from az.train.config import RunConfig, from_toml, to_toml
from az.train.run import names as run_names
from az.train.run.lock import RunLock

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def run_path(name: str) -> Path:
    """RUN is a folder, or a name under runs/. Raises WrongRequest for a name that is neither."""
    if (Path(name) / "config.toml").is_file():
        return Path(name)
    if not NAME.fullmatch(name):
        raise WrongRequest(f"'{name}' is no name for a run: use letters, digits, '-', '_' and '.'.")
    return RUNS / name


def free_name(game: str) -> str:
    """GAME-1, GAME-2, …: the first that is not taken."""
    number = 1
    while (RUNS / f"{game}-{number}").exists():
        number += 1
    return f"{game}-{number}"


def way_on(path: Path) -> str:
    """How to train on from a run that was imported."""
    if any((path / "checkpoints").glob("step-*")):
        return f"begin a new run from it with `az train GAME --from {path.name}`"
    return "to train on, export it with --checkpoint where it was trained and begin from that with `az train --from`"


class RunFolder:
    """The files of one run, locked while this object lives."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records = path / "records"
        self.models = path / "models"
        self.quarantined = path / "quarantine"
        self.stamps = True  # notes carry the time of day
        self._lock = RunLock(path)

    @classmethod
    def create(cls, path: Path, config: RunConfig, first: Callable[[Path], object] | None = None) -> RunFolder:
        """A new run. Raises WrongRequest when there is one of that name.

        first: writes the checkpoint that it begins from; a folder becomes a run only after that.
        """
        _check_free(path)
        folder = cls(path)
        path.mkdir(parents=True, exist_ok=True)
        folder.lock()
        _check_free(path)  # another process may have been quicker
        for part in (folder.records, folder.models, path / "checkpoints", path / "health"):
            part.mkdir(exist_ok=True)
        folder.sweep()
        if first is not None:
            first(path)
        write_atomic(path / "config.toml", to_toml(config).encode())
        return folder

    @classmethod
    def open(cls, path: Path) -> tuple[RunFolder, RunConfig]:
        """A run that is there, with its configuration. Raises WrongRequest or Refused."""
        config = path / "config.toml"
        if not config.is_file():
            names = sorted(p.parent.name for p in RUNS.glob("*/config.toml"))
            there = (
                f"the runs are {', '.join(names)}" if names else "there are no runs yet; make one with `az train GAME`"
            )
            begun = f" (it was stopped before it began: `az train GAME --run {path.name}`)" if _is_empty(path) else ""
            raise WrongRequest(f"there is no run '{path.name}'{begun}: {there}.")
        run_names.check_own(path)
        if (path / IMPORTED).exists():
            raise WrongRequest(
                f"the run '{path.name}' was imported, without its games, and cannot go on: {way_on(path)}."
            )
        folder = cls(path)
        folder.lock()
        try:
            text = read_regular(config, MOST_CONFIG).decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise Refused(f"{config} cannot be read: {reason}.") from None
        try:
            return folder, from_toml(text)
        except WrongRequest as error:
            raise Refused(f"{config} is no configuration of a run: {error}") from None

    def keep_config(self, config: RunConfig) -> None:
        """Write a changed configuration; the one before stays beside it as config-1.toml, config-2.toml, …"""
        number, before = 1, read_regular(self.path / "config.toml", MOST_CONFIG)
        while (kept := self.path / f"config-{number}.toml").exists():
            number += 1
        last = self.path / f"config-{number - 1}.toml"
        if number == 1 or read_regular(last, MOST_CONFIG) != before:  # or a kill came in between the last time
            write_atomic(kept, before)
        write_atomic(self.path / "config.toml", to_toml(config).encode())

    def lock(self) -> None:
        """Hold the run against other processes; the system lets go when this one ends, however it ends."""
        self._lock.acquire()

    def unlock(self) -> None:
        """Let others use the run."""
        self._lock.release()

    def record_files(self) -> list[Path]:
        """The record files, oldest first."""
        return run_names.record_files(self.records)

    def quarantine(self, file: Path, reason: str) -> None:
        """Put a bad record file or checkpoint aside with the reason; the run goes on without it."""
        with naming(self.quarantined):
            self.quarantined.mkdir(exist_ok=True)
        note = {"file": file.name, "reason": reason}
        if self.stamps:
            note["time"] = time.strftime("%Y-%m-%dT%H:%M:%S")
        place, number = self.quarantined / file.name, 1
        while place.is_dir():  # a checkpoint of this step was put aside before
            place, number = self.quarantined / f"{file.name}-{number}", number + 1
        write_atomic(place.with_name(f"{place.name}.json"), json.dumps(note, indent=1).encode())
        with contextlib.suppress(FileNotFoundError):  # it has gone by itself
            os.replace(file, place)

    def remove_records(self, names: list[str]) -> None:
        """Delete record files that left the window (a name that is gone already is fine)."""
        for name in names:
            if RECORD_NAME.fullmatch(name):  # a checkpoint from another source may list anything
                (self.records / name).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what a killed process left half-written; no reader ever takes it for anything."""
        for folder in (self.path, *(self.path / name for name in run_names.FOLDERS)):
            for leftover in folder.glob(".*.tmp-*"):
                if leftover.is_dir() and not leftover.is_symlink():
                    shutil.rmtree(leftover)
                else:
                    leftover.unlink(missing_ok=True)


def _is_empty(path: Path) -> bool:
    """Whether a folder holds nothing but what a run makes before its configuration is there."""
    if not path.is_dir():
        return False
    files = (p for p in path.rglob("*") if not p.is_dir() or p.is_symlink())
    first = tuple(path / "checkpoints" / name for name in ("step-000000000", ".step-000000000"))  # of --from
    return all(
        (p.parent == path and (p.name == "lock" or p.name.startswith(".config.toml.tmp-")))
        or str(p).startswith(tuple(map(str, first)))
        for p in files
    )


def _check_free(path: Path) -> None:
    """Raises WrongRequest where `path` is a run, or anything else that a new run must not touch."""
    if (path / "config.toml").exists():
        raise WrongRequest(
            f"the run '{path}' is there already: go on with it by `az resume {path.name}`,"
            " or choose another name with --run."
        )
    if path.exists() and not _is_empty(path):
        raise WrongRequest(f"'{path}' holds files and is no run (no config.toml): choose another name with --run.")
    run_names.check_own(path)
