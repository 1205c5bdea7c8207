"""A container's limit on cores counts."""

import os

import pytest

from az.engine.system import cores
from az.engine.system.cores import usable_cores


@pytest.mark.parametrize(
    ("text", "wanted"), [("max 100000", 8), ("150000 100000", 2), ("50000 100000", 1), ("900000 100000", 8), ("", 8)]
)
def test_the_quota_bounds_the_cores(tmp_path, monkeypatch, text, wanted):
    (tmp_path / "cpu.max").write_text(text)
    monkeypatch.setattr(cores, "QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _: range(8), raising=False)
    assert usable_cores() == wanted


def test_without_control_groups_the_machine_decides(tmp_path, monkeypatch):
    monkeypatch.setattr(cores, "QUOTA", tmp_path / "none")
    assert usable_cores() == len(os.sched_getaffinity(0))
