"""Does the ONNX file answer what the network answers? Compared: softmax over the legal moves, and value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from az.engine.game import ONGOING, Game
from az.engine.inference.evaluator import Evaluator, Float32
from az.engine.inference.onnx_evaluator import softmax

LIMIT = 1e-4


@dataclass(frozen=True)
class Positions:
    """What the two are asked, and which moves count."""

    planes: Float32  # [n, C, H, W]
    legal: NDArray[np.bool_]  # [n, A], at least one True a row


@dataclass(frozen=True)
class Parity:
    """The worst disagreement. `error` is NaN when an answer is not finite: test with `ok`."""

    error: float
    where: str

    @property
    def ok(self) -> bool:
        return self.error <= LIMIT  # False for NaN


def random_positions(game: Game, count: int = 33, seed: int = 0) -> Positions:
    """Positions of random games, from the start on; one a few plies apart so that early and late ones are there."""
    rng = np.random.default_rng(seed)
    planes = np.zeros((count, *game.planes_shape), np.float32)
    legal = np.zeros((count, game.num_actions), np.bool_)
    state, row = game.new_state(), 0
    while row < count:
        if game.outcome(state) != ONGOING:
            state = game.new_state()
        mask = game.mask(state)
        if row == 0 or rng.random() < 0.5:
            planes[row], legal[row] = game.planes(state), mask
            row += 1
        game.apply(state, int(rng.choice(np.flatnonzero(mask))))
    return Positions(planes, legal)


def torch_answers(module: nn.Module, planes: Float32) -> tuple[Float32, Float32]:
    """(logits [n, A], values [n]) of the network in evaluation mode.

    On one thread: the file carries these answers, and its bytes must not depend on the machine's cores; and where
    self-play keeps the cores busy, torch's threads wait a hundred times longer for each other than they compute.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # of the calling thread: a learner in another thread keeps its own
    try:
        with torch.no_grad():
            board = torch.from_numpy(planes)  # pyright: ignore[reportUnknownMemberType]
            logits, values = module(board)
    finally:
        torch.set_num_threads(threads)
    return logits.numpy().astype(np.float32), values.numpy().astype(np.float32)


def compare(answers: tuple[Float32, Float32], evaluator: Evaluator, positions: Positions) -> Parity:
    """The worst difference between torch's answers and the evaluator's, at batch 1, an odd one and the full one."""
    logits, values = answers
    n = len(values)
    worst = Parity(0.0, "nowhere")
    for size in sorted({1, min(7, n), n}):
        for first in range(0, n, size) if size > 1 else range(min(n, 4)):
            rows = slice(first, min(first + size, n))
            answer, answer_values = np.empty_like(logits[rows]), np.empty_like(values[rows])
            evaluator.evaluate(positions.planes[rows], answer, answer_values)
            legal = positions.legal[rows]
            policy = np.abs(_legal_softmax(answer, legal) - _legal_softmax(logits[rows], legal)).max(axis=1)
            value = np.abs(answer_values - values[rows])
            worst = _worse(worst, policy, f"policy, batch of {size}", first)
            worst = _worse(worst, value, f"value, batch of {size}", first)
    return worst


def _legal_softmax(logits: Float32, legal: NDArray[np.bool_]) -> Float32:
    return softmax(np.where(legal, logits, -np.inf).astype(np.float32))


def _worse(worst: Parity, errors: Float32, what: str, first: int) -> Parity:
    if np.isnan(worst.error):
        return worst
    row = int(np.argmax(errors))  # argmax takes the first NaN for the largest
    if np.isnan(errors[row]) or errors[row] > worst.error:
        return Parity(float(errors[row]), f"{what}, position {first + row}")
    return worst
