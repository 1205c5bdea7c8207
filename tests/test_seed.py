"""Preset `seed` on checkers from end to end: trains, exports, plays. (Its tensors: test_model.py.)"""

from __future__ import annotations

import json
import subprocess

from run_tools import command, environment, run_az

CHEAP = {
    "learner.batch": 64,
    "replay.min_rows": 64,
    "selfplay.simulations": 3,
    "selfplay.fast_simulations": 3,
    "selfplay.slots": 8,
    "arena.games": 0,
}


def test_seed_trains_exports_and_plays(tmp_path):
    cheap = [part for key, value in CHEAP.items() for part in ("--set", f"{key}={value}")]
    done = run_az(tmp_path, "train", "checkers", "--preset", "seed", "--run", "s", "--steps", 2, *cheap, timeout=400)
    assert done.returncode == 0, done.stderr
    done = run_az(tmp_path, "export", "runs/s", "--out", "s.onnx", "--json")
    assert done.returncode == 0, done.stderr
    card = json.loads(done.stdout)
    assert (card["game"], card["preset"], card["step"]) == ("checkers", "seed", 2)
    assert card["parity_error"] <= 1e-4
    done = run_az(tmp_path, "arena", "s.onnx", "random", "--sims", 3, "--games", 2, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["games"] == 2
    request = json.dumps({"id": 1, "moves": ["11-15"], "sims": 5})
    answer = subprocess.run(
        command("analyze", "s.onnx"),
        cwd=tmp_path,
        input=request + "\n",
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
    )
    assert "move" in json.loads(answer.stdout)
