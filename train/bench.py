"""The learner against a bare torch loop: the same network, batch and precision, without az around it."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from az.engine.game import Game
from az.train.config import RunConfig
from az.train.learner import Learner, uses_bf16
from az.train.model import Network
from az.train.presets import preset
from az.train.replay import Batch


def fixed_batch(game: Game, rows: int) -> Batch:
    """Rows that cost as much as real ones; their contents are never read."""
    rng = np.random.default_rng(0)
    mask = rng.random((rows, game.num_actions)) < 8 / game.num_actions
    mask[:, 0] = True
    policy = np.where(mask, rng.random(mask.shape), 0.0)
    return Batch(
        planes=(rng.random((rows, *game.planes_shape)) * 2 - 1).astype(np.float32),
        policy=(policy / policy.sum(1, keepdims=True)).astype(np.float32),
        mask=mask,
        value=(rng.random(rows) * 2 - 1).astype(np.float32),
        rows=np.arange(rows),
        symmetry=np.zeros(rows, np.int64),
    )


class LearnerMeter:
    """Steps of az's learner, with everything that it looks at on the way."""

    def __init__(self, game: Game, config: RunConfig, precision: str, device: str = "cpu") -> None:
        network = Network(game.planes_shape, game.num_actions, config.net)
        self.learner = Learner(network, replace(config.learner, precision=precision), device)
        self.batch = fixed_batch(game, config.learner.batch)

    def rate(self, seconds: float) -> float:
        """Rows a second."""
        begun, rows = time.perf_counter(), 0
        while (spent := time.perf_counter() - begun) < seconds:
            self.learner.step(self.batch)
            rows += len(self.batch.value)
        return rows / spent


class BareMeter:
    """The loop that anyone would write: forward, loss, backward, Adam."""

    def __init__(self, game: Game, config: RunConfig, precision: str) -> None:
        self.network: nn.Module = Network(game.planes_shape, game.num_actions, config.net).train()
        self.half = uses_bf16(precision, torch.device("cpu"))
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-4, weight_decay=config.learner.l2)
        batch = fixed_batch(game, config.learner.batch)
        self.planes, self.policy, self.value = (torch.from_numpy(a) for a in (batch.planes, batch.policy, batch.value))

    def rate(self, seconds: float) -> float:
        """Rows a second."""
        begun, rows = time.perf_counter(), 0
        while (spent := time.perf_counter() - begun) < seconds:
            self.optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
                logits, value = self.network(self.planes)
            policy_loss = -(self.policy * functional.log_softmax(logits.float(), 1)).sum(1).mean()
            (policy_loss + (value.float() - self.value).square().mean()).backward()
            self.optimizer.step()
            rows += len(self.value)
        return rows / spent


def learner_rates(game: Game, repeats: int, seconds: float) -> dict[str, list[float]]:
    """Rows a second of both, alternating, in the precision that `auto` chooses here; preset `seed`'s network."""
    config = preset(game.name, "seed")
    precision = "bf16" if uses_bf16("auto", torch.device("cpu")) else "fp32"
    meters = {"learner": LearnerMeter(game, config, precision), "torch": BareMeter(game, config, precision)}
    for meter in meters.values():
        meter.rate(0.2)
    rates: dict[str, list[float]] = {name: [] for name in meters}
    for _ in range(repeats):
        for name, meter in meters.items():
            rates[name].append(meter.rate(seconds))
    return rates
