"""How simulations a second grow with games in flight, simulations a move and cores.

`python benchmarks/throughput.py checkers > throughput.json`, then, where matplotlib is installed,
`python benchmarks/plot_throughput.py throughput.json docs/throughput.svg`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
from dataclasses import replace
from pathlib import Path

from az.engine.bench import Bench, BenchPool
from az.engine.game import load_game
from az.engine.warm import warm_up
from az.export.bench_command import bench_models

GAMES_IN_FLIGHT = (1, 4, 16, 64, 128, 256)
SIMULATIONS = (25, 50, 100, 200, 400, 800)


def measured(bench: Bench, cores: int, repeats: int, seconds: float) -> dict[str, float]:
    """Median simulations a second with and without the cache, and raw evaluations beside them."""
    pool = BenchPool(bench, cores)
    phases = (f"raw_{bench.precision}", "search_nocache", "search")
    try:
        for phase in phases:
            pool.measure(phase, 2.0)
        runs = [{phase: pool.measure(phase, seconds)["per_s"] for phase in phases} for _ in range(repeats)]
    finally:
        pool.close()
    return {
        "raw": statistics.median(run[phases[0]] for run in runs),
        "nocache": statistics.median(run["search_nocache"] for run in runs),
        "cache": statistics.median(run["search"] for run in runs),
        "nocache_over_raw": statistics.median(run["search_nocache"] / run[phases[0]] for run in runs),
    }


def main() -> None:
    """One axis at a time, the others at their usual values."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("game")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5)
    arguments = parser.parse_args()
    game = load_game(arguments.game)
    warm_up(game)
    models, precision, why = bench_models(game, None)
    cores = os.cpu_count() or 1
    usual = Bench(game.name, models, precision, 0)
    jobs = itertools.chain(
        (("games in flight", n, replace(usual, slots=n), cores) for n in GAMES_IN_FLIGHT),
        (("simulations a move", n, replace(usual, simulations=n), cores) for n in SIMULATIONS),
        (("cores", n, usual, n) for n in range(1, cores + 1)),
    )
    points = [
        {"axis": axis, "at": at, **measured(bench, processes, arguments.repeats, arguments.seconds)}
        for axis, at, bench, processes in jobs
    ]
    print(json.dumps({"game": game.name, "model": Path(models[precision]).name, "precision": why, "points": points}))


if __name__ == "__main__":
    main()
