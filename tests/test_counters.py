"""What the learner may draw, also where a run goes on with other settings."""

from __future__ import annotations

import pytest

from az.train.config import RunConfig, with_settings
from az.train.presets import preset
from az.train.run.counters import Counters

BEFORE = with_settings(preset("connect4", "quick"), ["replay.reuse=6", "learner.batch=256"])


def changed(*settings: str) -> RunConfig:
    return with_settings(BEFORE, list(settings))


@pytest.mark.parametrize("setting", ["replay.reuse=0.5", "replay.reuse=20", "learner.batch=1024", "learner.batch=32"])
def test_another_reuse_or_batch_holds_from_now_on(setting):
    count, now = Counters(), changed(setting)
    rows, steps = 100_000, 2_300
    left = count.left_to_draw(BEFORE, rows, steps)
    assert left == 100_000 * 6 - 2_300 * 256
    count.go_on(BEFORE, now, rows, steps)
    assert count.left_to_draw(now, rows, steps) == left
    later = count.left_to_draw(now, rows + 500, steps + 3)
    assert later == left + 500 * now.replay.reuse - 3 * now.learner.batch
    count.go_on(now, BEFORE, rows + 500, steps + 3)  # and back again
    assert count.left_to_draw(BEFORE, rows + 500, steps + 3) == later


def test_the_same_settings_change_nothing():
    count = Counters()
    count.go_on(BEFORE, changed("selfplay.c_scale=1"), 12_345, 67)
    assert count == Counters()
    assert Counters.read({"extra_rows": -12.5}).extra_rows == -12.5
    assert count.left_to_draw(BEFORE, 100, 0) == 0.0  # fewer than min_rows
