"""az and its peers at self-play of connect four, alternating in one run: how many times as many simulations a second.

    python benchmarks/peers/compare.py --mctx PYTHON --openspiel PYTHON [--repeats 5] [--json]

PYTHON is the interpreter of an environment made as README.md beside this file says; this program itself is run by az's.
Each repetition measures az and then each peer for a few seconds, alone on the machine's cores, and divides: what else
the machine does then slows both sides of a ratio about alike.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from az.engine.evaluator import Float32
from az.engine.game import load_game
from az.engine.onnx_evaluator import OnnxEvaluator
from az.engine.selfplay import SelfplayBatch, SelfplayConfig
from az.engine.warm import warm_up

HERE = Path(__file__).resolve().parent
WORKERS = 2
# Random openings put the games in flight at different plies from the start, as mctx_pgx.py does: games in step would
# find each other's positions in the cache far more often than games do later on.
AZ = SelfplayConfig(simulations=100, fast_simulations=100, algorithm="puct", opening_plies=20)
WARM_SIMULATIONS = 2000  # of each worker before the clock starts


class CountingEvaluator:
    """Counts the positions that the network was asked about."""

    def __init__(self, inner: OnnxEvaluator) -> None:
        self.inner, self.game, self.name, self.model_id = inner, inner.game, inner.name, inner.model_id
        self.positions = 0

    def evaluate(self, planes: Float32, logits: Float32, values: Float32) -> None:
        """As the model does."""
        self.positions += len(planes)
        self.inner.evaluate(planes, logits, values)


def az_model() -> bytes:
    """An untrained network of preset `seed` as an ONNX file: its speed does not depend on its weights."""
    import torch

    from az.export.pipeline import Candidate, onnx_bytes_of
    from az.train.model import build
    from az.train.presets import preset

    torch.manual_seed(0)
    network = build("connect4", "seed").eval()
    net = preset("connect4", "seed").net
    return onnx_bytes_of(Candidate(network.state_dict(), load_game("connect4"), net, 0, "seed"), "model.onnx")[0]


def az_worker(number: int, counts: Any, model: bytes, config: SelfplayConfig) -> None:
    """Play games for ever; `counts` has two places for each worker: simulations begun, positions evaluated."""
    game = load_game("connect4")
    evaluator = CountingEvaluator(OnnxEvaluator("model.onnx", game, threads=1, provider="cpu", data=model))
    batch = SelfplayBatch(game, config, seed=0, slots=config.slots)
    games = itertools.count(number, WORKERS)

    def count() -> None:
        counts[2 * number] = batch.simulations + int(batch.search.roots.started.sum())
        counts[2 * number + 1] = evaluator.positions

    for _ in batch.play(lambda: (next(games), evaluator), count):
        pass


def az_simulations_per_s(seconds: float, model: bytes, config: SelfplayConfig = AZ) -> tuple[float, float]:
    """(simulations, positions evaluated) a second of two self-play processes together."""
    context = multiprocessing.get_context("spawn")
    counts = context.Array("q", 2 * WORKERS, lock=False)
    arguments = [(number, counts, model, config) for number in range(WORKERS)]
    workers = [context.Process(target=az_worker, args=each, daemon=True) for each in arguments]
    for worker in workers:
        worker.start()
    try:
        while min(counts[0::2]) < WARM_SIMULATIONS:
            time.sleep(0.05)
            if not all(worker.is_alive() for worker in workers):
                raise SystemExit("a self-play process of az died; its error is above")
        before = time.perf_counter(), sum(counts[0::2]), sum(counts[1::2])
        time.sleep(seconds)
        after = time.perf_counter(), sum(counts[0::2]), sum(counts[1::2])
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()
    passed = after[0] - before[0]
    return round((after[1] - before[1]) / passed, 1), round((after[2] - before[2]) / passed, 1)


def peer(python: str, script: str, seconds: float, cache: str, *options: str) -> dict[str, Any]:
    """One repetition of a peer's program in its own environment: what it prints."""
    command = [python, str(HERE / script), "--seconds", str(seconds), "--repeats", "1", *options]
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        # JAX keeps what it compiles there, however small, so that only the first repetition waits for it.
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{script} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def summary(ratios: Sequence[float]) -> dict[str, float]:
    """Median and spread."""
    return {"median": round(statistics.median(ratios), 2), "lowest": min(ratios), "highest": max(ratios)}


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All repetitions, az first in each."""
    warm_up(load_game("connect4"))
    model, az_runs = az_model(), []
    peers: dict[str, list[dict[str, Any]]] = {}
    mctx_games = arguments.mctx_games
    with tempfile.TemporaryDirectory() as cache:
        for repeat in range(arguments.repeats):
            az_runs.append(az_simulations_per_s(arguments.seconds, model))
            line = f"{repeat + 1}: az {az_runs[-1][0]:,.0f}"
            if arguments.mctx:
                answer = peer(arguments.mctx, "mctx_pgx.py", arguments.seconds, cache, "--games", mctx_games)
                mctx_games = str(answer["games_in_flight"])  # the first repetition chooses the best for all
                peers.setdefault("mctx", []).append(answer)
            for inference in arguments.inference.split(",") if arguments.openspiel else ():
                answer = peer(
                    arguments.openspiel, "openspiel_actor.py", arguments.seconds, cache, "--inference", inference
                )
                peers.setdefault(f"openspiel, {inference} inference", []).append(answer)
            for name, answers in peers.items():
                line += f" · {name} {answers[-1]['simulations_per_s']:,.0f}"
            print(line, file=sys.stderr, flush=True)
    result: dict[str, Any] = {
        "unit": "simulations a second, connect four, 100 simulations a move, both sides on the same CPU",
        "cores": os.cpu_count(),
        "seconds": arguments.seconds,
        "az": {"runs": [run[0] for run in az_runs], "positions_evaluated_per_s": [run[1] for run in az_runs]},
        "peers": {},
    }
    for name, answers in peers.items():
        runs = [answer["simulations_per_s"] for answer in answers]
        ratios = [round(run[0] / other, 2) for run, other in zip(az_runs, runs, strict=True)]
        about = {key: value for key, value in answers[-1].items() if key not in ("runs", "simulations_per_s", "tried")}
        result["peers"][name] = {**about, "runs": runs, "az_over_peer": ratios, **summary(ratios)}
    return result


def main() -> None:
    """Measure, then a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mctx", metavar="PYTHON", help="interpreter with requirements-mctx.txt")
    parser.add_argument("--openspiel", metavar="PYTHON", help="interpreter with requirements-openspiel.txt")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--mctx-games", default="16,64,256", help="games in flight that mctx may choose from")
    parser.add_argument("--inference", default="own,compiled", help="of OpenSpiel; see openspiel_actor.py")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args()
    if not (arguments.mctx or arguments.openspiel):
        parser.error("name the interpreter of at least one peer: --mctx PYTHON or --openspiel PYTHON.")
    result = measure(arguments)
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"az: {statistics.median(result['az']['runs']):,.0f} simulations/s (median of {arguments.repeats})")
    for name, found in result["peers"].items():
        rate = statistics.median(found["runs"])
        print(f"{name}: {rate:,.0f} simulations/s; az ÷ peer: {found['median']}", end=" ")
        print(f"({found['lowest']} to {found['highest']})")


if __name__ == "__main__":
    main()
