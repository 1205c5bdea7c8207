"""The whole thing small: real `az train` processes on tic-tac-toe, killed, resumed, repeated."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_tools import digests, run_az, settings, start_az

from az.engine.game import load_game
from az.engine.inference.model_resolver import newest_model
from az.engine.inference.onnx_evaluator import OnnxEvaluator
from az.engine.records.format import read_records
from az.engine.records.row_checks import check_records
from az.train import checkpoint
from az.train.config import from_toml
from az.train.run.log import RunLog

GAME = load_game("tictactoe")


def rows_on_disk(run: Path) -> dict[str, int]:
    """Rows of every record file; reading them proves that none is half-written."""
    found = {}
    for path in sorted((run / "records").glob("[0-9]*.npz")):
        records = read_records(path, GAME)
        assert check_records(GAME, records) == []
        found[path.name] = len(records)
    return found


def log_lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def wait_until(process, reached, seconds: float = 120) -> None:
    """Wait for something that a run does, and fail rather than hang."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert process.poll() is None, f"the run ended by itself with {process.returncode}"
        assert time.monotonic() < deadline, "the run did not get there in time"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A finished small run."""
    folder = tmp_path_factory.mktemp("trained")
    done = run_az(folder, "train", "tictactoe", "--run", "t", "--steps", 40, *settings())
    assert done.returncode == 0, done.stderr
    return folder / "runs" / "t"


def test_a_run_leaves_what_the_design_says(trained):
    names = {path.name for path in trained.iterdir()}
    assert {"config.toml", "records", "checkpoints", "models", "health", "log.jsonl"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    config = from_toml((trained / "config.toml").read_text())
    assert (config.game, config.preset, config.seed, config.steps) == ("tictactoe", "quick", 0, 40)
    found, reasons = checkpoint.latest(trained)
    assert found is not None
    assert (found.step, reasons, found.extra["finished"]) == (40, [], True)
    newest = newest_model(trained / "models")
    assert newest is not None
    assert OnnxEvaluator(newest, GAME).metadata["step"] == "40"
    assert not list(trained.rglob(".*.tmp-*"))


def test_rows_trained_follow_rows_made(trained):
    config = from_toml((trained / "config.toml").read_text())
    last = [line for line in log_lines(trained) if line["kind"] == "step"][-1]
    assert last["step"] * config.learner.batch <= last["rows"] * config.replay.reuse


def test_records_name_models_that_were_published(trained):
    cards = [json.loads(path.read_text()) for path in (trained / "models").glob("*.json")]
    known = {card[key] for card in cards for key in ("model_id", "int8_model_id") if key in card}
    for path in sorted((trained / "records").glob("*.npz")):
        assert set(read_records(path, GAME).header["models"]) <= known


def test_game_numbers_are_unique(trained):
    numbers = [
        game[0] for path in (trained / "records").glob("*.npz") for game in read_records(path, GAME).header["games"]
    ]
    assert len(numbers) == len(set(numbers)) > 10


def test_finished_run_says_how_to_go_on_and_does(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "runs" / "t")
    refused = run_az(tmp_path, "resume", "t")
    assert refused.returncode == 2
    assert "larger total with --minutes or --steps" in refused.stderr
    again = run_az(tmp_path, "resume", "t", "--finished-ok")
    assert again.returncode == 0
    assert "is finished" in again.stdout
    before = (tmp_path / "runs" / "t" / "config.toml").read_bytes()
    assert run_az(tmp_path, "resume", "t", "--steps", 3).returncode == 2
    assert (tmp_path / "runs" / "t" / "config.toml").read_bytes() == before
    done = run_az(tmp_path, "resume", "t", "--steps", 50)
    assert done.returncode == 0, done.stderr
    found, _ = checkpoint.latest(tmp_path / "runs" / "t")
    assert found is not None
    assert found.step == 50
    again = run_az(tmp_path, "resume", "t")  # the new limit holds from now on
    assert again.returncode == 2
    assert "50 steps in all" in again.stderr
    assert "steps = 50" in (tmp_path / "runs" / "t" / "config.toml").read_text()


def test_bad_record_is_quarantined_and_the_run_goes_on(trained, tmp_path):
    run = tmp_path / "runs" / "t"
    shutil.copytree(trained, run)
    bad = sorted((run / "records").glob("*.npz"))[0]
    data = bytearray(bad.read_bytes())
    data[len(data) // 2] ^= 1
    bad.write_bytes(data)
    done = run_az(tmp_path, "resume", "t", "--steps", 45)
    assert done.returncode == 0, done.stderr
    assert not bad.exists()
    note = json.loads((run / "quarantine" / f"{bad.name}.json").read_text())
    assert bad.name in note["reason"]


def test_ctrl_c_leaves_a_checkpoint(tmp_path):
    process = start_az(tmp_path, "train", "tictactoe", "--run", "t", "--steps", 100_000, *settings())
    run = tmp_path / "runs" / "t"
    wait_until(process, lambda: (run / "log.jsonl").exists() and len(log_lines_of(run)) >= 2)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    found, _ = checkpoint.latest(run)
    assert found is not None
    assert found.step >= 20
    assert not found.extra["finished"]


def test_run_in_use_is_refused(tmp_path):
    process = start_az(tmp_path, "train", "tictactoe", "--run", "t", "--steps", 100_000, *settings())
    try:
        wait_until(process, lambda: (tmp_path / "runs" / "t" / "log.jsonl").exists())
        refused = run_az(tmp_path, "resume", "t")
        assert refused.returncode == 2
        assert "in use" in refused.stderr
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def kill_and_resume(folder: Path, kills: int, seed: int) -> list[int]:
    """SIGKILL a run at random moments; each resume must find every row that was on the disk. Numbers of its games."""
    rng = random.Random(seed)
    run = folder / "runs" / "t"
    process = start_az(folder, "train", "tictactoe", "--run", "t", "--steps", 1_000_000, *settings())
    step = 0
    for _ in range(kills):
        wanted = len(log_lines_of(run)) + rng.randint(0, 2)  # some kills fall into the start, most into the work
        wait_until(process, lambda wanted=wanted: (run / "log.jsonl").exists() and len(log_lines_of(run)) >= wanted)
        time.sleep(rng.random() * 2.0)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(0.3)  # the workers follow their parent
        before = rows_on_disk(run)
        for model in (run / "models").glob("*.json"):
            OnnxEvaluator(model.with_suffix(".onnx"), GAME)
        found, reasons = checkpoint.latest(run)
        assert reasons == []
        assert found is None or found.step >= step
        step = found.step if found else 0
        process = start_az(folder, "resume", "t")
        wait_until(process, lambda before=before: rows_seen(run) >= sum(before.values()))
        assert set(before) <= {path.name for path in (run / "records").glob("*.npz")}
    wait_until(
        process, lambda: any((run / "records").glob("*.npz"))
    )  # on a busy machine all kills may fall into the start
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (run / "quarantine").exists()
    return [g[0] for path in (run / "records").glob("*.npz") for g in read_records(path, GAME).header["games"]]


def log_lines_of(run: Path) -> list[str]:
    """Whole lines of a log that is being written."""
    path = run / "log.jsonl"
    return path.read_text().split("\n")[:-1] if path.exists() else []


def rows_seen(run: Path) -> int:
    """Rows that the learner says it has, in the newest line of the log."""
    lines = log_lines_of(run)
    return int(json.loads(lines[-1]).get("rows", 0)) if lines else 0


def test_killed_run_goes_on(tmp_path):
    numbers = kill_and_resume(tmp_path, kills=2, seed=1)
    assert len(numbers) == len(set(numbers)) > 0


@pytest.mark.slow
def test_killed_twenty_times(tmp_path):
    numbers = kill_and_resume(tmp_path, kills=20, seed=2)
    assert len(numbers) == len(set(numbers)) > 0


def test_torn_log_line_is_cut_off(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"kind":"step"}\n{"kind":"st')
    log = RunLog(path, 10**9)
    log.write("score", {"score": float("nan")})
    log.close()
    assert path.read_text() == '{"kind":"step"}\n{"kind":"score","score":null}\n'


@pytest.fixture(scope="module")
def deterministic(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("deterministic")
    done = run_az(
        folder, "train", "tictactoe", "--run", "t", "--deterministic", "--steps", 30, "--seed", 5, *settings()
    )
    assert done.returncode == 0, done.stderr
    return folder / "runs" / "t"


def test_deterministic_run_is_equal_to_the_byte(deterministic, tmp_path):
    done = run_az(
        tmp_path, "train", "tictactoe", "--run", "t", "--deterministic", "--steps", 30, "--seed", 5, *settings()
    )
    assert done.returncode == 0, done.stderr
    first, second = digests(deterministic), digests(tmp_path / "runs" / "t")
    assert first == second
    assert sum(name.startswith("models/") for name in first) >= 4
    other = run_az(
        tmp_path, "train", "tictactoe", "--run", "u", "--deterministic", "--steps", 30, "--seed", 6, *settings()
    )
    assert other.returncode == 0
    assert digests(tmp_path / "runs" / "u", "models/*.onnx") != digests(deterministic, "models/*.onnx")


def test_deterministic_run_does_not_feel_a_kill(deterministic, tmp_path):
    """Stopped by SIGKILL and resumed, it arrives at the same bytes in every file."""
    arguments = ("train", "tictactoe", "--run", "t", "--deterministic", "--steps", 30, "--seed", 5, *settings())
    process = start_az(tmp_path, *arguments)
    run = tmp_path / "runs" / "t"
    wait_until(process, lambda: len(list((run / "checkpoints").glob("step-*"))) >= 2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = run_az(tmp_path, "resume", "t")
    assert done.returncode == 0, done.stderr
    assert digests(run) == digests(deterministic)
    weights, _ = checkpoint.latest(run)
    assert weights is not None
    assert all(np.isfinite(tensor.numpy()).all() for tensor in weights.weights.values())
