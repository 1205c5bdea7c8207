"""`az selfplay`: games K … K+N-1 on several threads, written in the order of their numbers."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from az.engine.errors import Refused, WrongRequest
from az.engine.game import Game
from az.engine.inference.evaluator import Evaluator
from az.engine.records.format import FinishedGame, fits_a_file, write_records
from az.engine.selfplay.batch import SelfplayConfig
from az.engine.selfplay.threads import GameThreads

GAMES_A_FILE = 100


@dataclass
class Progress:
    """What has been played so far."""

    games: int = 0
    rows: int = 0
    plies: int = 0
    simulations: int = 0
    wins: int = 0  # of player 0
    draws: int = 0
    files: list[Path] = field(default_factory=list)


FILE_NAME = re.compile(r"games-([0-9]{9,})-([0-9]{9,})\.npz")  # what `file_name` makes


def file_name(first: int, last: int) -> str:
    """The record file of games first … last."""
    return f"games-{first:09d}-{last:09d}.npz"


class _OrderedFiles:
    """Collects games in any order and writes a file as soon as all of its games are there."""

    def __init__(self, game: Game, config: SelfplayConfig, numbers: range, seed: int, out: Path) -> None:
        self.game, self.config, self.numbers, self.seed, self.out = game, config, numbers, seed, out
        self.waiting: dict[int, FinishedGame] = {}
        self.progress = Progress()

    def add(self, finished: FinishedGame) -> None:
        self.waiting[finished.k] = finished
        progress = self.progress
        progress.games += 1
        progress.rows += len(finished.rows)
        progress.plies += finished.plies
        progress.wins += finished.outcome_first == 1
        progress.draws += finished.outcome_first == 0
        first = finished.k // GAMES_A_FILE * GAMES_A_FILE
        numbers = range(max(first, self.numbers.start), min(first + GAMES_A_FILE, self.numbers.stop))
        if all(k in self.waiting for k in numbers):
            self._write([self.waiting.pop(k) for k in numbers])

    def _write(self, games: list[FinishedGame]) -> None:
        if len(games) > 1 and not fits_a_file(self.game, games):  # very long games: two smaller files
            self._write(games[: len(games) // 2])
            self._write(games[len(games) // 2 :])
            return
        path = self.out / file_name(games[0].k, games[-1].k)
        write_records(path, self.game, games, self.seed, self.config.header())
        self.progress.files.append(path)


def prepare_folder(out: Path, numbers: range | None = None) -> None:
    """Make the folder, before an hour of play rather than after it. Raises WrongRequest when it cannot be used.

    numbers: the games that are to be written, where other processes write other games to the same folder.
    """
    if out.exists() and not out.is_dir():
        raise WrongRequest(f"{out} is a file: give a folder with --out.")
    for path in out.glob("games-*.npz"):
        name = FILE_NAME.fullmatch(path.name)
        if numbers is None or name is None:
            raise WrongRequest(f"{out} holds records already: give a new folder with --out.")
        if int(name[1]) < numbers.stop and int(name[2]) >= numbers.start:
            raise WrongRequest(f"{out} holds games {int(name[1])} to {int(name[2])} already: give another --first.")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WrongRequest(f"{out} cannot be made ({error.strerror}): give another folder with --out.") from None
    if not os.access(out, os.W_OK):
        raise WrongRequest(f"{out} cannot be written to: give another folder with --out.")


def selfplay_to_files(
    evaluator: Evaluator,
    config: SelfplayConfig,
    games: int,
    seed: int,
    out: Path,
    threads: int = 1,
    on_progress: Callable[[Progress], None] | None = None,
    first: int | None = None,
) -> Progress:
    """Play games 0 … games-1 and write them to `out`. Threads and games in flight change the speed, not a byte.

    on_progress: called often, in any thread. first: the number of the first game, for one of several processes that
    share the games, and maybe the folder. Raises WrongRequest when `out` holds record files already (they would be
    mixed with these); with `first`, when it holds some of these games.
    """
    wanted = range(first or 0, (first or 0) + games)
    prepare_folder(out, None if first is None else wanted)
    files = _OrderedFiles(evaluator.game, config, wanted, seed, out)
    numbers = iter(wanted)
    slots = max(1, min(config.slots, -(-games // threads)))
    played = GameThreads(evaluator.game, replace(config, slots=slots), seed, threads)

    def next_game() -> tuple[int, Evaluator] | None:
        return next(((k, evaluator) for k in numbers), None)

    def tell() -> None:
        if on_progress is not None:
            on_progress(files.progress)

    for finished in played.play(next_game, tell):
        files.add(finished)
    for fault in played.lost()[-1:]:
        raise Refused(f"game {fault.k} cannot be written: ply {fault.ply}: {fault.cause}: {fault.text}.")
    files.progress.simulations = played.simulations
    tell()
    return files.progress
