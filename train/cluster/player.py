"""The player on a node: plays the numbers that it is lent, and hands over record files as bytes. It touches no disk.

Nothing here knows of Ray, so that a test or a simulation can hold a player in its own process; and nothing of torch.
"""

from __future__ import annotations

import hashlib
import os
import platform
import threading
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from az.engine.errors import AzError, Refused
from az.engine.game import Game, load_game
from az.engine.inference.evaluator import Evaluator
from az.engine.inference.onnx_evaluator import OnnxEvaluator
from az.engine.records.format import FinishedGame, pack, tally
from az.engine.selfplay.batch import NoGameYet, SelfplayConfig
from az.engine.selfplay.threads import GameThreads
from az.engine.selfplay.worker import ROWS_A_FILE, SECONDS_A_FILE
from az.train.cluster.leases import Lease

AHEAD = 4.0  # seconds of play for which a player wants to have numbers
PACE_SECONDS = 4.0  # over which the pace of games is measured
SPARE = 4  # numbers that it wants besides
MOST_WAITING = 20_000  # rows that wait to be fetched; then it rests


@dataclass(frozen=True)
class PlayerJob:
    """What a player is told when it starts."""

    game: str
    config: SelfplayConfig
    seed: int
    threads: int = 1
    provider: str = "cpu"


@cache
def engine_digest() -> str:
    """SHA-256 of the engine's sources, short: with another one a game need not be the same game."""
    digest, root = hashlib.sha256(), Path(__file__).resolve().parents[2] / "engine"
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def facts(game: Game) -> dict[str, Any]:
    """What must be the same on every node."""
    return {"engine": engine_digest(), "game": game.name, "game_version": game.version}


