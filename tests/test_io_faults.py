"""Crash at every I/O event, and fail the n-th call: a deterministic run ends with the same bytes all the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import ROOT
from io_events import Event, rebuilt

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="cases are forked")


def tried(folder: Path, kind: str, seconds: float) -> dict[str, Any]:
    """What tests/io_fault_runs.py found, and its figure printed."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "io_fault_runs.py"), str(folder), kind, str(seconds)],
        capture_output=True, text=True, timeout=seconds + 2400, check=False,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    right = found["tried"] - len(found["wrong"])
    print(f"{kind}: {right} of {found['tried']} cases right, of {found['cases']} over {found['events']} events")
    return found


@pytest.mark.parametrize("kind", ["kills", "failures"])
def test_a_few_events(tmp_path, kind):
    found = tried(tmp_path, kind, 12)
    assert found["wrong"] == []
    assert found["tried"] >= 3
    assert found["events"] > 200


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "seconds"), [("kills", 3000), ("resumes", 900), ("failures", 3000)])
def test_every_event(tmp_path, kind, seconds):
    found = tried(tmp_path, kind, seconds)
    assert found["wrong"] == []
    assert found["tried"] >= 20


def test_a_folder_is_what_its_events_made():
    events = [
        Event("open", "d/.a"), Event("write", "d/.a", b"one"), Event("rename", "d/.a", to="d/a"),
        Event("open", "b"), Event("write", "b", b"two"), Event("truncate", "b", size=1),
        Event("rename", "d", to="e"), Event("open", "c"), Event("unlink", "c"),
    ]  # fmt: skip
    assert rebuilt(events) == {"e/a": b"one", "b": b"t"}
