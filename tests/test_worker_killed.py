"""A worker that is killed after it wrote a file and before it told of it: no game counts twice, none is lost for it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import killed_worker
import pytest
from make_models import make_run, small_config

from az.engine.game import load_game
from az.engine.records.format import read_records
from az.engine.selfplay.autotune import Plan
from az.engine.selfplay.worker import record_name
from az.train.run import worker_pool as pool

GAME = load_game("tictactoe")
WORKERS, SLOTS = 2, 4


def games_in(path: Path) -> dict[int, list[int]]:
    """[plies, outcome, model] of every game in a record file, by its number."""
    return {k: rest for k, *rest in read_records(path, GAME).header["games"]}


def test_killed_between_a_file_and_its_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "worker_main", killed_worker.worker_main)
    config = small_config()
    selfplay = replace(config.selfplay, simulations=4, fast_simulations=4, slots=SLOTS, precision="fp32")
    run = make_run(tmp_path / "r", config=replace(config, selfplay=selfplay))
    counted: list[dict[int, list[int]]] = []  # the games of each file that was told of
    deaths: list[dict[str, Any]] = []
    precisions: list[str] = []
    said: list[str] = []
    again: dict[int, list[int]] = {}  # games of files that were not told of, which are to be played again

    def take(name: str, stats: dict[str, Any]) -> bool:
        counted.append(games_in(run / "records" / name))
        assert len(counted[-1]) == stats["games"]
        return True

    def note(kind: str, values: dict[str, Any]) -> None:
        if kind == "precision":
            precisions.append(values["text"])
            return
        worker = values["worker"]
        deaths.append(values)
        first = workers._next_number[worker]  # of its next life
        untold = games_in(run / f"untold-{worker}.npz")
        assert untold == games_in(run / "records" / record_name(1, worker, 1))
        flying = [k for k in untold if k < first]  # when the worker was last heard of: lost, as at any kill
        assert len(flying) <= SLOTS
        lost = set(range(worker, first, WORKERS)) - set().union(*counted)
        assert len(lost) <= SLOTS
        again.update({k: game for k, game in untold.items() if k >= first})

    job = pool.first_job(run, config, Plan(WORKERS, 1, "cpu", selfplay, ""), 1, 0)
    workers = pool.WorkerPool(job, WORKERS, said.append, note, lambda: False)
    end = time.monotonic() + 240
    try:
        while len(deaths) < WORKERS or not again.keys() <= set().union(*counted):
            assert time.monotonic() < end, (len(deaths), len(counted))
            workers.listen(0.1, take, lambda fault: pytest.fail(str(fault)))
    finally:
        workers.stop()
    assert [death["ended"] for death in deaths] == ["by SIGKILL"] * WORKERS
    assert len(precisions) == 1  # of all workers and all their lives
    assert precisions == [text for text in said if "fp32" in text]
    assert len(again) > SLOTS
    played = {k: game for games in counted for k, game in games.items()}
    assert len(played) == sum(map(len, counted))  # none counts twice
    assert {k: played[k] for k in again} == again  # and each is the game that it was
    for worker in range(WORKERS):
        assert not (run / "records" / record_name(1, worker, 1)).exists()
