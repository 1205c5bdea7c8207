"""A run that gets worse says so, and what a high learning rate has to do with it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import ROOT
from make_models import write_model

from az.engine.game import load_game
from az.train.config import LearnerConfig
from az.train.presets import preset
from az.train.probe import Probe

USUAL = preset("connect4", "quick").learner


@pytest.mark.parametrize(
    ("config", "progress", "told"),
    [
        (USUAL, 0.2, True),
        (USUAL, 0.8, False),
        (USUAL, 0.0, False),  # no end is planned: the rate stays
        (replace(USUAL, lr_final_fraction=1.0), 0.2, False),
    ],
)
def test_a_worse_model_is_told_of_once(config: LearnerConfig, progress: float, told: bool, tmp_path: Path):
    worse = write_model(tmp_path / "worse.onnx", "connect4")
    notes, messages = list[tuple[str, dict[str, Any]]](), list[str]()
    probe = Probe(load_game("connect4"), config, tmp_path, lambda *note: notes.append(note), messages.append)
    best, _ = probe.measure(ROOT / "models" / "connect4.onnx", 1, 100, None, progress)
    for number in (2, 3):
        best, thrown = probe.measure(worse, number, number * 100, best, progress)
        assert thrown["all"] > 0.3
    assert len(messages) == 1
    assert messages[0].startswith("the run unlearns: model 000002 gives the result away in ")
    assert ("the learning rate is still high" in messages[0]) == told
    assert [kind for kind, _ in notes] == ["solved", "solved", "unlearned", "solved"]
    assert json.loads((tmp_path / "best.json").read_text())["model"] == "000001"
