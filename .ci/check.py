"""Check what changed since the last commit, in a minute: lint, types, tests. `make check` runs this.

    python .ci/check.py [FILE …]    # the files; else those that differ from the last commit, new ones too

Types: of the changed files. Tests: the changed ones, those of changed modules (tests/test_NAME.py for NAME.py), and
always a smoke set. `make test` runs everything.
"""

from __future__ import annotations

import subprocess
import sys
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SMOKE = ("config", "games", "layering", "perft", "records", "rng", "search", "signature")
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["basedpyright"]


def changed() -> list[str]:
    """Files that differ from the last commit, and new ones."""
    listed = ("git", "diff", "--name-only", "--diff-filter=d", "HEAD"), ("git", "ls-files", "-o", "--exclude-standard")
    return [name for command in listed for name in subprocess.check_output(command, cwd=ROOT, text=True).splitlines()]


def tests_of(files: list[str]) -> list[str]:
    """Test files of the smoke set, and of these files."""
    stems = {Path(name).stem.removeprefix("test_") for name in files if name.endswith(".py")}
    wanted = [ROOT / "tests" / f"test_{stem}.py" for stem in sorted({*SMOKE, *stems})]
    return [str(path.relative_to(ROOT)) for path in wanted if path.exists()]


def main() -> int:
    """All three, also after one has failed; the exit status says whether one has."""
    files = [name for name in sys.argv[1:] or changed() if name.endswith(".py")]
    included, excluded = tuple(SETTINGS["include"]), tuple(SETTINGS["exclude"])
    typed = [name for name in files if name.startswith(included) and not name.startswith(excluded)]
    python, begun, failed = sys.executable, time.perf_counter(), False
    for words in (
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        *([["basedpyright", *typed]] if typed else []),
        ["pytest", "-n", "2", "--dist", "loadfile", "-m", "not slow and not gpu", *tests_of(files)],
    ):
        print("+", *words, flush=True)
        failed |= subprocess.run([python, "-m", *words], cwd=ROOT, check=False).returncode != 0
    print(f"{'failed' if failed else 'all is well'}: {len(files)} changed files, {time.perf_counter() - begun:.0f} s")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
