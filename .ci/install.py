"""Make a virtual environment and install into it, showing how far it is: `make setup` runs this.

    python3 .ci/install.py .venv torch==2.13.0 -- -e '.[train,dev]'

Each part between `--` is one `pip install` with the pinned versions of constraints.txt. In a terminal one line shows
what pip is at, and the size of the environment as it grows; in a pipe there are few lines. What pip says is kept in
install.log; where it fails, its last lines are shown. Needs nothing but Python.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from engine.system.waiting import Waiting  # noqa: E402  # of the standard library only; az itself is not installed yet

SHOWN_ON_FAILURE = 30  # lines
SHOWN = ("Collecting ", "Downloading ", "Processing ", "Obtaining ", "Building ", "Installing ", "Successfully ")


class Size:
    """How much lies in a folder, counted again and again in a thread of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.files, self.megabytes = folder, 0, 0.0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            begun = time.monotonic()
            sizes = list(_sizes(str(self.folder)))
            self.files, self.megabytes = len(sizes), sum(sizes) / 1e6
            time.sleep(max(0.3, time.monotonic() - begun))  # never more than half of a core's time


def _sizes(folder: str) -> Iterator[int]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    if entry.is_dir(follow_symlinks=False):
                        yield from _sizes(entry.path)
                    else:
                        yield entry.stat(follow_symlinks=False).st_size
                except OSError:  # pip has moved it meanwhile
                    continue
    except OSError:
        return


def run(command: list[str], log: Path, environment: dict[str, str], hear: Callable[[str], None]) -> int:
    """Run a command to its end; each line that it prints goes to the log and to `hear`. Returns its exit code."""
    with (
        log.open("a", encoding="utf-8") as file,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            cwd=ROOT, env=environment,
        ) as process,
    ):  # fmt: skip
        for line in process.stdout or ():
            file.write(line)
            file.flush()
            hear(" ".join(line.split()))
    return process.returncode


def main(venv: Path, parts: list[list[str]]) -> int:
    """Returns the exit code."""
    venv = venv.absolute()
    temporary = venv / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)  # on the environment's own disk: many a /tmp is too small for torch
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"}
    python = venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = [str(python), "-m", "pip", "install", "-v", "--disable-pip-version-check", "--progress-bar", "off"]
    commands = [[sys.executable, "-m", "venv", str(venv)]]
    commands += [[*pip, "-c", str(ROOT / "constraints.txt"), *part] for part in parts]
    log, size, said, lines = venv / "install.log", Size(venv), ["a virtual environment"], [0]
    log.unlink(missing_ok=True)
    begun = time.monotonic()
    with Waiting() as waiting:
        for number, command in enumerate(commands, 1):

            def text(number: int = number) -> str:
                where = f"{size.megabytes:,.1f} MB in {size.files:,} files"
                return f"installing, part {number} of {len(commands)}: {where}, {lines[0]:,} steps; {said[0]}"

            def hear(line: str, text: Callable[[], str] = text) -> None:
                lines[0] += 1
                said[0] = line if line.startswith(SHOWN) else said[0]
                waiting.stage(text)

            waiting.stage(text)
            code = run(command, log, environment, hear)
            if code:
                break
    shutil.rmtree(temporary, ignore_errors=True)
    if code:
        last = log.read_text("utf-8").splitlines()[-SHOWN_ON_FAILURE:]
        print("\n".join(last), file=sys.stderr)
        print(f"az: {' '.join(command[:4])} failed; all that it said is in {log}.", file=sys.stderr)
        return code if code > 0 else 1
    megabytes = sum(_sizes(str(venv))) / 1e6
    print(f"installed in {venv.name}: {megabytes:,.0f} MB, {time.monotonic() - begun:.0f} s")
    return 0


def split(words: list[str]) -> list[list[str]]:
    """The words between `--` and `--`."""
    parts: list[list[str]] = [[]]
    for word in words:
        if word == "--":
            parts.append([])
        else:
            parts[-1].append(word)
    return [part for part in parts if part]


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("write: install.py FOLDER WHAT … [-- WHAT …], what as pip takes it")
    try:
        sys.exit(main(Path(sys.argv[1]), split(sys.argv[2:])))
    except KeyboardInterrupt:
        sys.exit(130)
