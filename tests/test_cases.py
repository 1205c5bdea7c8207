"""Cases made from public bug reports of other projects (tests/cases): each exits 0 where az behaves rightly."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CASES = sorted((ROOT / "tests" / "cases").glob("*.py"))
LONG = ("21", "23")  # a compilation without a cache, and a disk that fills while a network trains


def can_mount(folder):
    """Whether this user may mount a file system of its own, as the case of the full disk does."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return False
    done = subprocess.run(["mount", "-t", "tmpfs", "none", folder], capture_output=True, check=False)
    if done.returncode == 0:
        subprocess.run(["umount", folder], check=True)
    return done.returncode == 0


def marked(case):
    return pytest.param(case, id=case.stem, marks=[pytest.mark.slow] if case.name[:2] in LONG else [])


@pytest.mark.parametrize("case", [marked(case) for case in CASES])
def test_case(case, tmp_path):
    if case.name.startswith("23") and not can_mount(tmp_path):
        pytest.skip("only root may mount the small disk that this case fills")
    done = subprocess.run(
        [sys.executable, str(case)],
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "AZ_ROOT": str(ROOT), "NO_COLOR": "1"},
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]


def test_no_case_was_lost():
    numbers = "01 02 03 06 07 09 11 14 15 18 19 21 23"
    assert [case.name[:2] for case in CASES] == numbers.split()
