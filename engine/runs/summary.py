"""A run in a few figures, from the ends of its files: quick also where the log is long and the run goes on."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from az.engine.errors import Refused
from az.engine.printable import one_line
from az.engine.runs.folders import checkpoints, config_of, incidents, models
from az.engine.runs.log import Line, read_log
from az.engine.runs.state import is_running
from az.engine.runs.strength import Measured, measured, number
from az.engine.system.safe_read import MB, read_json

ENDS = (256 << 10, 8 * MB)  # bytes of the end of a log: the first is enough where something was measured lately
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


def summarize(run: Path) -> Summary:
    """The figures of a run. Raises nothing for files that are damaged or gone: what they told is then missing."""
    broken, config = None, dict[str, Any]()
    try:
        config = config_of(run)
    except Refused as error:
        broken = str(error)
    finished, positions, saved = _last_checkpoint(run) if not (run / IMPORTED).is_file() else _imported(run)
    last, strength = _log_end(run / "log.jsonl", positions)
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


def _log_end(path: Path, positions: int | None) -> tuple[Line, list[Measured]]:
    """(the last line of a step, the newest measurement on every scale)"""
    last, newest = Line(), dict[str, Measured]()
    for most in ENDS:
        lines, _ = read_log(path, most)
        last = next((line for line in reversed(lines) if line.get("kind") == "step"), last)
        newest = {one.scale: one for one in measured(lines, positions)}
        if newest:
            break
    return last, list(newest.values())
