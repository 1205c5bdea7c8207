"""`make train`: what it does with a run that is there, and what its last lines say; a stub stands for `az`."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from command_line import ROOT

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")

STUB = """#!/bin/sh
echo "$@" >> asked
[ "$1" = resume ] && exit CODE
exit 0
"""


def make_train(folder: Path, code: int, *words: str, run: str = "connect4-make-train") -> tuple[int, str, list[str]]:
    """(exit code, what was shown, what az was asked) of a second `make train` where az resume exits with the code."""
    shutil.copy(ROOT / "Makefile", folder)
    for name in ("pyproject.toml", "constraints.txt", f"runs/{run}/config.toml", ".venv/.ready", ".venv/bin/az"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    stub = folder / ".venv/bin/az"
    stub.write_text(STUB.replace("CODE", str(code)))
    stub.chmod(0o755)
    done = subprocess.run(
        ["make", "train", *words], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout + done.stderr, (folder / "asked").read_text().splitlines()


def test_a_finished_run_is_measured_again_and_the_way_on_is_said(tmp_path):
    code, shown, asked = make_train(tmp_path, 0, "RUN=mine", run="mine")
    assert code == 0
    assert asked[0] == "resume mine --minutes 5 --finished-ok"
    assert [line.split()[0] for line in asked[1:]] == ["arena", "arena", "arena"]
    assert "make train RUN=mine MINUTES=30" in shown
    assert "Error" not in shown


@pytest.mark.parametrize("code", [1, 2, 130])  # a broken configuration; in use, or MINUTES=abc; Ctrl-C
def test_any_other_failure_ends_there(tmp_path, code):
    left, shown, asked = make_train(tmp_path, code)
    assert left != 0
    assert len(asked) == 1
    assert "make train RUN=name" in shown


def test_the_last_lines_say_what_was_measured_in_figures_of_the_log(tmp_path):
    _, shown, _ = make_train(tmp_path, 0)
    told = re.findall(r"([\d.]+) % against (random|its untrained self|rollouts:200)", " ".join(shown.split()))
    assert told == [("99.5", "random"), ("97.5", "its untrained self"), ("90.6", "rollouts:200")]
    log = " ".join((ROOT / "docs" / "log.md").read_text("utf-8").split())
    # The training of five minutes: network alone against random, then 50 simulations against the other two.
    assert "99.5 % of 200 games against random" in log
    assert "97.5 % of 100 against its untrained self" in log
    assert "87.8, 93.0 and 91.0 % of 400 against `rollouts:200`, mean **90.6 %**" in log
    assert "make train MINUTES=30" in shown
    assert "az play connect4 --model connect4-make-train" in shown
