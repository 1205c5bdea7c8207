"""Deterministic runs: a turn's games are fixed by (model, parameters, seed, numbers), whatever the threads."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from az.engine.game import Game
from az.engine.inference.evaluator import Evaluator
from az.engine.inference.precision import load_precision, usable
from az.engine.records.format import FinishedGame, write_records
from az.engine.selfplay.batch import SelfplayBatch
from az.engine.selfplay.checks import SearchFault
from az.engine.selfplay.worker import record_name
from az.engine.system.cores import usable_cores
from az.train.config import RunConfig
from az.train.run.folder import RunFolder


class _Dropped(Exception):
    """Unwinds the search of a turn when the run was asked to stop."""


def play_turn(
    folder: RunFolder,
    game: Game,
    config: RunConfig,
    model: Path,
    turn: int,
    report: Callable[[dict[str, Any]], None] = lambda _: None,
    stopping: Callable[[], bool] = lambda: False,
    loaded: Callable[[Path, str], None] = lambda _, __: None,
) -> tuple[str, dict[str, Any]] | None:
    """Play games [turn · n, (turn + 1) · n) with this model and write them to one file; its name and its counts.

    report: told where to ask how far the turn is. stopping: asked before every evaluation, in every thread; when it
    says so the turn is dropped and None is returned. Nothing of it is written, so a resumed run plays the same games.
    loaded: told which model plays, and the line of `load_precision`.
    """
    count = config.games_per_turn
    first = turn * count
    numbers = itertools.count(first)
    lock = threading.Lock()
    threads = min(config.workers or usable_cores(), count)
    batches: list[SelfplayBatch] = []
    report({"stage": lambda: f"turn {turn}: {sum(batch.simulations for batch in batches):,} simulations"})

    def play(thread: int) -> tuple[list[FinishedGame], int, list[SearchFault]]:
        evaluator, why = load_precision(model, game, usable(model, config.selfplay.precision), config.provider)
        if thread == 0:
            loaded(model, why)
        batch = SelfplayBatch(game, config.selfplay, config.seed, min(config.selfplay.slots, -(-count // threads)))
        batches.append(batch)

        def next_game() -> tuple[int, Evaluator] | None:
            with lock:
                k = next(numbers)
            return (k, evaluator) if k < first + count else None

        return list(batch.play(next_game, drop_when_stopping)), batch.simulations, batch.faults

    def drop_when_stopping() -> None:
        if stopping():
            raise _Dropped

    try:
        with ThreadPoolExecutor(threads) as pool:
            parts = list(pool.map(play, range(threads)))
    except _Dropped:
        return None
    games = sorted((game for part, _, _ in parts for game in part), key=lambda game: game.k)
    name = record_name(0, 0, turn)
    write_records(folder.records / name, game, games, config.seed, config.selfplay.header())
    stats = {
        "games": len(games),
        "plies": sum(game.plies for game in games),
        "first_wins": sum(game.outcome_first == 1 for game in games),
        "draws": sum(game.outcome_first == 0 for game in games),
        "simulations": sum(simulations for _, simulations, _ in parts),
        "faults": [fault.to_json() for _, _, faults in parts for fault in faults],
    }
    return name, stats
