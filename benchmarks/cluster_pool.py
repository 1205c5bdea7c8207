"""Simulations a second of a run's self-play on this machine: through a local Ray cluster, and by its own processes.

    python benchmarks/cluster_pool.py connect4 checkers --rounds 5 --seconds 60 --json > cluster_pool.json

Both are the pools of a run (`ClusterSelfplay`, `LocalSelfplay`), with the shipped model, preset quick's settings, one
precision, a player a core with a thread each. Rounds alternate, Ray first; each pool is started for its round, warms up
until it has played for `--warm-up` seconds, and is stopped after it, so that neither rests beside the other. Files are
taken as the run takes them and deleted; nothing is learned. What is counted is simulations begun.

The ratio is Ray's median over the local one, with a bootstrapped interval of 95 % over the rounds. On a busy machine
`per_cpu_s` says more: simulations for each second of CPU of the pool's processes, all of Ray's included.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from az.engine.game import Game, load_game
from az.engine.inference.model_resolver import SHIPPED
from az.engine.selfplay.autotune import plan_for
from az.engine.selfplay.warmup import warm_up
from az.engine.system.cores import usable_cores
from az.train.cluster.pool import ClusterSelfplay
from az.train.config import RunConfig
from az.train.presets import preset
from az.train.run.bundle import processor
from az.train.run.folder import RunFolder
from az.train.run.services import PoolStart, Selfplay
from az.train.run.worker_pool import LocalSelfplay, first_job

START_SECONDS = 300.0  # until a pool makes its first simulation
DRAWS = 10_000  # of the bootstrap


@dataclass(frozen=True)
class Round:
    """What one pool did in one round. cpu: seconds of CPU by the kind of process."""

    simulations: int
    seconds: float
    cpu: dict[str, float]

    def per_s(self) -> float:
        """Simulations a second."""
        return self.simulations / self.seconds

    def per_cpu_s(self) -> float:
        """Simulations for each second of CPU, of all processes of the pool."""
        return self.simulations / max(sum(self.cpu.values()), 1e-9)


def kind_of(process: psutil.Process) -> str:
    """What a process is for: a player or worker, the bridge, or one of Ray's own."""
    if process.pid == os.getpid():
        return "learner's process"
    line = " ".join(process.cmdline())
    for mark, kind in (("ray::NodePlayer", "player"), ("raylet/raylet", "raylet"), ("gcs_server", "gcs_server")):
        if mark in line:
            return kind
    if "spawn_main" in line:
        return "spawned"
    return f"ray's {Path(line.split()[-1] if '--' not in line else line.split(' --')[0].split()[-1]).name}"


def cpu_of_all() -> dict[int, tuple[str, float]]:
    """By process, this one and all that come of it: its kind and its seconds of CPU."""
    own = psutil.Process()
    found: dict[int, tuple[str, float]] = {}
    for process in [own, *own.children(recursive=True)]:
        try:
            times = process.cpu_times()
            found[process.pid] = kind_of(process), times.user + times.system
        except psutil.Error:
            continue
    return found


def spent(before: dict[int, tuple[str, float]], after: dict[int, tuple[str, float]]) -> dict[str, float]:
    """CPU by kind between the two."""
    total: dict[str, float] = defaultdict(float)
    for pid, (kind, seconds) in after.items():
        total[kind] += seconds - before.get(pid, (kind, 0.0))[1]
    return {kind: round(seconds, 2) for kind, seconds in sorted(total.items(), key=lambda item: -item[1])}


def start_of(folder: Path, game: Game, config: RunConfig) -> PoolStart:
    """A run's folder with the shipped model in it, and what its pool is told."""
    place = RunFolder(folder)
    place.records.mkdir(parents=True)
    place.models.mkdir()
    for path in SHIPPED.glob(f"{game.name}.*"):
        shutil.copy(path, place.models / path.name.replace(game.name, "000000", 1))
    plan = plan_for(place.models / "000000.onnx", game, config.selfplay, config.workers, "cpu")
    job = first_job(folder, config, plan, 1, 0)

    def say(text: str) -> None:
        print(f"  {text}", file=sys.stderr, flush=True)

    return PoolStart(place, game, config, plan, job, say, lambda *_: None, lambda: False, lambda _: None)


