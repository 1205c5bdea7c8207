"""Deterministic runs: a turn's games are fixed by (model, parameters, seed, numbers), whatever the threads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from az.engine.game import Game
from az.engine.inference.evaluator import Evaluator
from az.engine.inference.precision import load_precision, usable
from az.engine.records.format import tally, write_records
from az.engine.selfplay.threads import GameThreads
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
    numbers = iter(range(first, first + count))
    threads = min(config.workers or usable_cores(), count)
    evaluator, why = load_precision(model, game, usable(model, config.selfplay.precision), config.provider)
    loaded(model, why)
    slots = min(config.selfplay.slots, -(-count // threads))
    batches = GameThreads(game, replace(config.selfplay, slots=slots), config.seed, threads)
    report({"stage": lambda: f"turn {turn}: {batches.simulations:,} simulations"})

    def next_game() -> tuple[int, Evaluator] | None:
        return next(((k, evaluator) for k in numbers), None)

    def drop_when_stopping() -> None:
        if stopping():
            raise _Dropped

    try:
        games = sorted(batches.play(next_game, drop_when_stopping), key=lambda game: game.k)
    except _Dropped:
        return None
    name = record_name(0, 0, turn)
    write_records(folder.records / name, game, games, config.seed, config.selfplay.header())
    faults = [fault.to_json() for fault in batches.take_faults()]
    stats = {**tally(games), "simulations": batches.simulations, "faults": faults}
    return name, stats
