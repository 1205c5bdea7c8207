"""What self-play makes of a GPU: simulations a second with several batches in flight, against onnxruntime alone; and
whether the learner gains by a CUDA graph there (`learner.cuda_graph`).

    python benchmarks/gpu.py --seconds 3 --repeats 5
    python benchmarks/gpu.py --provider cpu --batch 64 --threads 2      (the same code where there is no GPU)

The model is the fixed one of preset `seed`'s size, in half precision unless told otherwise, at the batch at which
onnxruntime alone is nearly fastest. Alone means without a search: calls on real positions, by one thread and by as many
as self-play has, whichever is faster. Phases alternate; a ratio is that of two neighbours; games are spread over all
their plies.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import onnx
import torch

from az.engine.bench.meters import middle_positions, usual_length
from az.engine.game import Game
from az.engine.inference.model_resolver import SHIPPED
from az.engine.inference.onnx_evaluator import OnnxEvaluator
from az.engine.inference.raw_meter import RawMeter
from az.engine.selfplay.autotune import GPU_BATCHES, MOST_THREADS, best_batch
from az.engine.selfplay.batch import SelfplayConfig
from az.engine.selfplay.threads import GameThreads
from az.engine.system.cores import usable_cores
from az.export.fp16_file import halved
from az.export.onnx_file import sealed
from az.export.quantization_gate import CHECKED_IN_FILE, carrying, own_answers
from az.train.bench import LearnerMeter
from az.train.presets import preset


def half_file(path: Path, folder: Path) -> Path:
    """The fp16 variant of a published file, with its own answers to the positions that it carries."""
    plain = OnnxEvaluator(path, provider="cpu")
    metadata = {**plain.metadata, "precision": "fp16"}
    model = halved(onnx.load(path))
    planes = middle_planes(plain.game, CHECKED_IN_FILE)
    answers = own_answers(model, metadata, plain.game, planes, "fp16")
    out = folder / f"{path.stem}.fp16.onnx"
    out.write_bytes(sealed(model, carrying(metadata, planes, answers)))
    return out


def middle_planes(game: Game, rows: int) -> np.ndarray:
    """[rows, C, H, W] of positions of every part of a game."""
    return np.stack([game.planes(state) for state in middle_positions(game, rows, 0)])


class Search:
    """Threads that play until they are told to rest."""

    def __init__(self, evaluator: OnnxEvaluator, config: SelfplayConfig, threads: int) -> None:
        numbers = count()
        self.batches = GameThreads(evaluator.game, config, 0, threads)
        self.playing = threading.Event()

        def rest() -> None:
            self.playing.wait()

        games = self.batches.play(lambda: (next(numbers), evaluator), rest)
        threading.Thread(target=lambda: [None for _ in games], daemon=True).start()

    def rate(self, seconds: float) -> float:
        """Simulations a second."""
        self.playing.set()
        time.sleep(0.3)
        walks, begun = self.batches.walks(), time.perf_counter()
        time.sleep(seconds)
        done, spent = self.batches.walks() - walks, time.perf_counter() - begun
        self.playing.clear()
        time.sleep(0.3)  # the batches under way
        return done / spent


def raw_rate(meters: list[RawMeter], batch: int, seconds: float) -> float:
    """Evaluations a second of so many threads together."""
    with ThreadPoolExecutor(len(meters)) as pool:
        return sum(pool.map(lambda meter: meter.rate(batch, seconds), meters))


def learner_rates(game: Game, seconds: float, repeats: int) -> dict[str, list[float]]:
    """Rows a second of the learner, [median, least, greatest], operation by operation and as one graph, alternating."""
    config, found = preset(game.name, "seed"), {"eager": [], "graph": []}
    meters = {
        name: LearnerMeter(game, replace(config, learner=replace(config.learner, cuda_graph=graph)), "auto", "cuda")
        for name, graph in (("eager", False), ("graph", True))
    }
    for turn in range(repeats + 1):
        for name, meter in meters.items():
            rate = meter.rate(seconds)
            if turn:
                found[name].append(rate)
    ratios = [graph / eager for eager, graph in zip(found["eager"], found["graph"], strict=True)]
    lists = {**found, "graph_over_eager": ratios}
    return {name: [statistics.median(values), min(values), max(values)] for name, values in lists.items()}


def main() -> None:
    """One JSON object on stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--game", default="checkers")
    parser.add_argument("--provider", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--precision", choices=("fp16", "fp32"), default="fp16")
    parser.add_argument("--batch", type=int, default=0, help="0: measured")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--sims", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = SHIPPED / "bench" / f"{asked.game}.onnx"
        path = half_file(path, Path(folder)) if asked.precision == "fp16" else path

        def open_at(size: int) -> OnnxEvaluator:
            return OnnxEvaluator(path, provider=asked.provider, batch=size)

        batch = asked.batch or best_batch(open_at)
        threads = asked.threads or max(2, min(MOST_THREADS, usable_cores() - 1))
        evaluator = open_at(batch)
    planes = middle_planes(evaluator.game, max(batch, *GPU_BATCHES))
    meters = [RawMeter(evaluator, planes, batch) for _ in range(threads)]
    config = SelfplayConfig(simulations=asked.sims, fast_simulations=asked.sims, slots=batch, cache=False)
    search = Search(evaluator, replace(config, opening_plies=usual_length(evaluator.game)), threads)
    search.rate(3.0)
    found = [
        (raw_rate(meters[:1], batch, asked.seconds), search.rate(asked.seconds), raw_rate(meters, batch, asked.seconds))
        for _ in range(asked.repeats)
    ]
    ratios = [made / max(one, many) for one, made, many in found]
    rates = {
        "raw_one_thread": [row[0] for row in found],
        "simulations": [row[1] for row in found],
        "raw_all_threads": [row[2] for row in found],
    }
    learner = learner_rates(evaluator.game, asked.seconds, asked.repeats) if torch.cuda.is_available() else None
    told = {name: [statistics.median(values), min(values), max(values)] for name, values in rates.items()}
    print(
        json.dumps(
            {"game": asked.game, "provider": evaluator.provider, "precision": asked.precision, "batch": batch,
             "lanes": threads, "per_second": told,
             "simulations_over_raw": [statistics.median(ratios), min(ratios), max(ratios)], "learner": learner}
        ),
        flush=True,
    )  # fmt: skip


if __name__ == "__main__":
    main()
