"""How self-play uses this machine: processes, threads and games in flight, by what there is and a short measurement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from az.engine.game import Game
from az.engine.inference.evaluator import Evaluator
from az.engine.inference.onnx_evaluator import OnnxEvaluator
from az.engine.inference.precision import load_precision, usable
from az.engine.inference.raw_meter import RawMeter
from az.engine.selfplay.batch import SelfplayConfig
from az.engine.system.cores import usable_cores

GPU_BATCHES = (256, 512, 1024, 2048, 4096)
NEAR = 0.95  # the smallest batch that comes so near to the fastest: small ones keep more threads busy
MOST_THREADS = 6  # threads of one process: beyond this they wait for Python's lock


@dataclass(frozen=True)
class Plan:
    """What a run's self-play is told. config: with the sizes filled in that were left to the machine."""

    workers: int  # processes
    threads: int  # of each
    provider: str
    config: SelfplayConfig
    line: str  # for people

    @property
    def lanes(self) -> int:
        """The old name of `threads`, for one version."""
        return self.threads


def plan_for(model: Path, game: Game, config: SelfplayConfig, workers: int, provider: str = "auto") -> Plan:
    """On the CPU a process a core, each with a network of its own, none waiting for another. On a GPU one process with
    several threads, so that at least two batches are in flight, and the batch that a short measurement finds.

    Raises what `load_precision` raises.
    """
    cores = usable_cores()
    asked = usable(model, config.precision)
    first, why = load_precision(model, game, asked, provider)
    if asked != config.precision:
        why = f"fp32 (the first model's {config.precision} file was refused: the log says why)"
    if not first.on_gpu:  # asked for, or int8, or CUDA is there and cannot be used
        return Plan(workers or cores, config.in_flight or 1, "cpu", config, f"self-play in {why}")

    def open_at(size: int) -> OnnxEvaluator:
        return OnnxEvaluator(first.name, game, provider=provider, batch=size)

    batch = config.gpu_batch or best_batch(open_at)
    threads = config.in_flight or max(2, min(MOST_THREADS, cores - 1))
    sized = replace(config, gpu_batch=batch, slots=max(config.slots, batch))
    line = f"self-play in {why}, calls of {batch:,} positions, {threads} in flight"
    return Plan(workers or 1, threads, provider, sized, line)


def best_batch(open_at: Callable[[int], Evaluator], seconds: float = 0.2, sizes: tuple[int, ...] = GPU_BATCHES) -> int:
    """The smallest size of a call that is nearly as fast as the fastest. `open_at`: the evaluator of a size.

    Raises Refused where not even the smallest runs; a size that the device has no memory for ends the search.
    """
    rates: dict[int, float] = {}
    for size in sorted(sizes):
        try:
            rates[size] = _rate(open_at(size), size, seconds)
        except Exception:  # onnxruntime's own errors share no base class
            if not rates:
                raise
            break
    return min(size for size, rate in rates.items() if rate >= NEAR * max(rates.values()))


def _rate(evaluator: Evaluator, size: int, seconds: float) -> float:
    meter = RawMeter(evaluator, np.zeros((size, *evaluator.game.planes_shape), np.float32), size)
    for _ in range(3):  # memory is taken and kernels are picked in the first calls
        meter.rate(size, 0.0)
    return meter.rate(size, seconds)
