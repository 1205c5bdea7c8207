"""What the search asks of a network: planes in, logits and values out."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from az.engine.game import Game

Float32 = NDArray[np.float32]


class Evaluator(Protocol):
    """Anything that judges positions. A row's answer may depend on that row alone, never on its neighbours."""

    game: Game
    name: str  # what people see: the model's name or path
    model_id: str  # what records carry: identifies the weights

    def evaluate(self, planes: Float32, logits: Float32, values: Float32) -> None:
        """Judge n positions.

        planes: [n, C, H, W], in [-1, +1], seen by the player to move.
        logits: [n, num_actions], filled; any finite number, illegal actions too.
        values: [n], filled; in [-1, +1], view of the player to move.
        Raises Refused when the network answers with a number that is not finite.
        """
        ...


class UniformEvaluator:
    """No knowledge: every move alike, every position even. The search alone plays."""

    name = "uniform"
    model_id = "uniform"

    def __init__(self, game: Game) -> None:
        self.game = game

    def evaluate(self, planes: Float32, logits: Float32, values: Float32) -> None:  # noqa: ARG002
        logits[:] = 0.0
        values[:] = 0.0


class HashEvaluator:
    """Pseudo-random but fixed answers from the planes themselves: for tests and for the bench signature."""

    name = "hash"
    model_id = "hash"

    def __init__(self, game: Game) -> None:
        self.game = game
        rng = np.random.default_rng(20260101)
        size = int(np.prod(game.planes_shape))
        self.weights = rng.normal(size=(size, game.num_actions + 1)).astype(np.float64)

    def evaluate(self, planes: Float32, logits: Float32, values: Float32) -> None:
        for row in range(len(planes)):  # row by row, so that a row cannot depend on its neighbours
            mixed = np.sin((planes[row].astype(np.float64).ravel() * 3.7 + 0.1)[:, None] * self.weights).sum(axis=0)
            logits[row] = mixed[:-1] / 4.0
            values[row] = np.tanh(mixed[-1] / 8.0)