class Player:
    """`fetch`: the bytes of a model from the handle that came with its orders."""

    def __init__(self, job: PlayerJob, fetch: Callable[[Any], bytes]) -> None:
        self.job, self._fetch = job, fetch
        self._models: dict[str, Evaluator] = {}
        self._alive: weakref.WeakSet[OnnxEvaluator] = weakref.WeakSet()
        self._newest = ""
        self._queue: deque[tuple[int, str]] = deque()
        self._lock = threading.Lock()
        self._games: list[FinishedGame] = []
        self._waiting = 0  # rows of them
        self._flying = 0  # games begun and not ended
        self._ended, self._asked, self._pace = 0, time.monotonic(), 0.0  # games; when; games a second
        self._flushed = time.monotonic()
        self._faults: list[dict[str, Any]] = []
        self._failed: set[int] = set()
        self._lost: list[int] = []
        self._paused = False
        self._fault: tuple[str, str] | None = None  # "error" or "crash", its text
        self._news = threading.Event()
        self._batches: GameThreads | None = None
        self._thread: threading.Thread | None = None

    @cached_property
    def game(self) -> Game:
        """Loaded at the first word: a node without it says so."""
        return load_game(self.job.game)

    def hello(self) -> dict[str, Any]:
        """What this node has. Quick: nothing is compiled yet."""
        return {**facts(self.game), "host": platform.node(), "pid": os.getpid(), "cores": os.cpu_count() or 1}

    def exchange(self, orders: dict[str, Any]) -> dict[str, Any]:
        """Take orders and hand over what is there, waiting up to orders["wait"] seconds for something worth it.

        orders: "models" {id: (name, handle, answers)}, "leases" [Lease], "more" (whether more numbers are to be had),
        "paused", "wait". Returns "files" (each the bytes and its counts), "faults", "lost" numbers, "want", "known"
        models, "alive" networks, "walks", and "refused", "error" or "crash" with a sentence.
        """
        self._paused = bool(orders["paused"])
        try:
            for model_id, (name, handle, answers) in orders["models"].items():
                self._load(model_id, name, self._fetch(handle), answers)
        except Refused as refusal:
            return self._answer([], "refused", str(refusal))
        leases: list[Lease] = orders["leases"]
        with self._lock:
            for lease in leases:
                self._queue.extend((k, lease.model) for k in range(lease.first, lease.first + lease.count))
        if self._thread is None and self._queue:
            self._thread = threading.Thread(target=self._play, daemon=True)
            self._thread.start()
        end = time.monotonic() + orders["wait"]
        while not (self._fault or self._is_due() or (orders["more"] and self._starves())):
            left = end - time.monotonic()
            if left <= 0 or (self._news.wait(min(left, 0.1)) and self._fault):
                break
            self._news.clear()
        files = self._flush() if self._is_due() else []
        kind, text = self._fault or ("", "")
        return self._answer(files, kind, text)

    def _answer(self, files: list[tuple[bytes, dict[str, Any]]], kind: str, text: str) -> dict[str, Any]:
        with self._lock:
            needed = {model for _, model in self._queue} | {self._newest}
            self._models = {name: found for name, found in self._models.items() if name in needed}
            faults, self._faults = self._faults, []
            lost, self._lost = self._lost, []
        walks = self._batches.walks() if self._batches is not None else 0
        answer: dict[str, Any] = {
            "files": files, "faults": faults, "lost": lost, "want": self._want(), "known": sorted(self._models),
            "alive": len(self._alive), "walks": walks,
        }  # fmt: skip
        return {**answer, kind: text} if kind else answer

    def _load(self, model_id: str, name: str, data: bytes, answers: str | None) -> None:
        """Raises Refused where this machine computes otherwise than the model's file, or the head, says."""
        found = OnnxEvaluator(name, self.game, provider=self.job.provider, data=data, batch=self.job.config.gpu_batch)
        if found.model_id != model_id:
            raise Refused(f"model {name} came over as other bytes than were sent.")
        if answers is not None and found.answers != answers:
            raise Refused(
                f"model {name} has answers here that differ in their last bits from those of the head, and a"
                " deterministic run needs the same: leave this node out."
            )
        self._models[model_id] = found
        self._alive.add(found)
        self._newest = model_id

    def _want(self) -> int:
        """Numbers that it would begin within the next seconds: by the games that end, each of which frees a place.

        Few: a number stays bound to the model with which it was lent.
        """
        now = time.monotonic()
        with self._lock:
            seconds, ended, self._ended = max(1e-3, now - self._asked), self._ended, 0
            free = self.job.config.slots * self.job.threads - self._flying
            queued = len(self._queue)
        self._asked = now
        self._pace += min(1.0, seconds / PACE_SECONDS) * (ended / seconds - self._pace)
        return max(0, free + int(self._pace * AHEAD) + SPARE - queued)

    def _starves(self) -> bool:
        return not self._paused and not self._queue

    def _is_due(self) -> bool:
        """Whether what has been played is to be handed over."""
        if self._faults or self._lost:
            return True
        if not self._games:
            return False
        late = time.monotonic() - self._flushed >= SECONDS_A_FILE
        return self._waiting >= ROWS_A_FILE or late or (not self._queue and not self._flying)

    def _flush(self) -> list[tuple[bytes, dict[str, Any]]]:
        with self._lock:
            games, self._games = sorted(self._games, key=lambda game: game.k), []
            self._waiting, self._flushed = 0, time.monotonic()
        if not games:
            return []
        stats: dict[str, Any] = {**tally(games), "simulations": sum(game.simulations for game in games)}
        stats["rows"] = sum(len(game.rows) for game in games)
        return [(pack(self.game, games, self.job.seed, self.job.config.header()), stats)]

    def _next_game(self) -> tuple[int, Evaluator]:
        with self._lock:
            if not self._queue or self._paused:
                self._news.set()
                raise NoGameYet
            k, model = self._queue.popleft()
            self._flying += 1
            return k, self._models[model]

    def _rest(self) -> None:
        while self._paused or self._waiting > MOST_WAITING:
            time.sleep(0.01)

    def _play(self) -> None:
        try:
            batches = GameThreads(self.game, self.job.config, self.job.seed, self.job.threads)
            self._batches = batches

            def rest() -> None:
                self._take_faults(batches)
                self._rest()

            for finished in batches.play(self._next_game, rest):
                with self._lock:
                    self._games.append(finished)
                    self._waiting += len(finished.rows)
                    self._flying, self._ended = self._flying - 1, self._ended + 1
                if self._is_due():
                    self._news.set()
        except AzError as error:
            self._fault = "error", str(error)
        except Exception:  # not expected: the run's log tells of it, and another player takes the place of this one
            self._fault = "crash", traceback.format_exc()
        self._news.set()

    def _take_faults(self, batches: GameThreads) -> None:
        """Faults of searches; a game that failed a second time will not come."""
        with self._lock:
            for fault in batches.take_faults():
                self._faults.append(fault.to_json())
                if fault.k in self._failed:
                    self._lost.append(fault.k)
                    self._flying -= 1
                self._failed.add(fault.k)
                self._news.set()
