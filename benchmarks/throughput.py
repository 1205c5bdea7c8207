"""How simulations a second grow with games in flight, simulations a move and cores.

A machine that others use too changes its speed by the minute, so every rate is divided by that of onnxruntime alone on
all cores, taken just before it. `python benchmarks/throughput.py checkers > throughput.json`, then, where matplotlib is
installed, `python benchmarks/plot_throughput.py throughput.json docs/throughput.svg`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from az.commands.bench import bench_models
from az.engine.bench.meters import Bench, BenchPool
from az.engine.game import load_game
from az.engine.selfplay.warmup import warm_up

GAMES_IN_FLIGHT = (1, 4, 16, 64, 128, 256)
SIMULATIONS = (25, 50, 100, 200, 400, 800)


def measured(bench: Bench, cores: int, alone: BenchPool, repeats: int, seconds: float) -> dict[str, float]:
    """Median rates, and each as a share of what onnxruntime alone evaluates on all cores a moment before it."""
    whole = f"raw_{bench.precision}"
    phases = {"raw": whole, "nocache": "search_nocache", "cache": "search"}
    pool = BenchPool(bench, cores)
    rates: dict[str, list[float]] = {kind: [] for kind in phases}
    shares: dict[str, list[float]] = {kind: [] for kind in phases}
    try:
        for phase in phases.values():
            pool.measure(phase, 2.0)
        for _ in range(repeats):
            for kind, phase in phases.items():
                beside = alone.measure(whole, seconds)["per_s"]
                rates[kind].append(pool.measure(phase, seconds)["per_s"])
                shares[kind].append(rates[kind][-1] / beside)
    finally:
        pool.close()
    return {
        **{kind: statistics.median(values) for kind, values in rates.items()},
        **{f"{kind}_share": statistics.median(values) for kind, values in shares.items()},
    }


def main() -> None:
    """One axis at a time, the others at their usual values."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("game")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0)
    arguments = parser.parse_args()
    game = load_game(arguments.game)
    warm_up(game)
    models, precision, why = bench_models(game, None, print)
    cores = os.cpu_count() or 1
    usual = Bench(game.name, models, precision, 0)
    jobs = itertools.chain(
        (("games in flight", n, replace(usual, slots=n), cores) for n in GAMES_IN_FLIGHT),
        (("simulations a move", n, replace(usual, simulations=n), cores) for n in SIMULATIONS),
        (("cores", n, usual, n) for n in range(1, cores + 1)),
    )
    with closing(BenchPool(usual, cores)) as alone:
        alone.measure(f"raw_{precision}", 2.0)
        points = [
            {"axis": axis, "at": at, **measured(bench, processes, alone, arguments.repeats, arguments.seconds)}
            for axis, at, bench, processes in jobs
        ]
    print(json.dumps({"game": game.name, "model": Path(models[precision]).name, "precision": why, "points": points}))


if __name__ == "__main__":
    main()