def play(selfplay: Selfplay, start: PoolStart, warming: float, seconds: float) -> Round:
    """Start a pool, let it warm up, count, stop it. Raises TimeoutError where it makes no simulation."""
    pool: Any = selfplay.pool(start)

    def taken(name: str, _: dict[str, Any]) -> bool:
        (start.folder.records / name).unlink()
        return True

    def until(reached: Callable[[], bool], patience: float) -> None:
        end = time.monotonic() + patience
        while not reached():
            if time.monotonic() > end:
                raise TimeoutError("the pool made no simulation")
            pool.listen(0.05, taken, lambda _: None)

    def next_count() -> tuple[float, int]:
        """The moment at which the count next rises: what a cluster says of itself comes once a second."""
        before = pool.simulations
        until(lambda: pool.simulations > before, START_SECONDS)
        return time.monotonic(), pool.simulations

    try:
        begun, _ = next_count()
        until(lambda: time.monotonic() - begun >= warming, warming + 60)
        (began, first), before = next_count(), cpu_of_all()
        until(lambda: time.monotonic() - began >= seconds, seconds + 60)
        (ended, last), after = next_count(), cpu_of_all()
    finally:
        pool.stop()
        selfplay.close()
    return Round(last - first, ended - began, spent(before, after))


def ratio(ray: list[float], local: list[float]) -> dict[str, float]:
    """The medians' ratio, and where it lies in 95 % of samples of the rounds, drawn with replacement."""
    rng = np.random.default_rng(0)
    drawn = [np.median(rng.choice(values, (DRAWS, len(values))), axis=1) for values in (np.array(ray), np.array(local))]
    low, high = np.quantile(drawn[0] / drawn[1], [0.025, 0.975])
    found = statistics.median(ray) / statistics.median(local)
    return {"ratio": round(found, 3), "low": round(float(low), 3), "high": round(float(high), 3)}


def measure(name: str, chosen: argparse.Namespace) -> dict[str, Any]:
    """Rounds of one game."""
    game = load_game(name)
    warm_up(game)
    config = replace(preset(name, "quick"), workers=chosen.workers or usable_cores(), seed=1)
    config = replace(config, selfplay=replace(config.selfplay, precision=chosen.precision))
    rounds: dict[str, list[Round]] = {"ray": [], "local": []}
    line = ""
    for number in range(chosen.rounds):
        for kind, found in rounds.items():
            with tempfile.TemporaryDirectory() as place:
                start = start_of(Path(place) / "run", game, config)
                line = start.plan.line
                selfplay: Selfplay = ClusterSelfplay("local") if kind == "ray" else LocalSelfplay()
                found.append(play(selfplay, start, chosen.warm_up, chosen.seconds))
            one, load = found[-1], os.getloadavg()[0]
            print(
                f"{name} {kind} {number + 1}: {one.per_s():,.0f} simulations a second, {one.per_cpu_s():,.0f} for a"
                f" second of CPU, load {load:.1f}; CPU {one.cpu}",
                file=sys.stderr,
                flush=True,
            )
    rates = {kind: [one.per_s() for one in found] for kind, found in rounds.items()}
    costs = {kind: [one.per_cpu_s() for one in found] for kind, found in rounds.items()}
    return {
        "game": name, "players": config.workers, "precision": line, "simulations_a_move": config.selfplay.simulations,
        "per_s": {kind: [round(rate) for rate in found] for kind, found in rates.items()},
        "per_cpu_s": {kind: [round(rate) for rate in found] for kind, found in costs.items()},
        "cpu": {kind: [one.cpu for one in found] for kind, found in rounds.items()},
        "by_time": ratio(rates["ray"], rates["local"]), "by_cpu": ratio(costs["ray"], costs["local"]),
    }  # fmt: skip


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("games", nargs="*", default=["connect4", "checkers"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--warm-up", type=float, default=20.0)
    parser.add_argument("--workers", type=int, default=0, help="players, 0: one a core")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--json", action="store_true", help="print all rounds as JSON")
    chosen = parser.parse_args()
    found = [measure(name, chosen) for name in chosen.games]
    about = {"processor": processor(), "cores": usable_cores(), "python": platform.python_version()}
    about |= {"date": time.strftime("%Y-%m-%d"), "load": round(os.getloadavg()[0], 2)}
    if chosen.json:
        print(json.dumps({**about, "rounds": chosen.rounds, "seconds": chosen.seconds, "games": found}, indent=1))
        return
    print(f"{about['cores']} cores of {about['processor']}, {about['date']}, load {about['load']}")
    for one in found:
        for kind, text in (("by_time", "a second"), ("by_cpu", "for a second of CPU")):
            found_one = "{ratio} ({low} – {high})".format(**one[kind])
            print(f"{one['game']}, simulations {text}, Ray ÷ local: {found_one}")


if __name__ == "__main__":
    main()
