"""Where compiled code is kept: a folder that only this user may enter, or none at all.

What is loaded from there is run (numba's cache files are pickles that hold machine code), so a folder that another
user could have written to is never used.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def cache_folder(name: str) -> Path | None:
    """The folder `name` for compiled code, made where it is missing; None where no place can be used.

    The first of $AZ_CACHE_DIR, $XDG_CACHE_HOME, ~/.cache and the temporary folders in which it can be made and
    written. Each folder that is made has mode 0700; one that belongs to another user is passed over.
    """
    for base, names in _places(name):
        try:
            base.mkdir(parents=True, exist_ok=True)
            folder = base
            for part in names:
                folder = folder / part
                _make_private(folder, last=part == names[-1])
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except (OSError, ValueError):
            continue
    return None


def _places(name: str) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """(a folder that others may share, the folders below it that are ours), best first."""
    for variable in ("AZ_CACHE_DIR", "XDG_CACHE_HOME"):
        if text := os.environ.get(variable):
            yield Path(text).absolute(), ("az", "numba", name)
    try:
        home = Path.home()
    except (RuntimeError, KeyError):  # no HOME, and no entry in the list of users
        home = None
    if home is not None and os.path.isdir(home) and home != Path(home.anchor):  # a home that is missing stays missing
        yield home / ".cache", ("az", "numba", name)
    if os.name == "nt":
        yield Path(tempfile.gettempdir()), ("az", "numba", name)
        return
    for text in (os.environ.get("TMPDIR"), "/tmp", "/var/tmp"):
        if text and os.path.isdir(text):  # Path.is_dir raises where a folder above may not be entered
            yield Path(text).absolute(), (f"az-{os.geteuid()}", "numba", name)


def _make_private(folder: Path, last: bool) -> None:
    """Make a folder, or find it; raises OSError where it is not this user's own, or stays open to others.

    A folder of compiled code that stood open to others' writing is emptied: any of them may have put files there.
    """
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()  # of a link itself: it could lead into another user's folder
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(folder)
    if os.name == "nt":  # a profile is private, and there are no modes
        return
    if found.st_uid != os.geteuid():
        raise PermissionError(folder)
    if found.st_mode & 0o077:
        folder.chmod(0o700)
        if folder.lstat().st_mode & 0o077:  # a file system without modes
            raise PermissionError(folder)
        if last and found.st_mode & 0o022:
            empty(folder)


def empty(folder: Path) -> None:
    """Delete what is in a cache folder; files that another process deletes at the same time are no error."""
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder before the folder
        try:
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        except OSError:
            continue
