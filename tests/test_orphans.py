"""A run is killed at any moment: no process stays for a second, no game counts twice, no temporary file stays."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
from processes import Marked
from run_tools import command, run_az, settings

from az.engine.game import load_game
from az.engine.records.format import read_records
from az.train import checkpoint

KILLS = int(os.environ.get("AZ_KILLS", "200"))  # the whole proof; AZ_KILLS_SEED gives another slice
SEED = int(os.environ.get("AZ_KILLS_SEED", "1"))
STEP_MS = int(os.environ.get("AZ_ORPHANS_EVERY", "50"))
SIDE_BY_SIDE = settings(arena__games=2, arena__simulations=4, arena__every_minutes=0.02)
TRAIN = command("train", "tictactoe", "--run", "t", "--steps", 1_000_000, *SIDE_BY_SIDE)


def killed(folder: Path, delay: float, from_first_child: bool) -> tuple[list[str], bool]:
    """What is left a second after a new run's main process was killed, and whether it had started others by then."""
    folder.mkdir()
    with Marked(TRAIN, folder) as run:
        if from_first_child:
            run.wait_for(run.others)
        time.sleep(delay)
        assert run.main.poll() is None
        had = bool(run.others())
        return run.left_after_kill(), had


def test_killed_while_workers_start(tmp_path: Path) -> None:
    """The imports of a worker take seconds; these kills fall into them."""
    for number, delay in enumerate((0.0, 0.3)):
        assert killed(tmp_path / str(number), delay, True) == ([], True)


@pytest.mark.slow
def test_killed_every_50_ms(tmp_path: Path) -> None:
    """Through the first six seconds from exec, through six from the first worker on, and at random later."""
    rng = random.Random(SEED)
    moments = [(k * STEP_MS / 1000, first) for first in (False, True) for k in range(6000 // STEP_MS)]
    moments += [(6 + 14 * rng.random(), True) for _ in range(20)]
    left, with_children = [], 0
    for number, (delay, first) in enumerate(moments):
        still, had = killed(tmp_path / str(number), delay, first)
        left += [(delay, first, line) for line in still]
        with_children += had
    print(f"\n{len(moments)} kills, {with_children} with other processes; {len(left)} left a second later")
    assert with_children >= len(moments) // 3
    assert left == []


def step_of(run: Path) -> int:
    """Of the newest checkpoint, which must be whole."""
    found, reasons = checkpoint.latest(run)
    assert found is not None
    assert reasons == []
    return found.step


def kill_often(folder: Path, kills: int, seed: int) -> str:
    """One run, killed and resumed; the figure. Some sessions get so few steps that they may end by themselves."""
    rng, game, run = random.Random(seed), load_game("tictactoe"), folder / "runs" / "t"
    done = run_az(folder, "train", "tictactoe", "--run", "t", "--steps", 5, *SIDE_BY_SIDE)
    assert done.returncode == 0, done.stderr
    ended = with_children = 0
    for _ in range(kills):
        steps = step_of(run) + rng.choice((10, 1_000_000))
        with Marked(command("resume", "t", "--steps", steps), folder) as process:
            deadline = time.monotonic() + 20 * rng.random()
            while process.main.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            ended += process.main.poll() is not None
            with_children += bool(process.others())
            assert process.left_after_kill() == []
        paths = (run / "records").glob("[0-9]*.npz")
        numbers = [entry[0] for path in paths for entry in read_records(path, game).header["games"]]
        assert len(numbers) == len(set(numbers))
    done = run_az(folder, "resume", "t", "--steps", step_of(run) + 5)
    assert done.returncode == 0, done.stderr
    temporary = list(run.rglob(".*.tmp-*"))
    assert temporary == []
    assert not (run / "quarantine").exists()
    return (
        f"{kills} kills ({with_children} with other processes, {ended} sessions had ended): 0 processes, 0 games twice"
    )


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path) -> None:
    figure = kill_often(tmp_path, KILLS, SEED)
    print("\n" + figure)
    assert figure.startswith(f"{KILLS} kills")
    assert not list((tmp_path / "runs").rglob(".*.tmp-*"))
