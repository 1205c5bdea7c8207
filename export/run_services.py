"""What a training run is handed: publishing through the gates, and scores from the arena."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from az.engine.arena.background_match import ScoreJob, ScoreProcess
from az.engine.errors import Refused
from az.engine.game import Game
from az.engine.inference.precision import wanted_variant
from az.engine.inference.providers import on_gpu
from az.export.parity import Positions
from az.export.pipeline import PARITY_POSITIONS, VARIANT_POSITIONS, Candidate, publish
from az.train.config import RunConfig
from az.train.learner import Learner
from az.train.replay import Replay


class RunServices:
    """Implements az.train.run.services.Services."""

    def __init__(self, game: Game, config: RunConfig, message: Callable[[str], None]) -> None:
        self.game, self.config, self.message = game, config, message
        self.variant, _ = wanted_variant(config.selfplay.precision, on_gpu(config.provider))
        self._plain = False  # the last model was played in fp32 instead
        self._score = ScoreProcess()

    def publish(self, learner: Learner, replay: Replay, folder: Path, number: int) -> str | None:
        """models/NNNNNN.onnx through finite gate, export and parity. Returns why it is played in fp32 where its file in
        fewer bits was refused; when that begins or ends, it is said at once. Raises Refused.
        """
        names = {id(parameter): name for name, parameter in learner.model.named_parameters()}
        also = {
            f"optimizer.{field}.{names[id(parameter)]}": tensor
            for parameter, state in learner.optimizer.state.items()
            for field, tensor in state.items()
            if hasattr(tensor, "isfinite") and tensor.is_floating_point()
        }
        if learner.average is not None:
            also |= {f"weights.{name}": tensor for name, tensor in learner.model.state_dict().items()}
        candidate = Candidate(
            state=learner.published().state_dict(),
            game=self.game,
            net=self.config.net,
            step=learner.steps,
            preset=self.config.preset,
            also=also,
            stamp=not self.config.deterministic,
            variant=self.variant,
        )
        rows = VARIANT_POSITIONS if self.variant else PARITY_POSITIONS
        result = publish(candidate, folder, number, _real_positions(replay, rows))
        if isinstance(result, Refused):
            raise result
        refused = result.card.get(f"{self.variant}_refused")
        note = f"model {number:06d} is played in fp32: {refused}" if refused else None
        if bool(note) != self._plain:
            self._plain = bool(note)
            self.message(note or f"model {number:06d} is played in {self.variant} again")
        return note

    def start_score(self, model: Path, config: RunConfig) -> bool:
        """Begin a match of this model against the configured opponent; False where one is under way."""
        arena = config.arena
        return self._score.start(
            ScoreJob(config.game, model.resolve(), arena.opponent, arena.games, arena.simulations, config.seed)
        )

    def finished_score(self, wait: Callable[[], bool]) -> dict[str, Any] | None:
        """The figures of a match that has ended since the last call, or {"error": sentence}; waits for one while `wait`
        says so.
        """
        return self._score.finished(wait)

    def close(self) -> None:
        """Stop a match under way."""
        self._score.close()


def _real_positions(replay: Replay, count: int) -> Positions | None:
    """Positions spread over the window in no order, or None while it is nearly empty (random games then)."""
    if len(replay) < count:
        return None
    rows = np.linspace(replay.first_row, replay.total_rows - 1, count).astype(np.int64)
    rows = np.random.default_rng(0).permutation(rows)  # the first few are checked one by one: not all of one game
    batch = replay.gather(rows, np.zeros(count, np.int64))
    return Positions(batch.planes, batch.mask)
