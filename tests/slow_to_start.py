"""A module that a child process takes seconds to import, as torch or numba on a busy machine."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

if multiprocessing.current_process().name != "MainProcess":
    time.sleep(3)


def rest(folder: Path) -> None:
    """A child's body: say that it is there, and stay."""
    (folder / "there").touch()
    time.sleep(60)


def fail(_: Path) -> None:
    """A child's body that ends at once."""
    raise SystemExit(3)
