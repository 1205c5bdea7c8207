"""How self-play uses this machine: processes, lanes and games in flight, by what there is and a short measurement."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from az.engine.cores import usable_cores
from az.engine.cuda import best_batch
from az.engine.game import Game
from az.engine.onnx_evaluator import OnnxEvaluator
from az.engine.precision import choose_precision, load_precision, twin_of, usable
from az.engine.providers import on_gpu
from az.engine.selfplay import SelfplayConfig

MOST_LANES = 6  # threads of one process: beyond this they wait for Python's lock


@dataclass(frozen=True)
class Plan:
    """What a run's self-play is told. config: with the sizes filled in that were left to the machine."""

    workers: int  # processes
    lanes: int  # of each
    config: SelfplayConfig
    line: str  # for people


def plan_for(model: Path, game: Game, config: SelfplayConfig, workers: int, provider: str = "auto") -> Plan:
    """On the CPU a process a core, each with a network of its own, none waiting for another. On a GPU one process with
    several lanes, so that at least two batches are in flight, and the batch that a short measurement finds.

    Raises what `load_precision` raises.
    """
    asked, cores, gpu = usable(model, config.precision), usable_cores(), on_gpu(provider)
    path, why = choose_precision(model, asked, gpu)
    if not gpu or path == twin_of(model, "int8"):
        return Plan(workers or cores, config.in_flight or 1, config, f"self-play in {why}")

    def open_at(size: int) -> OnnxEvaluator:
        return load_precision(model, game, asked, provider, size)[0]

    batch = config.gpu_batch or best_batch(open_at)
    lanes = config.in_flight or max(2, min(MOST_LANES, cores - 1))
    sized = replace(config, gpu_batch=batch, slots=max(config.slots, batch))
    line = f"self-play in {why}, calls of {batch:,} positions, {lanes} in flight"
    return Plan(workers or 1, lanes, sized, line)
