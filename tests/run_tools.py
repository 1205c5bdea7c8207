"""Small real runs for the tests: real processes, tiny networks."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

SMALL = {
    "net.channels": 8,
    "net.blocks": 1,
    "learner.batch": 32,
    "replay.min_rows": 64,
    "replay.window_start": 2000,
    "replay.publish_every_steps": 10,
    "selfplay.simulations": 8,
    "selfplay.fast_simulations": 4,
    "selfplay.slots": 8,
    "games_per_turn": 12,
    "workers": 2,
    "checkpoint_steps": 10,
    "arena.games": 0,
}


def command(*arguments: object) -> list[str]:
    """The command line of `az` with these arguments."""
    return [sys.executable, "-m", "az.cli", *map(str, arguments)]


def settings(**more: object) -> list[str]:
    """--set options of a small run; a double underscore stands for the dot."""
    values = SMALL | {key.replace("__", "."): value for key, value in more.items()}
    return [part for key, value in values.items() for part in ("--set", f"{key}={value}")]


def run_az(folder: Path, *arguments: object, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Run `az` in a folder to its end."""
    return subprocess.run(
        command(*arguments), cwd=folder, capture_output=True, text=True, timeout=timeout, env=environment(), check=False
    )


def start_az(folder: Path, *arguments: object) -> subprocess.Popen[bytes]:
    """Start `az` in a folder, in a process group of its own."""
    return subprocess.Popen(
        command(*arguments),
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
        start_new_session=True,
    )


def environment() -> dict[str, str]:
    """Plain output whatever terminal the tests run in."""
    return os.environ | {"NO_COLOR": "1", "TERM": "dumb"}


def digests(folder: Path, pattern: str = "**/*") -> dict[str, str]:
    """SHA-256 of every file below a folder, by its relative path."""
    files = sorted(path for path in folder.glob(pattern) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
