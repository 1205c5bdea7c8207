"""A measurement in a process of its own, so that a run can go on training while it is made."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from az.engine.arena.match import play_match
from az.engine.errors import AzError
from az.engine.game import load_game
from az.engine.players import make_player
from az.engine.system.child import Child, end_of


@dataclass(frozen=True)
class ScoreJob:
    """A model against an opponent (see `make_player`)."""

    game: str
    model: Path
    opponent: str
    games: int
    simulations: int
    seed: int


def score_main(job: ScoreJob, pipe: Connection) -> None:
    """The process's body: sends the match's figures, or {"error": sentence}."""
    if hasattr(os, "nice"):  # not on Windows
        os.nice(5)  # self-play comes first
    try:
        game = load_game(job.game)
        model = make_player(str(job.model), game, job.simulations)
        opponent = make_player(job.opponent, game, job.simulations)
        figures = play_match(model, opponent, job.games, job.seed).to_json()
        pipe.send({**figures, "model": job.model.name, "opponent": job.opponent, "simulations": job.simulations})
    except (AzError, OSError) as error:
        pipe.send({"error": str(error)})
    except Exception as error:  # not expected; a traceback would only tear the run's screen
        pipe.send({"error": f"{type(error).__name__}: {error}"})


class ScoreProcess:
    """At most one measurement at a time."""

    def __init__(self) -> None:
        self._process: Child | None = None
        self._pipe: Connection | None = None

    def start(self, job: ScoreJob) -> bool:
        """Begin, unless one is under way; whether it was begun."""
        if self._process is not None:
            return False
        ours, theirs = multiprocessing.Pipe(duplex=False)
        self._process = Child(score_main, (job, theirs))
        self._process.start()
        theirs.close()
        self._pipe = ours  # pyright: ignore[reportAttributeAccessIssue]
        return True

    def finished(self, wait: Callable[[], bool]) -> dict[str, Any] | None:
        """The figures of a measurement that has ended, {"error": sentence} of one that failed; None while none has.

        wait: asked several times a second whether to go on waiting for one that is under way.
        """
        if self._pipe is None:
            return None
        while not self._pipe.poll():
            if not wait():
                return None
            self._pipe.poll(0.2)
        try:
            result = self._pipe.recv()
        except (EOFError, OSError):  # the process was killed
            assert self._process is not None
            self._process.join(5)
            result = {"error": f"its process ended {end_of(self._process)}"}
        self.close()
        return result

    def close(self) -> None:
        """Stop what is under way."""
        if self._process is not None:
            self._process.end()
            assert self._pipe is not None
            self._pipe.close()
        self._process = self._pipe = None
