"""Files of which no reader ever sees half: written beside their place, fsynced, renamed.

An OSError raised here always names the file that could not be written (`filename`), also where the system names none.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

NEW = ".new"  # ending of a folder that is about to take the place of the one without it
# What systems answer that cannot fsync a folder (some network mounts); there a rename is as safe as they make it.
_NO_FOLDER_SYNC = {
    getattr(errno, name) for name in ("EINVAL", "ENOTSUP", "EOPNOTSUPP", "EBADF") if hasattr(errno, name)
}
_FLAGS = sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_BINARY", "O_NOFOLLOW"))


def sha256(path: Path) -> str:
    """The file's SHA-256, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Replace `path` by these bytes: a reader finds the old ones or all of the new ones, even after a power cut.

    Raises OSError naming `path`; the old file is then as it was, and nothing half-written is left.
    """
    beside = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _write_new(beside, [data] if isinstance(data, bytes) else data)
            os.replace(beside, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(beside)
            raise
        sync_folder(path.parent)


def publish_folder(tmp: Path, final: Path) -> None:
    """Make the finished folder `tmp` (same file system) appear as `final`, whole or not at all.

    Where `final` exists, the new one first appears as `final.new`; only then the old one is removed and `final.new`
    takes its name. So at every moment one of the two names is a whole folder (`settle_folder` ends what a kill cut
    short). Raises OSError naming a file.
    """
    for path in sorted(tmp.rglob("*")):
        if path.is_file():
            _sync_file(path)
        else:
            sync_folder(path)
    sync_folder(tmp)
    with naming(final):
        if final.exists():
            new = final.with_name(final.name + NEW)
            if new.exists():  # whole, or it would not have this name: it replaces `final` first
                settle_folder(new)
            os.rename(tmp, new)
            settle_folder(new)
        else:
            os.rename(tmp, final)
            sync_folder(final.parent)


def settle_folder(new: Path) -> None:
    """Let the folder `NAME.new` take the place of NAME. Raises OSError naming a file; calling again goes on."""
    final = new.with_name(new.name.removesuffix(NEW))
    with naming(final):
        sync_folder(new.parent)  # the new one is on the disk before the old one goes
        if final.exists():
            shutil.rmtree(final)
        os.rename(new, final)
        sync_folder(new.parent)


class AppendFile:
    """A file that grows by whole pieces: a piece that cannot be written leaves the file as it was."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with naming(path):
            self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | _FLAGS, 0o666)
            self.size = os.fstat(self._handle).st_size

    def append(self, piece: bytes) -> None:
        """Write at the end. Raises OSError naming the file."""
        with naming(self.path):
            try:
                _write(self._handle, piece)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._handle, self.size)
                raise
        self.size += len(piece)

    def sync(self) -> None:
        """Return once all pieces are on the disk. Raises OSError naming the file."""
        with naming(self.path):
            os.fsync(self._handle)

    def close(self) -> None:
        """Close the file; further calls do nothing."""
        if self._handle >= 0:
            handle, self._handle = self._handle, -1
            with naming(self.path):
                os.close(handle)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """OSErrors raised inside name `path` where they name no file, or only a temporary one."""
    try:
        yield
    except OSError as error:
        named = str(error.filename or "")
        if error.errno is None or (named and ".tmp-" not in named):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def sync_folder(folder: Path) -> None:
    """A rename is on the disk only when its folder is; Windows cannot open folders and does without.

    Raises OSError naming the folder, but not where its file system has no fsync of folders.
    """
    if os.name == "nt":
        return
    with naming(folder):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in _NO_FOLDER_SYNC:
                raise
        finally:
            os.close(handle)


def _sync_file(path: Path) -> None:
    with naming(path):
        handle = os.open(path, os.O_RDWR | _FLAGS)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _write_new(path: Path, pieces: Iterable[bytes]) -> None:
    """A new file, on the disk when this returns. What a killed process of the same number left is removed first."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS
    try:
        handle = os.open(path, flags, 0o666)
    except FileExistsError:
        os.unlink(path)
        handle = os.open(path, flags, 0o666)
    try:
        for piece in pieces:
            _write(handle, piece)
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(handle: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]
