"""A run in a few figures, from the ends of its files: quick also where the log is long and the run goes on."""

from __future__ import annotations

import os
from collections import OrderedDict
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from az.engine.errors import Refused
from az.engine.printable import one_line
from az.engine.runs.folders import Config, checkpoints, config_of, incidents, models
from az.engine.runs.log import Line, read_log
from az.engine.runs.state import is_running
from az.engine.runs.strength import Measured, measured, number
from az.engine.system.safe_read import MB, read_json

ENDS = (256 << 10, 8 * MB)  # bytes of the end of a log: the first is enough where something was measured lately
MOST_ENDS = 400  # logs that are remembered
MOST_STATE = 16 * MB  # bytes of a checkpoint's state.json
IMPORTED = "imported.json"  # in the folder of a run that came as a file
RUNNING, STOPPED, ENDED = "running", "stopped", "ended"


@dataclass(frozen=True)
class Summary:
    """One run. broken: why its configuration cannot be read; None where it can."""

    name: str
    game: str
    preset: str
    state: str  # RUNNING, STOPPED (it can go on) or ENDED (its minutes or steps are over)
    steps: int
    seconds: float  # of training
    rows: int
    model: int | None  # the newest published one
    incidents: int
    positions: int | None  # solved ones that its models are measured on
    strength: list[Measured] = field(default_factory=list)  # the newest measurement on every scale
    broken: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


class LogEnds:
    """Reads the ends of logs, and remembers them by the size and the time of the file. Of a log that has grown since
    the last look only the new end is read: an open list looks every few seconds. May be asked in several threads.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[Path, _LogEnd] = OrderedDict()

    def read(self, path: Path, positions: int | None) -> tuple[Line, list[Measured]]:
        """(the last line of a step, the newest measurement on every scale)"""
        try:
            status = os.stat(path)
        except OSError:
            return Line(), []
        kept = self._kept.get(path)
        if kept is None or (kept.file, kept.positions) != ((status.st_dev, status.st_ino), positions):
            kept = None
        elif (kept.size, kept.time) == (status.st_size, status.st_mtime_ns):
            return kept.last, list(kept.newest.values())
        elif not kept.size <= status.st_size <= kept.size + ENDS[0] // 2:
            kept = None
        last, newest = _log_end(path, positions, kept)
        file = status.st_dev, status.st_ino
        self._kept[path] = _LogEnd(file, status.st_size, status.st_mtime_ns, positions, last, newest)
        while len(self._kept) > MOST_ENDS:
            with suppress(KeyError):
                self._kept.popitem(last=False)
        return last, list(newest.values())


@dataclass(frozen=True)
class _LogEnd:
    file: tuple[int, int]  # device and number
    size: int
    time: int  # of its last change, in ns
    positions: int | None
    last: Line
    newest: dict[str, Measured]


def summarize(run: Path, ends: LogEnds | None = None, config: Config | None = None) -> Summary:
    """The figures of a run. Raises nothing for files that are damaged or gone: what they told is then missing.

    ends: of logs read before. config: the run's, where it has been read.
    """
    broken = None
    if config is None:
        try:
            config = config_of(run)
        except Refused as error:
            broken, config = str(error), {}
    finished, positions, saved = _last_checkpoint(run) if not (run / IMPORTED).is_file() else _imported(run)
    last, strength = (ends or LogEnds()).read(run / "log.jsonl", positions)
    published = models(run)
    running = is_running(run)
    return Summary(
        name=run.name or run.resolve().name,
        game=one_line(str(config.get("game", "?")), 100),
        preset=one_line(str(config.get("preset", "?")), 100),
        state=RUNNING if running else ENDED if finished else STOPPED,
        steps=max(saved, int(number(last.get("step")) or 0)),
        seconds=float(number(last.get("elapsed")) or 0.0),
        rows=int(number(last.get("rows")) or 0),
        model=int(published[-1].stem) if published else None,
        incidents=len(incidents(run)),
        positions=positions,
        strength=strength,
        broken=broken,
    )


def _imported(run: Path) -> tuple[bool, int | None, int]:
    """The same of a run that came as a file: it has no checkpoint, and cannot go on."""
    with suppress(OSError, ValueError):
        told = read_json(run / IMPORTED, MB)
        count = cast("dict[str, Any]", told).get("positions") if isinstance(told, dict) else None
        return True, count if type(count) is int and count > 0 else None, 0
    return True, None, 0


def _last_checkpoint(run: Path) -> tuple[bool, int | None, int]:
    """(whether the run is over, how many solved positions its best model was measured on, step)"""
    for folder in reversed(checkpoints(run)):
        with suppress(OSError, ValueError):
            state = read_json(folder / "state.json", MOST_STATE)
            extra = cast("dict[str, Any]", state).get("extra") if isinstance(state, dict) else None
            if isinstance(extra, dict):
                told = cast("dict[str, Any]", extra)
                best = told.get("best")
                kept = cast("dict[str, Any]", best).get("kept") if isinstance(best, dict) else None
                count = len(kept) if isinstance(kept, str) and kept else None
                return told.get("finished") is True, count, int(folder.name.partition("-")[2])
    return False, None, 0


def _log_end(path: Path, positions: int | None, kept: _LogEnd | None) -> tuple[Line, dict[str, Measured]]:
    """(the last line of a step, the newest measurement on every scale). kept: of the log before it has grown."""
    last, newest = (kept.last, kept.newest) if kept else (Line(), dict[str, Measured]())
    for most in ENDS:
        lines, _ = read_log(path, most)
        last = next((line for line in reversed(lines) if line.get("kind") == "step"), last)
        newest = {**newest, **{one.scale: one for one in measured(lines, positions)}}
        if newest or kept:
            break
    return last, newest
