"""What the flight recorder costs by size of step: a plain training loop with and without it, one thread.

    python benchmarks/recorder_sizes.py [--rounds 30] [--sizes 2ms 10ms 50ms 500ms] [--json]

Each loop is a network of convolutions on an 8 × 8 board with Adam; its channels and batch are chosen so that a step
takes about that long and its state (weights and both moments) has about that many bytes. With and without alternate in
blocks, there and back again, so that a noisy machine is as noisy to each; the ratio is taken within a round, its
interval (95 %) by bootstrap over the rounds. It must have the machine for itself.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from az.train.health import FlightRecorder


@dataclass(frozen=True)
class Size:
    """channels; rows of a batch; steps of a block; what the state is meant to have."""

    channels: int
    rows: int
    steps: int
    state_mb: float


SIZES = {
    "2ms": Size(channels=16, rows=24, steps=40, state_mb=0.1),
    "10ms": Size(channels=56, rows=24, steps=20, state_mb=1.0),
    "50ms": Size(channels=180, rows=20, steps=8, state_mb=10.0),
    "500ms": Size(channels=560, rows=20, steps=2, state_mb=100.0),
}
LAYERS, PLANES = 3, 3


class Loop:
    """A network, its optimizer, and a step with or without the recorder."""

    def __init__(self, size: Size, recorded: bool) -> None:
        torch.manual_seed(0)
        wide = size.channels
        inner = [part for _ in range(LAYERS) for part in (nn.Conv2d(wide, wide, 3, padding=1), nn.ReLU())]
        self.model = nn.Sequential(nn.Conv2d(PLANES, wide, 3, padding=1), nn.ReLU(), *inner, nn.Conv2d(wide, 1, 1))
        self.optimizer = torch.optim.Adam(self.model.parameters())
        self.recorder = FlightRecorder(self.model, self.optimizer) if recorded else None
        shapes = (size.rows, PLANES, 8, 8), (size.rows, 1, 8, 8)
        self.batches = [tuple(torch.randn(shape) for shape in shapes) for _ in range(4)]
        self.count = 0

    def step(self, batch: tuple[Tensor, ...]) -> Tensor:
        """One ordinary training step."""
        self.optimizer.zero_grad()
        loss = nn.functional.mse_loss(self.model(batch[0]), batch[1])
        loss.backward()
        self.optimizer.step()
        return loss

    def block(self, steps: int) -> float:
        """Seconds of so many steps."""
        begun = time.perf_counter()
        for _ in range(steps):
            batch = self.batches[self.count % len(self.batches)]
            self.count += 1
            if self.recorder is None:
                self.step(batch)
            elif (incident := self.recorder.run(self.step, batch)) is not None:
                raise SystemExit(f"a fault where there should be none: {incident}")
        return time.perf_counter() - begun

    def state_bytes(self) -> int:
        """Weights and the optimizer's tensors."""
        held = [t for state in self.optimizer.state.values() for t in state.values() if isinstance(t, Tensor)]
        return sum(t.nbytes for t in [*self.model.parameters(), *held])


def interval(ratios: list[float], pick: Callable[[Any], float] = statistics.median) -> tuple[float, float, float]:
    """(the median, its 95 % interval by bootstrap)"""
    dice = np.random.default_rng(0)
    drawn = [pick(dice.choice(ratios, len(ratios))) for _ in range(2000)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return pick(ratios), float(low), float(high)


def measure(name: str, rounds: int) -> dict[str, Any]:
    """The figures of one size."""
    size = SIZES[name]
    off, on = Loop(size, recorded=False), Loop(size, recorded=True)
    for loop in (off, on):
        loop.block(3 * size.steps + 12)
    ratios, bare = [], []
    for _ in range(rounds):
        a, b, c, d = off.block(size.steps), on.block(size.steps), on.block(size.steps), off.block(size.steps)
        ratios.append((b + c) / (a + d))
        bare.append((a + d) / (2 * size.steps))
    middle, low, high = interval(ratios)
    return {
        "size": name, **asdict(size), "step_ms": 1e3 * statistics.median(bare), "state_bytes": off.state_bytes(),
        "ratio": middle, "low": low, "high": high,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.sizes:
        found = measure(name, options.rounds)
        if options.json:
            print(json.dumps(found), flush=True)
            continue
        ratio = f"{found['ratio']:.3f} ({found['low']:.3f} – {found['high']:.3f})"
        about = f"step {found['step_ms']:.2f} ms, state {found['state_bytes'] / 1e6:.2f} MB"
        print(f"{about}: with ÷ without {ratio}", flush=True)


if __name__ == "__main__":
    main()
