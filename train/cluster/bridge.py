"""The process between the learner and Ray: what Ray does to its process, the learner does not feel.

It lends numbers, fetches files and hands them over by a pipe. It reads the run's models and writes nothing.
"""

from __future__ import annotations

import os
import queue
import secrets
import threading
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from az.engine.errors import AzError
from az.engine.game import Game, load_game
from az.engine.inference.model_resolver import newest_model
from az.engine.inference.precision import Fallback, load_precision, usable
from az.engine.selfplay.batch import SelfplayConfig
from az.train.cluster.dispatcher import Dispatcher, Model
from az.train.cluster.fleet import GPU_THREADS, LOCAL, Fleet
from az.train.cluster.player import PlayerJob, facts

LOOK_EVERY = 0.5  # seconds between two looks for a newer model
ROUND = 0.1  # seconds that one round waits for players at most
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # what it says else goes to stderr, between our lines
}  # fmt: skip


@dataclass(frozen=True)
class BridgeJob:
    """What a bridge is told. first_game: None where the numbers come turn by turn."""

    address: str
    models: Path
    game: str
    config: SelfplayConfig
    seed: int
    provider: str
    players: int  # on a node; 0: one a core
    first_game: int | None


def prepare(address: str) -> None:
    """Before ray is imported: no statistics to its makers, and its token authentication, unless that is set."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if address == LOCAL and os.environ["RAY_AUTH_MODE"] == "token":  # of this cluster alone, in no file
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


class Models:
    """Published models on their way to the nodes. One precision for all of them: the one that the head plays in."""

    def __init__(self, job: BridgeJob, game: Game, fleet: Fleet) -> None:
        self._job, self._game, self._fleet = job, game, fleet
        self._path: Path | None = None
        self._looked = -LOOK_EVERY

    def newest(self) -> tuple[Path, Model, str] | None:
        """A model that is newer than the last, and the line of `load_precision`; None where there is none."""
        now = time.monotonic()
        if now - self._looked < LOOK_EVERY:
            return None
        self._looked = now
        path = newest_model(self._job.models)
        if path is None or path == self._path:
            return None
        self._path = path
        return (path, *self.load(path, False))

    def load(self, path: Path, exact: bool) -> tuple[Model, str]:
        """exact: every node has to give the head's answers to the bit. Raises Refused."""
        asked = usable(path, self._job.config.precision)
        found, why = load_precision(path, self._game, asked, self._job.provider)
        handle = self._fleet.put(Path(found.name).read_bytes())
        return Model(found.model_id, Path(found.name).name, handle, found.answers if exact else None), why


def plays_on_gpus(models: Path, job: BridgeJob, game: Game) -> bool:
    """Whether the run's precision runs on a GPU; int8 runs on CPUs only."""
    path = newest_model(models)
    if path is None or job.provider == "cpu":
        return False
    found, _ = load_precision(path, game, usable(path, job.config.precision), job.provider)
    return found.precision != "int8"


def bridge_main(job: BridgeJob, pipe: Connection) -> None:
    """The process's body: until the pipe says "stop", or the learner has gone."""
    fleet: Fleet | None = None
    try:
        _speak_by_the_pipe_alone()
        prepare(job.address)
        from az.train.cluster.ray_fleet import RayFleet

        game = load_game(job.game)
        fleet = RayFleet(job.address, PlayerJob(job.game, job.config, job.seed, job.config.in_flight or 1))
        _Bridge(job, game, fleet, pipe).run()
    except (BrokenPipeError, EOFError, ConnectionResetError):
        pass
    except AzError as error:
        pipe.send(("error", str(error)))
    except Exception:  # not expected: the run's log tells of it, and another bridge takes the place of this one
        pipe.send(("crash", traceback.format_exc()))
    finally:
        if fleet is not None:
            fleet.close()


def _speak_by_the_pipe_alone() -> None:
    """Ray's C++ writes pages to stderr when it loses a cluster, and ends its process; its own logs have them too."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)


class _Bridge:
    def __init__(self, job: BridgeJob, game: Game, fleet: Fleet, pipe: Connection) -> None:
        self.job, self.pipe = job, pipe
        gpus = plays_on_gpus(job.models, job, game)
        threads = job.config.in_flight or (GPU_THREADS if gpus else 1)
        self.dispatcher = Dispatcher(
            fleet, facts(game), job.seed, self._tell, job.players, gpus, job.config.header(),
            job.config.slots * threads,
        )  # fmt: skip
        self.models = Models(job, game, fleet)
        self.fallback = Fallback(lambda text, plain: self._tell("precision", text, plain))
        self.commands: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self.in_turn = False
        threading.Thread(target=self._read, daemon=True).start()

    def _tell(self, kind: str, *rest: Any) -> None:
        if kind == "file":
            rest = (*rest, self.dispatcher.leases.next_number)
        self.pipe.send((kind, *rest))

    def _read(self) -> None:
        """In a thread of its own: the learner never waits for this process."""
        try:
            while True:
                self.commands.put(self.pipe.recv())
        except (EOFError, OSError):
            self.commands.put(("stop",))

    def run(self) -> None:
        """Rounds, until told to stop."""
        if self.job.first_game is not None:
            self.dispatcher.supply(self.job.first_game)
        self._tell("ready")
        while True:
            while not self.commands.empty():
                kind, *rest = self.commands.get()
                if kind == "stop":
                    return
                self._obey(kind, *rest)
            if self.job.first_game is not None and (newer := self.models.newest()) is not None:
                path, model, why = newer
                self.fallback.loaded(path, why)
                self.dispatcher.model(model)
            self.dispatcher.step(ROUND)
            if self.in_turn and self.dispatcher.leases.over():
                self.in_turn = False
                self._tell("done")

    def _obey(self, kind: str, *rest: Any) -> None:
        if kind == "pause":
            self.dispatcher.paused = bool(rest[0])
        elif kind == "judged":
            self.dispatcher.judged(*rest)
        elif kind == "refuse":
            self.dispatcher.refuse(*rest)
        elif kind == "turn":
            first, count, path = rest
            model, why = self.models.load(path, True)
            self._tell("loaded", path, why)
            self.dispatcher.model(model)
            self.dispatcher.supply(first, count)
            self.in_turn = True
