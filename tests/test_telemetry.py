"""az sends nothing: onnxruntime's telemetry is off in every process that az starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from run_tools import command, environment

LOADED = "import az.engine.inference.onnx_evaluator, os, sys; print(os.environ['ORT_DISABLE_TELEMETRY'])"


@pytest.mark.parametrize("words", [[sys.executable, "-c", LOADED], command("analyze", "tictactoe")])
def test_nothing_is_kept_below_the_home_and_nothing_is_said(tmp_path: Path, words: list[str]):
    home = tmp_path / "home"
    home.mkdir()
    given = {k: v for k, v in environment().items() if not k.startswith(("XDG_", "ORT_"))} | {"HOME": str(home)}
    done = subprocess.run(words, input='{"id": 1, "sims": 2}\n', capture_output=True, text=True, env=given,
                          cwd=tmp_path, timeout=240, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert not [path for path in home.rglob("*") if "onnxruntime" in str(path).lower() or "deviceid" in path.name]


def test_no_home_is_no_warning(tmp_path: Path):
    given = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "ORT_"))} | {"HOME": os.devnull}
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, env=given, cwd=tmp_path,
                          timeout=240, check=False)  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_the_user_decides(tmp_path: Path):
    given = os.environ | {"ORT_DISABLE_TELEMETRY": "true"}
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, env=given, cwd=tmp_path,
                          timeout=240, check=False)  # fmt: skip
    assert done.stdout == "true\n"
