"""How many positions a second onnxruntime answers by itself, which is the bound of every search."""

from __future__ import annotations

import itertools
import time

import numpy as np

from az.engine.inference.evaluator import Evaluator, Float32

BATCHES = (16, 32, 64, 128, 256)


class RawMeter:
    """onnxruntime alone on real positions, at the batch that suits it best."""

    def __init__(self, evaluator: Evaluator, planes: Float32, most: int = max(BATCHES)) -> None:
        """planes: [n, C, H, W], n at least `most`, the largest batch that will be asked for."""
        self.evaluator, self.planes = evaluator, planes
        self.logits = np.empty((most, evaluator.game.num_actions), np.float32)
        self.values = np.empty(most, np.float32)
        self.batch = 0

    def rate(self, batch: int, seconds: float) -> float:
        """Evaluations a second."""
        blocks = [self.planes[i : i + batch] for i in range(0, len(self.planes) - batch + 1, batch)]
        begun, done = time.perf_counter(), 0
        for block in itertools.cycle(blocks):
            self.evaluator.evaluate(block, self.logits[:batch], self.values[:batch])
            done += batch
            spent = time.perf_counter() - begun
            if spent >= seconds:
                return done / spent
        raise AssertionError

    def measure(self, seconds: float) -> dict[str, float]:
        """At the best batch, which the first call looks for."""
        if not self.batch:
            rates = dict.fromkeys(BATCHES, 0.0)
            for batch in 3 * BATCHES:  # in turns: a moment that the host took hits no size alone
                rates[batch] = max(rates[batch], self.rate(batch, 0.08))
            self.batch = max(rates, key=lambda batch: rates[batch])
        return {"per_s": self.rate(self.batch, seconds), "batch": self.batch}
