"""Simulations a second of a run's self-play on this machine: through a local Ray cluster, and by its own processes.

    python benchmarks/cluster_pool.py connect4 checkers --turns 60 --seconds 5 --json > cluster_pool.json

Both are the pools of a run (`ClusterSelfplay`, `LocalSelfplay`), with the shipped model, preset quick's settings, one
precision, a player a core with a thread each. Both are started and warm up; then they play in turns of `--seconds`,
local, Ray, Ray, local, while every process of the other is stopped (SIGSTOP, Ray's own processes too): so both meet the
same machine, whose speed changes by a tenth within a minute. Files are taken as the run takes them and deleted; nothing
is learned. What is counted is simulations begun.

The ratio is that of the sums, with a bootstrapped interval of 95 % over pairs of turns. On a busy machine "for a second
of CPU" says more: the CPU of all processes of the pool, Ray's own included.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections import defaultdict
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
class Turn:
    """What one pool did in one turn. cpu: seconds of CPU by the kind of process."""

    simulations: int
    seconds: float
    cpu: dict[str, float]


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


class Rival:
    """A pool that plays only in its turns. foreign: the processes of a pool that was started before."""

    def __init__(self, selfplay: Selfplay, start: PoolStart, foreign: Rival | None = None) -> None:
        self._selfplay, self._records = selfplay, start.folder.records
        self._pool: Any = selfplay.pool(start)
        self._foreign: list[psutil.Process] = foreign.own() if foreign else []
        self._first: list[psutil.Process] | None = None
        self._stopped: list[psutil.Process] = []

    def begin(self) -> None:
        """Wait until it plays, and let it rest. Raises TimeoutError when it does not."""
        end = time.monotonic() + START_SECONDS
        while self._pool.simulations == 0:
            if time.monotonic() > end:
                raise TimeoutError("the pool made no simulation")
            self._listen()
        if not self._foreign:
            self._first = self.own()  # the local pool starts no further ones, Ray does
        self.rest()

    def own(self) -> list[psutil.Process]:
        """The pool's processes."""
        found = psutil.Process().children(recursive=True) if self._first is None else self._first
        return [process for process in found if process not in self._foreign]

    def _listen(self) -> None:
        self._pool.listen(0.05, self._taken, lambda _: None)

    def _taken(self, name: str, _: dict[str, Any]) -> bool:
        (self._records / name).unlink()
        return True

    def rest(self) -> None:
        """Stop every process of the pool."""
        for process in self.own():
            try:
                process.suspend()
                self._stopped.append(process)
            except psutil.Error:
                continue

    def go_on(self) -> None:
        """Let them go on."""
        for process in self._stopped:
            try:
                process.resume()
            except psutil.Error:
                continue
        self._stopped = []

    def play(self, seconds: float) -> Turn:
        """Play for so long, and rest. The other pool rests."""
        before, first, began = cpu_of_all(), self._pool.simulations, time.monotonic()
        self.go_on()
        while time.monotonic() - began < seconds:
            self._listen()
        self.rest()
        return Turn(self._pool.simulations - first, time.monotonic() - began, spent(before, cpu_of_all()))

    def close(self) -> None:
        """Stop the pool."""
        self.go_on()
        self._pool.stop()
        self._selfplay.close()


def ratio(ray: list[float], ray_by: list[float], local: list[float], local_by: list[float]) -> dict[str, float]:
    """Ray's sum of simulations by its sum of seconds ÷ the same of local: and where it lies in 95 % of samples of the
    pairs of turns, drawn with replacement.
    """
    table = np.array([ray, ray_by, local, local_by])
    rng = np.random.default_rng(0)

    def of(sums: np.ndarray) -> np.ndarray:
        return sums[0] / sums[1] / (sums[2] / sums[3])

    drawn = of(table[:, rng.integers(0, table.shape[1], (DRAWS, table.shape[1]))].sum(axis=2))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"ratio": round(float(of(table.sum(axis=1))), 3), "low": round(float(low), 3), "high": round(float(high), 3)}


