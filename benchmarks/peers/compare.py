"""az and its peers at self-play of connect four, alternating in one run: how many times as many simulations a second.

    python benchmarks/peers/compare.py --mctx PYTHON --openspiel PYTHON [--repeats 5] [--json]

PYTHON is the interpreter of an environment made as README.md beside this file says; this program itself is run by az's.
Each repetition measures az and then each peer for a few seconds, alone on the machine's cores, and divides: what else
the machine does then slows both sides of a ratio about alike.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from az.commands.bench import bench_models
from az.engine.bench.meters import Bench, BenchPool
from az.engine.game import load_game
from az.engine.selfplay.warmup import warm_up

HERE = Path(__file__).resolve().parent
PHASES = ("search", "search_nocache")


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
    game = load_game("connect4")
    warm_up(game)
    models, precision, why = bench_models(game, None, print)
    az_runs: list[dict[str, float]] = []
    pool = BenchPool(Bench("connect4", models, precision, 0), os.cpu_count() or 1)
    for phase in PHASES:
        pool.measure(phase, 3.0)  # to the middle of play
    peers: dict[str, list[dict[str, Any]]] = {}
    mctx_games = arguments.mctx_games
    with tempfile.TemporaryDirectory() as cache:
        for repeat in range(arguments.repeats):
            az_runs.append({phase: pool.measure(phase, arguments.seconds)["per_s"] for phase in PHASES})
            line = f"{repeat + 1}: az {az_runs[-1]['search']:,.0f}"
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
    pool.close()
    result: dict[str, Any] = {
        "unit": "simulations a second, connect four, 100 simulations a move, both sides on the same CPU",
        "cores": os.cpu_count(),
        "seconds": arguments.seconds,
        "az": {"precision": why, "runs": [run["search"] for run in az_runs]},
        "peers": {},
    }
    for name, answers in peers.items():
        runs = [answer["simulations_per_s"] for answer in answers]
        pairs = list(zip(az_runs, runs, strict=True))
        ratios = [round(run["search"] / other, 2) for run, other in pairs]
        nocache = [round(run["search_nocache"] / other, 2) for run, other in pairs]
        about = {key: value for key, value in answers[-1].items() if key not in ("runs", "simulations_per_s", "tried")}
        result["peers"][name] = {**about, "runs": runs, "az_over_peer": ratios, **summary(ratios)}
        result["peers"][name]["az_without_cache_over_peer"] = summary(nocache)
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
        without = found["az_without_cache_over_peer"]["median"]
        print(f"({found['lowest']} to {found['highest']}); with az's cache off: {without}")


if __name__ == "__main__":
    main()
