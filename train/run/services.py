"""What a run is handed: publishing and measuring, which training knows nothing of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from az.engine.game import Game
from az.engine.selfplay.autotune import Plan
from az.engine.selfplay.worker import WorkerJob
from az.train.config import RunConfig
from az.train.learner import Learner
from az.train.replay import Replay
from az.train.run.folder import RunFolder


class Services(Protocol):
    """What the run cannot do itself."""

    def publish(self, learner: Learner, replay: Replay, folder: Path, number: int) -> str | None:
        """Write models/NNNNNN.onnx through every gate; a sentence where it is not played in the precision that was
        asked for. Raises Refused.
        """
        ...

    def start_score(self, model: Path, config: RunConfig) -> bool:
        """Begin to measure a model in the background; False where a measurement is under way."""
        ...

    def finished_score(self, wait: Callable[[], bool]) -> dict[str, Any] | None:
        """The result of a measurement that has ended since the last call, {"error": sentence} of one that failed, None
        while none has ended; waits for one while `wait` says so.
        """
        ...

    def close(self) -> None:
        """Stop what is under way."""
        ...


OnFile = Callable[[str, dict[str, Any]], bool]  # name of a record file, its counts; whether its rows were accepted
OnFault = Callable[[dict[str, Any]], None]  # a SearchFault as JSON


class Pool(Protocol):
    """Self-play of a run, wherever it is made. Only `listen` and `stop` may touch the disk."""

    def pause(self, paused: bool) -> None:
        """Let self-play rest, or go on."""
        ...

    def doing(self) -> str:
        """How far self-play is at this moment, for people; may be asked in any thread."""
        ...

    def listen(self, timeout: float, on_file: OnFile, on_fault: OnFault) -> None:
        """Hand on what has been made, waiting at most `timeout` seconds for the first of it. Raises Refused where
        self-play cannot go on, OSError of the disk.
        """
        ...

    def stop(self) -> None:
        """End self-play; the games in flight are lost."""
        ...


@dataclass(frozen=True)
class PoolStart:
    """What a pool begins with.

    report: told a sentence for people; note: a kind and values for the run's log; stopping: whether the run was asked
    to stop; show: told figures of the display.
    """

    folder: RunFolder
    game: Game
    config: RunConfig
    plan: Plan
    job: WorkerJob
    report: Callable[[str], None]
    note: Callable[[str, dict[str, Any]], None]
    stopping: Callable[[], bool]
    show: Callable[[dict[str, Any]], None]


class Selfplay(Protocol):
    """Where a run's games are made: on this machine, or on a cluster."""

    def pool(self, start: PoolStart) -> Pool:
        """Begin, for a run in which games and steps go on side by side."""
        ...

    def play_turn(
        self, start: PoolStart, model: Path, turn: int, loaded: Callable[[Path, str], None]
    ) -> tuple[str, dict[str, Any]] | None:
        """The games of one turn of a deterministic run, as one file: its name and its counts; None where the run was
        asked to stop. loaded: told which model plays, and the line of `load_precision`.
        """
        ...

    def close(self) -> None:
        """Stop what is under way."""
        ...
