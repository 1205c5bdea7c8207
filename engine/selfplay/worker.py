"""A self-play process of a run: plays games with the newest model and writes them as record files."""

from __future__ import annotations

import re
import time
import traceback
import weakref
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from az.engine.errors import AzError
from az.engine.game import Game, load_game
from az.engine.inference.evaluator import Evaluator
from az.engine.inference.model_resolver import newest_model
from az.engine.inference.onnx_evaluator import OnnxEvaluator
from az.engine.inference.precision import Fallback, load_precision, usable
from az.engine.records.format import FinishedGame, tally, write_records
from az.engine.selfplay.batch import SelfplayConfig
from az.engine.selfplay.threads import GameThreads

ROWS_A_FILE = 600
SECONDS_A_FILE = 4.0
LOOK_EVERY = 0.5  # seconds between two looks for a newer model
MODELS_ON_GPU = 2  # in play at once


@dataclass(frozen=True)
class WorkerJob:
    """What a worker is told when it starts."""

    run: Path
    game: str
    config: SelfplayConfig
    seed: int
    session: int  # number of times the run was started
    worker: int
    first_game: int  # this worker plays games first_game, first_game + stride, …
    stride: int
    threads: int = 1
    provider: str = "auto"


RECORD_NAME = re.compile(r"[0-9]{4,12}-[0-9]{6,12}-[0-9]{3,12}\.npz")  # what `record_name` makes


def record_name(session: int, worker: int, number: int) -> str:
    """Sorted by (session, number, worker) these names are in the order in which the files were written, nearly."""
    return f"{session:04d}-{number:06d}-{worker:03d}.npz"


class _NewestModel:
    """Hands out the newest published model; a game keeps the one that it began with."""

    def __init__(self, job: WorkerJob, game: Game, fallback: Fallback) -> None:
        self.job, self.folder, self.game, self.fallback = job, job.run / "models", game, fallback
        self.path: Path | None = None
        self.evaluator: Evaluator | None = None
        self.looked = -LOOK_EVERY
        self._alive: weakref.WeakSet[OnnxEvaluator] = weakref.WeakSet()

    def get(self) -> Evaluator:
        now = time.monotonic()
        if self.evaluator is None or now - self.looked >= LOOK_EVERY:
            self.looked = now
            path = newest_model(self.folder)
            if path is not None and path != self.path and self._has_room():
                config, provider = self.job.config, self.job.provider
                asked = usable(path, config.precision)
                found, why = load_precision(path, self.game, asked, provider, config.gpu_batch)
                self.fallback.loaded(path, why)
                self.evaluator, self.path = found, path
                self._alive.add(found)
        if self.evaluator is None:
            raise AzError(f"{self.folder} holds no model to play with.")
        return self.evaluator

    def _has_room(self) -> bool:
        """On a GPU a step makes one call of full size for every model in play: few may be, or most rows are empty."""
        on_cpu = self.job.provider == "cpu" or not self.job.config.gpu_batch
        return on_cpu or len(self._alive) < MODELS_ON_GPU


class _Outbox:
    """Finished games on their way to a file."""

    def __init__(self, job: WorkerJob, game: Game, pipe: Connection) -> None:
        self.job, self.game, self.pipe = job, game, pipe
        self.games: list[FinishedGame] = []
        self.rows = 0
        self.simulations = 0  # told so far
        self.number = 0
        self.written = time.monotonic()

    def add(self, finished: FinishedGame, simulations: int, next_game: int) -> None:
        self.games.append(finished)
        self.rows += len(finished.rows)
        now = time.monotonic()
        if self.rows >= ROWS_A_FILE or now - self.written >= SECONDS_A_FILE:
            self.flush(simulations, next_game)
            self.written = now

    def flush(self, simulations: int, next_game: int) -> None:
        name = record_name(self.job.session, self.job.worker, self.number)
        games = sorted(self.games, key=lambda game: game.k)
        write_records(self.job.run / "records" / name, self.game, games, self.job.seed, self.job.config.header())
        stats: dict[str, Any] = {
            **tally(games),
            "simulations": simulations - self.simulations,
            "next_game": next_game,  # every number below it has been begun
        }
        self.pipe.send(("file", name, stats))
        self.games, self.rows = [], 0
        self.simulations = simulations
        self.number += 1


def worker_main(job: WorkerJob, pipe: Connection, paused: Any, meter: Any) -> None:
    """The process's body. paused: a shared flag; while it is set the worker rests (the learner is behind).

    meter: a shared int64 for each place in the pool, where the worker says how many simulations it has begun.
    """
    try:
        game = load_game(job.game)
        models = _NewestModel(job, game, Fallback(lambda text, plain: pipe.send(("precision", text, plain))))
        batches = GameThreads(game, job.config, job.seed, job.threads)
        outbox = _Outbox(job, game, pipe)
        k = job.first_game

        def next_game() -> tuple[int, Evaluator]:
            nonlocal k
            k += job.stride
            return k - job.stride, models.get()

        def rest() -> None:
            meter[job.worker % job.stride] = batches.walks()
            while paused.value:
                time.sleep(0.005)

        for finished in batches.play(next_game, rest):
            outbox.add(finished, batches.simulations, k)
            for fault in batches.take_faults():
                pipe.send(("fault", fault.to_json(), {}))
    except (BrokenPipeError, EOFError):
        return
    except AzError as error:
        pipe.send(("error", str(error)))
    except OSError as error:
        pipe.send(("disk", error.errno, error.strerror, str(error.filename or "the output")))
    except Exception:  # not expected: the run's log tells of it, and another worker takes the place of this one
        pipe.send(("crash", traceback.format_exc()))
        raise SystemExit(1) from None
