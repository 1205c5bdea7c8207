"""How self-play uses this machine: processes, lanes and games in flight, by what there is and a short measurement."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from az.engine.cores import usable_cores
from az.engine.cuda import best_batch
from az.engine.game import Game
from az.engine.onnx_evaluator import OnnxEvaluator
from az.engine.precision import load_precision, usable
from az.engine.selfplay import SelfplayConfig

MOST_LANES = 6  # threads of one process: beyond this they wait for Python's lock


@dataclass(frozen=True)
class Plan:
    """What a run's self-play is told. config: with the sizes filled in that were left to the machine."""

    workers: int  # processes
    lanes: int  # of each
    provider: str
    config: SelfplayConfig
    line: str  # for people


def plan_for(model: Path, game: Game, config: SelfplayConfig, workers: int, provider: str = "auto") -> Plan:
    """On the CPU a process a core, each with a network of its own, none waiting for another. On a GPU one process with
    several lanes, so that at least two batches are in flight, and the batch that a short measurement finds.

    Raises what `load_precision` raises.
    """
    cores = usable_cores()
    first, why = load_precision(model, game, usable(model, config.precision), provider)
    if not first.on_gpu:  # asked for, or int8, or CUDA is there and cannot be used
        return Plan(workers or cores, config.in_flight or 1, "cpu", config, f"self-play in {why}")

    def open_at(size: int) -> OnnxEvaluator:
        return OnnxEvaluator(first.name, game, provider=provider, batch=size)

    batch = config.gpu_batch or best_batch(open_at)
    lanes = config.in_flight or max(2, min(MOST_LANES, cores - 1))
    sized = replace(config, gpu_batch=batch, slots=max(config.slots, batch))
    line = f"self-play in {why}, calls of {batch:,} positions, {lanes} in flight"
    return Plan(workers or 1, lanes, provider, sized, line)
