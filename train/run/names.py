"""The names that az gives to files in a run. Other files there belong to the user: left alone, mentioned once."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable
from pathlib import Path

from az.engine.errors import Refused
from az.engine.inference.precision import VARIANTS
from az.engine.printable import one_line
from az.engine.selfplay.worker import RECORD_NAME

MODEL = re.compile(rf"([0-9]{{6,12}})\.(json|onnx|(?:{'|'.join(VARIANTS)})\.onnx)")
INCIDENT = re.compile(r"incident-([0-9]{4,9})")
CHECKPOINT = re.compile(r"step-([0-9]{9,13})(\.new)?")
FOLDERS = ("records", "models", "checkpoints", "health", "quarantine")
MOST_LOG = 1 << 30  # bytes of the log and of a file of events: they are read when a run goes on
MOST_NAMED = 5  # stray names that one message shows


def record_files(folder: Path) -> list[Path]:
    """The record files, oldest first."""
    return sorted(path for path in folder.glob("[0-9]*.npz") if RECORD_NAME.fullmatch(path.name) and not _folder(path))


def model_files(folder: Path) -> list[tuple[int, Path]]:
    """(number, file) of every card and model that has az's names."""
    found = ((MODEL.fullmatch(path.name), path) for path in folder.glob("[0-9]*"))
    return sorted((int(match[1]), path) for match, path in found if match and not _folder(path))


def model_cards(folder: Path) -> list[tuple[int, Path]]:
    """(number, card) of every published model, lowest number first."""
    return [(number, path) for number, path in model_files(folder) if path.suffix == ".json"]


def incident_folders(health: Path) -> list[tuple[int, Path]]:
    """(number, folder) of every incident, oldest first."""
    found = ((INCIDENT.fullmatch(path.name), path) for path in health.glob("incident-*"))
    return sorted((int(match[1]), path) for match, path in found if match and path.is_dir())


def strays(run: Path) -> list[str]:
    """Names in the folders of records, models and checkpoints that az did not give, hidden ones aside."""
    patterns = {"records": (RECORD_NAME, False), "models": (MODEL, False), "checkpoints": (CHECKPOINT, True)}
    names = []
    for folder, (pattern, folders) in patterns.items():
        for path in sorted((run / folder).iterdir()) if (run / folder).is_dir() else ():
            ours = pattern.fullmatch(path.name) and _folder(path) == folders
            names += [] if ours or path.name[0] == "." else [f"{folder}/{path.name}"]
    return names


def strays_line(run: Path) -> str | None:
    """The strays in a sentence; None where there are none."""
    names = strays(run)
    if not names:
        return None
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return (
        f"left alone, for az gives no such names: {', '.join(one_line(name, 80) for name in names[:MOST_NAMED])}{more}"
    )


def check_own(run: Path) -> None:
    """Raises Refused where a run would write outside itself: through a link, or into what is no file or folder.

    The run's own folder may be a link: that is the user's own request.
    """
    for name in FOLDERS:
        _check(run / name, stat.S_ISDIR, "folder")
    for path in (run / "lock", run / "log.jsonl", run / "config.toml", *run.glob("events.out.tfevents.*")):
        _check(path, stat.S_ISREG, "file")
        if path.exists() and path.stat().st_size > MOST_LOG:
            raise Refused(f"'{path}' has more than {MOST_LOG:,} bytes, which no run writes: move it away.")


def _folder(path: Path) -> bool:
    """Whether a folder stands there, itself and not by a link."""
    return path.is_dir() and not path.is_symlink()


def _check(path: Path, is_kind: Callable[[int], bool], kind: str) -> None:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return
    if stat.S_ISLNK(mode):
        raise Refused(
            f"'{path}' is a link: a run's files lie in the run itself; move them there or link the whole run."
        )
    if not is_kind(mode):
        raise Refused(f"'{path}' is no {kind}: it cannot be used as part of a run.")
