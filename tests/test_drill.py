"""The drill in small: a bad file, a bad step and a refused model through the command; what the run does about it."""

from __future__ import annotations

import json
import random
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from run_tools import run_az

from az.commands.drill import faults_in_files as drill_files
from az.commands.drill import faults_in_steps as drill_steps
from az.commands.drill.command import NAMES
from az.commands.drill.runs import Drill, Fault, RunResult, config_of, train_with
from az.train import checkpoint
from az.train import learner as learners
from az.train.config import LearnerConfig
from az.train.run import bundle
from az.train.run.guarded_step import GuardedLearner

FAULTS: dict[str, Fault] = {fault.id: fault for fault in (*drill_files.FAULTS, *drill_steps.FAULTS)}

FIELDS = {"id", "seed", "detected", "before_damage", "cause_exact", "recovery_equal", "seconds"}


def test_the_drill_has_every_fault_of_the_list() -> None:
    listed = {f"D{n:02}" for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 15, 16, 18, 20, 21, 24, 27, 28)}
    assert listed <= set(NAMES)


def test_the_command_says_what_it_found_as_json(tmp_path: Path) -> None:
    done = run_az(tmp_path, "drill", "--seeds", 1, "--only", "D01,D09,D27", "--no-controls", "--json")
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    assert [row["id"] for row in values["faults"]] == ["D01", "D09", "D27"]
    for row in values["faults"]:
        assert row.keys() >= FIELDS
        assert row["detected"]
        assert row["before_damage"]
        assert row["cause_exact"]
        assert row["recovery_equal"]
    assert values["controls"] == []


def test_an_unknown_fault_is_refused(tmp_path: Path) -> None:
    done = run_az(tmp_path, "drill", "--only", "D99")
    assert done.returncode == 2
    assert "there is no fault 'D99'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("seed", "name"), [(3, "D12"), (4, "D21"), (5, "D07")])
def test_faults_at_other_places(tmp_path: Path, seed: int, name: str) -> None:
    row = Drill(tmp_path).row(FAULTS[name], seed)
    assert (row.detected, row.before_damage, row.cause_exact, row.recovery_equal) == (True, True, True, True)


def test_policy_stop_stops_with_the_state_of_before(tmp_path: Path) -> None:
    config = config_of(2, 24, ("health.on_incident=stop",))
    result = RunResult(2)
    train_with(result, config, tmp_path / "run", FAULTS["D10"].inject(result, random.Random(1)))
    assert "stopped at an incident, as asked" in result.stopped
    assert result.steps == result.truth["step"]
    found = bundle.read(result.incidents[0][0])
    assert found.incident.cause == "log-of-zero"
    assert found.state is not None
    assert found.state.step == result.truth["step"]
    assert found.batch is not None


def test_what_was_made_of_undone_steps_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Step 10 has been published and checkpointed when step 11 finds that 9 was wrong and goes back."""
    often = ("deterministic=false", "replay.publish_every_steps=5", "checkpoint_steps=1", "keep_checkpoints=20")
    original = GuardedLearner.step

    def step(guarded: GuardedLearner, *given: Any) -> Any:
        metrics = original(guarded, *given)
        if guarded.learner.steps == 11:
            guarded.went_back = 9
        return metrics

    monkeypatch.setattr(GuardedLearner, "step", step)
    train_with(RunResult(6), config_of(6, 13, often), tmp_path / "run", nullcontext())
    published = [json.loads(path.read_text())["step"] for path in sorted((tmp_path / "run" / "models").glob("*.json"))]
    assert published == [0, 5, 10, 11, 13]
    kept = [int(path.name.removeprefix("step-")) for path in checkpoint.folders(tmp_path / "run")]
    assert kept == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13]


def test_the_same_cause_three_times_stops_the_run(tmp_path: Path) -> None:
    original = learners.data_losses

    def losses(*arguments):
        policy, value, logs = original(*arguments)
        return policy / (policy - policy), value, logs  # for good: nobody mends it

    result = RunResult(1)
    with patch.object(learners, "data_losses", losses):
        train_with(result, config_of(1, 24, ("health.preflight=off",)), tmp_path / "run", nullcontext())
    assert "was met 3 times" in result.stopped
    assert result.steps == 0
    assert len(result.incidents) == 3
    assert {incident.cause for _, incident in result.incidents} == {"division-by-zero"}


def test_controls_are_shared_where_they_are_the_same_run(tmp_path: Path) -> None:
    drill = Drill(tmp_path)
    for name in ("D09", "D10"):
        assert drill.row(FAULTS[name], 0).recovery_equal
    assert len(drill._controls) == 1


def test_a_fault_that_shows_later_is_undone_from_the_step_that_caused_it(tmp_path: Path) -> None:
    """Under SGD nothing bounds a step: the spike shows one step later, and both are made again."""
    config = config_of(6, 24, ("learner.optimizer=sgd", "learner.precision=fp32"))
    original, result, control = learners.learning_rate, RunResult(6), RunResult(6)

    def rate(of: LearnerConfig, number: int, progress: float) -> float:
        return original(of, number, progress) * (1e30 if number == 13 and result.clean() else 1.0)

    with patch.object(learners, "learning_rate", rate):
        train_with(result, config, tmp_path / "run", nullcontext())
    train_with(control, config, tmp_path / "control", nullcontext())
    (_, incident), *more = result.incidents
    assert not more
    assert (incident.cause, incident.causal_step) == ("learning-rate-spike", 13)
    assert incident.first_bad_step > 13
    assert result.end == control.end
