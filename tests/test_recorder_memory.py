"""What the recorder takes of memory, in processes of their own: two copies of the state and 30 MB."""

from __future__ import annotations

import runpy

import pytest
from command_line import ROOT

measure = runpy.run_path(str(ROOT / "benchmarks" / "recorder_memory.py"))["measure"]


@pytest.mark.parametrize(("optimizer", "mb"), [("adam", 10.0), ("lbfgs", 10.0)])
def test_the_recorder_takes_two_copies_of_the_state_and_30_mb(optimizer, mb):
    found = measure(optimizer, mb)
    assert found["state_mb"] > 5
    assert found["over_mb"] <= found["most_mb"], found
