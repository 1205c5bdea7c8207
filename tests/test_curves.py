"""The picture of how a run has learned."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_tools import run_az

from az.engine.errors import WrongRequest
from az.train.doctor.curves import Point, draw, points

STEPS = [{"kind": "step", "step": step, "rows": 10 * step, "elapsed": 36.0 * step} for step in (1, 100, 200)]


def solved(step: int, model: int, share: float) -> dict:
    return {"kind": "solved", "step": step, "model": model, "thrown": {"begin": share, "all": share / 2}}


def test_points_tell_rows_and_hours_before_a_model() -> None:
    lines = [
        solved(0, 0, 0.8),
        STEPS[0],
        STEPS[1],
        solved(150, 1, 0.4),
        STEPS[2],
        solved(200, 2, 0.2),
        solved(200, 2, 0.3),
    ]
    assert points(lines) == [
        Point(0, 0.0, 0.0, {"begin": 0.8, "all": 0.4}),
        Point(1, 1000.0, 1.0, {"begin": 0.4, "all": 0.2}),
        Point(2, 2000.0, 2.0, {"begin": 0.3, "all": 0.15}),  # undone and made again: the later one
    ]


@pytest.mark.parametrize(
    "line",
    [
        {"kind": "solved", "step": "x", "model": 1, "thrown": {}},
        {"kind": "solved", "step": 1, "model": None, "thrown": {}},
        {"kind": "solved", "step": 1, "model": 1, "thrown": [1]},
        {"kind": "solved"},
    ],
)
def test_odd_lines_are_passed_over(line: dict) -> None:
    assert points([*STEPS, line]) == []
    assert points([{"kind": "solved", "step": 5, "model": 1, "thrown": {"all": float("nan")}}]) == [
        Point(1, 0.0, 0.0, {})
    ]


@pytest.mark.parametrize(("name", "begin"), [("a.svg", b"<?xml"), ("a.png", b"\x89PNG")])
def test_the_same_curve_is_the_same_file(tmp_path: Path, name: str, begin: bytes) -> None:
    found = points([*STEPS, solved(0, 0, 0.8), solved(200, 2, 0.3)])
    kept = []
    for _ in range(2):
        draw(found, "a run", tmp_path / name)
        kept.append((tmp_path / name).read_bytes())
    assert kept[0].startswith(begin)
    assert kept[0] == kept[1]
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_cannot_be_drawn_is_said(tmp_path: Path) -> None:
    with pytest.raises(WrongRequest, match="no model measured"):
        draw([], "a run", tmp_path / "a.svg")
    with pytest.raises(WrongRequest, match=r"must end in \.svg or \.png"):
        draw(points([solved(0, 0, 1.0)]), "a run", tmp_path / "a.gif")
    assert list(tmp_path.iterdir()) == []
    done = run_az(tmp_path, "score", "connect4", "--picture", "a.svg")
    assert (done.returncode, done.stdout) == (2, "")
    assert "give a run" in done.stderr
