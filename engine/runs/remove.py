"""Deleting a run: never one that goes on, and whole or not at all as far as any reader of runs can see.

The folder is renamed first, to a hidden name that no command takes for a run. A kill after that leaves the hidden
folder; the next deletion beside it removes it.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from contextlib import suppress
from pathlib import Path

from az.engine.errors import WrongRequest
from az.engine.runs.state import held
from az.engine.system.files import naming, sync_folder

TRASH = re.compile(r"\.(.+)\.deleted-[0-9]+")
LAST = "config.toml"
OWN = re.compile(
    r"records|models|checkpoints|health|quarantine|lock|log\.jsonl|best\.json|taken\.jsonl|config(-[0-9]+)?\.toml"
    r"|events\.out\.tfevents\..*|imported\.json|score\.json|README\.md|\..*"
)


def check_deletable(run: Path) -> None:
    """Raises WrongRequest for a run that goes on, and for a link."""
    if run.is_symlink():
        raise WrongRequest(f"'{run}' is a link: remove the link itself, or give the folder that it leads to.")
    with held(run):
        pass


def contents(run: Path) -> tuple[int, list[str]]:
    """(bytes of all files, names in the folder that az does not give)"""
    size = 0
    for folder, _, files in os.walk(run):
        for name in files:
            with suppress(OSError):
                size += os.lstat(os.path.join(folder, name)).st_size
    return size, sorted(name for name in os.listdir(run) if not OWN.fullmatch(name))


def delete(run: Path) -> None:
    """Delete a run's folder and what older deletions left beside it. Raises WrongRequest as `check_deletable` does,
    OSError naming a file that cannot be removed.
    """
    check_deletable(run)
    run = run.resolve()
    trash = run.with_name(f".{run.name}.deleted-{os.getpid()}")
    with held(run), naming(run):
        if sys.platform != "win32":  # which renames nothing that is open
            _to_trash(run, trash)
    if not trash.exists():
        _to_trash(run, trash)
    _clear(trash)
    for left in run.parent.glob(".*.deleted-*"):
        if TRASH.fullmatch(left.name) and not left.is_symlink() and (left / LAST).is_file():
            with suppress(OSError):  # another process may remove it
                _clear(left)
    sync_folder(run.parent)


def _clear(trash: Path) -> None:
    """Remove the folder, its configuration last: by it the rest of a killed deletion is known, and no other folder."""
    for path in trash.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LAST:
            path.unlink()
    (trash / LAST).unlink(missing_ok=True)
    trash.rmdir()


def _to_trash(run: Path, trash: Path) -> None:
    if trash.exists():  # of a killed process of the same number
        shutil.rmtree(trash)
    os.rename(run, trash)
    sync_folder(run.parent)
