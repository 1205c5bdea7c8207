"""What a run is handed: publishing and measuring, which training knows nothing of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from az.train.config import RunConfig
from az.train.learner import Learner
from az.train.replay import Replay


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