def in_turns(rivals: dict[str, Rival], chosen: argparse.Namespace) -> dict[str, list[Turn]]:
    """Let them warm up, one after the other, then play their turns."""
    found: dict[str, list[Turn]] = {kind: [] for kind in rivals}
    for rival in rivals.values():
        rival.play(chosen.warm_up)
    order = list(rivals)
    for number in range(chosen.turns):
        for kind in order if number % 2 == 0 else reversed(order):
            found[kind].append(rivals[kind].play(chosen.seconds))
        if (number + 1) % 10 == 0:
            rates = {kind: sum(t.simulations for t in ts) / sum(t.seconds for t in ts) for kind, ts in found.items()}
            text = ", ".join(f"{kind} {rate:,.0f} a second" for kind, rate in rates.items())
            print(f"{number + 1} turns: {text}, load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
    return found


def measure(name: str, chosen: argparse.Namespace) -> dict[str, Any]:
    """The turns of one game."""
    game = load_game(name)
    warm_up(game)
    config = replace(preset(name, "quick"), workers=chosen.workers or usable_cores(), seed=1)
    config = replace(config, selfplay=replace(config.selfplay, precision=chosen.precision))
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as open_pools:
        rivals: dict[str, Rival] = {}
        line = ""
        for kind, selfplay in (("local", LocalSelfplay()), ("ray", ClusterSelfplay("local"))):
            start = start_of(Path(place) / kind, game, config)
            line = start.plan.line
            rivals[kind] = Rival(selfplay, start, rivals.get("local"))
            open_pools.callback(rivals[kind].close)  # also of one that fails to begin
            rivals[kind].begin()
        turns = in_turns(rivals, chosen)
    made = {kind: [float(turn.simulations) for turn in found] for kind, found in turns.items()}
    took = {kind: [turn.seconds for turn in found] for kind, found in turns.items()}
    cpu = {kind: [sum(turn.cpu.values()) for turn in found] for kind, found in turns.items()}
    by_kind = {kind: total_of([turn.cpu for turn in found]) for kind, found in turns.items()}
    return {
        "game": name, "players": config.workers, "precision": line, "simulations_a_move": config.selfplay.simulations,
        "per_s": {kind: round(sum(made[kind]) / sum(took[kind])) for kind in turns},
        "per_cpu_s": {kind: round(sum(made[kind]) / sum(cpu[kind])) for kind in turns},
        "cpu": by_kind,
        "by_time": ratio(made["ray"], took["ray"], made["local"], took["local"]),
        "by_cpu": ratio(made["ray"], cpu["ray"], made["local"], cpu["local"]),
    }  # fmt: skip


def total_of(parts: list[dict[str, float]]) -> dict[str, float]:
    """Their sum, key by key, the largest first."""
    total: dict[str, float] = defaultdict(float)
    for part in parts:
        for kind, seconds in part.items():
            total[kind] += seconds
    return {kind: round(seconds, 2) for kind, seconds in sorted(total.items(), key=lambda item: -item[1])}


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("games", nargs="*", default=["connect4", "checkers"])
    parser.add_argument("--turns", type=int, default=60, help="turns of each pool")
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds of a turn")
    parser.add_argument("--warm-up", type=float, default=20.0)
    parser.add_argument("--workers", type=int, default=0, help="players, 0: one a core")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")
    chosen = parser.parse_args()
    found = [measure(name, chosen) for name in chosen.games]
    about = {"processor": processor(), "cores": usable_cores(), "python": platform.python_version()}
    about |= {"date": time.strftime("%Y-%m-%d"), "load": round(os.getloadavg()[0], 2)}
    if chosen.json:
        print(json.dumps({**about, "turns": chosen.turns, "seconds": chosen.seconds, "games": found}, indent=1))
        return
    print(f"{about['cores']} cores of {about['processor']}, {about['date']}, load {about['load']}")
    for one in found:
        for kind, text in (("by_time", "a second"), ("by_cpu", "for a second of CPU")):
            found_one = "{ratio} ({low} – {high})".format(**one[kind])
            print(f"{one['game']}, simulations {text}, Ray ÷ local: {found_one}")


if __name__ == "__main__":
    main()
