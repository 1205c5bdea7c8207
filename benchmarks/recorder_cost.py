"""What the flight recorder costs while all is well, and how long a diagnosis takes.

    python benchmarks/recorder_cost.py --rounds 12 --steps 2 --precision bf16 fp32

Preset `seed` of a game, two threads. Three ways to take the same step: `off` is `Learner.step` alone, `recorder` is
`FlightRecorder.run` around it, `run` is `GuardedLearner.step`, all that a run does around a step (the check of the
batch, the recorder, the bound on the update). They alternate in blocks of a few steps, there and back again, so that a
noisy machine is as noisy to each; a ratio is taken within a round, its interval by bootstrap over the rounds. `own
time` is a step's time less that of `Learner.step` inside it: what the recorder itself spends, without the step's
noise, but also without what its traffic through the caches costs the step; that is in the ratio.

Diagnoses: from detection to the end of the diagnosis, of a row of NaN and of a careless logarithm of 0.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from az.engine.game import Game, load_game
from az.train import batch_check, learner
from az.train.bench import fixed_batch
from az.train.config import HealthConfig
from az.train.health import FlightRecorder
from az.train.health import session as session
from az.train.health.state import background as hand
from az.train.health.state import finite_check as sweep
from az.train.health.state import flat_tensors as layout
from az.train.health.state import snapshot as state
from az.train.learner import Learner, StepMetrics
from az.train.model import Network
from az.train.presets import preset
from az.train.replay import Batch
from az.train.run import guarded_step as guarded

WAYS = ("off", "recorder", "run")
WARM = {"off": 2, "recorder": 10, "run": 10}  # steps: more than the recorder keeps, so that no memory is new
ROW = 5  # the row that is spoiled
# Where the recorder's time goes; the indented are parts of what stands above them.
PARTS = {
    "check_batch": (guarded, "check_batch"),
    "take": (state.Snapshotter, "take"),
    "  take: batch": (state, "batch_copy"),
    "  take: random states": (state, "generators"),
    "  take: optimizer": (state, "keep_optimizer"),
    "look": (session.Session, "look"),
    "  look: addresses": (sweep.FiniteCheck, "reading"),
    "  look: batch compared": (session, "same_bits"),
    "  take and look: lists of tensors": (state.Snapshotter, "found"),
    "  take: copies made ready": (layout.Layout, "plain_copy"),
    "  take and look: second thread woken": (hand.Mailbox, "begin"),
    "  take and look: second thread waited for": (hand.Mailbox, "end"),
}


class Rig:
    """One learner, and the three ways to take its step."""

    def __init__(self, game: Game, precision: str, folder: Path) -> None:
        plain = preset(game.name, "seed")
        config = replace(
            plain, learner=replace(plain.learner, precision=precision), health=HealthConfig(preflight="off")
        )
        torch.manual_seed(0)
        network = Network(game.planes_shape, game.num_actions, config.net)
        self.learner, random = Learner(network, config.learner), np.random.default_rng(0)
        self.recorder = FlightRecorder(self.learner.model, self.learner.optimizer, extra_state=[random])
        ingest: Any = None  # only asked for rows after a fault
        self.guarded = guarded.GuardedLearner(self.learner, game, config, folder, ingest, random, print)
        first = fixed_batch(game, config.learner.batch)
        self.batches = [first, *(_shuffled(first, seed) for seed in range(1, 4))]  # a run never sees one twice running
        self.inner, self._step, self._count = 0.0, self.learner.step, 0
        self.learner.step = self._timed

    def _timed(self, batch: Batch, progress: float = 0.0) -> StepMetrics:
        begun = time.perf_counter()
        try:
            return self._step(batch, progress)
        finally:
            self.inner = time.perf_counter() - begun

    def fly(self, batch: Batch) -> Any:
        """One step under the recorder, as the guarded has it."""
        number = self.learner.steps

        def step(rows: Batch) -> StepMetrics:
            self.learner.steps = number
            return self.learner.step(rows, 0.0)

        self.recorder.step = number
        return self.recorder.run(step, batch)

    def take(self, way: str) -> tuple[float, float]:
        """One step: (all of its seconds, those that are not the learner's)."""
        self._count += 1
        batch = self.batches[self._count % len(self.batches)]
        begun = time.perf_counter()
        if way == "off":
            found = self.learner.step(batch, 0.0)
        else:
            found = self.fly(batch) if way == "recorder" else self.guarded.step(batch, 0.0)
        spent = time.perf_counter() - begun
        if (found is None) != (way == "recorder"):
            raise SystemExit(f"a fault where there should be none: {found}")
        return spent, spent - self.inner


def _shuffled(batch: Batch, seed: int) -> Batch:
    order = np.random.default_rng(seed).permutation(len(batch.value))
    return Batch(**{name: getattr(batch, name)[order] for name in Batch.__dataclass_fields__})


# -- cost -------------------------------------------------------------------------------------------------------------


def measured(rig: Rig, rounds: int, steps: int) -> dict[str, list[list[tuple[float, float]]]]:
    """way → rounds → steps; in each round every way has two blocks, the second time in the opposite order."""
    result: dict[str, list[list[tuple[float, float]]]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way in WAYS:
            result[way].append([])
        for way in (*WAYS, *reversed(WAYS)):
            result[way][-1] += [rig.take(way) for _ in range(steps)]
    return result


def interval(values: list[float], draws: int = 4000) -> list[float]:
    """[median, low, high]: 95 % by bootstrap."""
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(values, (draws, len(values))), axis=1)
    return [statistics.median(values), *map(float, np.quantile(medians, [0.025, 0.975]))]


def cost(taken: dict[str, list[list[tuple[float, float]]]]) -> dict[str, Any]:
    """Milliseconds of a step, ratios to `off`, own time; each as [median, low, high] over the rounds."""
    middle = {way: [statistics.median(spent for spent, _ in one) for one in taken[way]] for way in WAYS}
    result: dict[str, Any] = {}
    for way in WAYS:
        own = [statistics.median(own for _, own in one) for one in taken[way]]
        share = [a / b for a, b in zip(own, middle["off"], strict=True)]
        result[way] = {
            "step_ms": interval([1e3 * x for x in middle[way]]),
            "ratio": interval([a / b for a, b in zip(middle[way], middle["off"], strict=True)]),
            "own_ms": interval([1e3 * x for x in own]),
            "own_share": interval(share),
            "steps": sum(map(len, taken[way])),
        }
    return result


def parts(rig: Rig, steps: int) -> dict[str, float]:
    """Milliseconds a step of every part, median over steps of a run; the timers themselves cost a little."""
    spent: dict[str, float] = {}
    seen: dict[str, list[float]] = {name: [] for name in ("run, less the step", *PARTS)}

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            begun = time.perf_counter()
            result = function(*arguments, **named)
            spent[name] = spent.get(name, 0.0) + time.perf_counter() - begun
            return result

        return call

    with ExitStack() as stack:
        for name, (owner, attribute) in PARTS.items():
            stack.enter_context(patch.object(owner, attribute, timed(name, getattr(owner, attribute))))
        for _ in range(steps):
            spent.clear()
            spent["run, less the step"] = rig.take("run")[1]
            for name in seen:
                seen[name].append(1e3 * spent.get(name, 0.0))
    return {name: statistics.median(values) for name, values in seen.items()}


# -- diagnoses --------------------------------------------------------------------------------------------------------


def careless(
    logits: Tensor, value: Tensor, policy: Tensor, mask: Tensor, target: Tensor, masked: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The losses as people write them first: the logarithm of a softmax, which is 0 where one logit is far ahead."""
    del masked
    far = torch.zeros_like(logits)
    far[ROW, int(mask[ROW].nonzero()[0])] = 1e3
    log_probs = torch.log(torch.softmax(logits + far, 1))
    return -(policy * log_probs).sum(1).mean(), (value - target).square().mean(), log_probs


def diagnoses(rig: Rig, repeats: int) -> dict[str, Any]:
    """Seconds from detection to diagnosis, [median, least, greatest], and what was found."""
    good = rig.batches[0]
    planes = good.planes.copy()
    planes[ROW] = math.nan
    faults = {"a row of NaN": (replace(good, planes=planes), None), "log of 0": (good, careless)}
    result = {}
    for name, (batch, losses) in faults.items():
        seconds, told = [], None
        with patch.object(learner, "data_losses", losses or learner.data_losses):
            for _ in range(repeats):
                number = rig.learner.steps
                told = rig.fly(batch)
                rig.learner.steps = number
                if told is None:
                    raise SystemExit(f"{name}: nothing was found")
                seconds.append(told.seconds)
        assert told is not None
        about = {"cause": told.cause, "op": told.op, "rows": told.rows, "counterfactual": told.counterfactual}
        result[name] = {"seconds": [statistics.median(seconds), min(seconds), max(seconds)], **about}
    begun = time.perf_counter()
    found = batch_check.check_batch(faults["a row of NaN"][0])
    result["a row of NaN"]["batch_check_ms"] = 1e3 * (time.perf_counter() - begun)
    assert [row for row, _, _ in found] == [ROW]
    return result


# -- as a table -------------------------------------------------------------------------------------------------------


def table(precision: str, about: dict[str, Any]) -> str:
    """For people."""

    def spread(values: list[float], digits: int) -> str:
        middle, low, high = (f"{v:.{digits}f}" for v in values)
        return f"{middle} ({low} – {high})"

    lines = [f"\n| {precision} | ms a step | ÷ off | own ms | own ÷ off | steps |", "|---|---|---|---|---|---|"]
    for way in WAYS:
        one = about["cost"][way]
        cells = [spread(one["step_ms"], 1), spread(one["ratio"], 3)]
        cells += [spread(one["own_ms"], 2), spread(one["own_share"], 4)] if way != "off" else ["", ""]
        lines.append(f"| {way} | {' | '.join(cells)} | {one['steps']} |")
    lines += [f"{name}: {ms:.2f} ms" for name, ms in about.get("parts", {}).items()]
    return "\n".join(lines)


def told_of(about: dict[str, Any]) -> str:
    """The diagnoses, for people."""
    lines = []
    for name, one in about.items():
        middle, low, high = one["seconds"]
        where = f"{one['cause']}, {one['op']}, rows {one['rows']}"
        lines.append(f"{name}: diagnosis after {middle:.1f} s ({low:.1f} – {high:.1f}): {where}")
        if "batch_check_ms" in one:
            lines.append(f"  a run's check of the batch finds it before the step, in {one['batch_check_ms']:.2f} ms")
    return "\n".join(lines)


def main() -> None:
    """Every precision in turn; with --json one object instead of tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--game", default="checkers")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=2, help="steps of a block")
    parser.add_argument("--precision", nargs="+", choices=("fp32", "bf16"), default=["bf16", "fp32"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--diagnoses", type=int, default=3, help="how often each fault is injected; 0: never")
    parser.add_argument("--parts", type=int, default=0, help="steps with timers inside the recorder")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.set_flush_denormal(True)  # as a run does
    game, told = load_game(asked.game), {}
    with tempfile.TemporaryDirectory() as folder:
        for precision in asked.precision:
            rig = Rig(game, precision, Path(folder))
            for way in WAYS:
                for _ in range(WARM[way]):
                    rig.take(way)
            print(f"{precision}: warm", file=sys.stderr, flush=True)
            one = told[precision] = {"cost": cost(measured(rig, asked.rounds, asked.steps))}
            if asked.parts:
                one["parts"] = parts(rig, asked.parts)
            if not asked.json:
                print(table(precision, one), flush=True)
            if asked.diagnoses:
                one["verdicts"] = diagnoses(rig, asked.diagnoses)
                if not asked.json:
                    print(told_of(one["verdicts"]), flush=True)
    if asked.json:
        print(json.dumps({"game": game.name, "threads": asked.threads, "torch": torch.__version__, **told}))


if __name__ == "__main__":
    main()
