"""Faults of the drill that need no plain run: loops around the recorder, preflight, export; and the controls."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from az.commands.drill.runs import GAME, Drill, FaultResult, RunResult, config_of, train_with
from az.engine.game import load_game
from az.export.finite import Violation
from az.export.onnx_file import model_of
from az.train import learner as learners
from az.train.architecture import BLOCKS
from az.train.health import FlightRecorder, Incident
from az.train.health.early_warnings import EarlyWarnings
from az.train.health.metrics import HealthMetrics
from az.train.health.state.finite_check import vector_norm
from az.train.learner import Learner
from az.train.model import Network
from az.train.replay import Batch

ROWS = 16


class Small(nn.Module):
    """Rows of 6 numbers -> 3 logits, with a batch norm on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm, self.two = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(torch.relu(self.norm(self.one(x))))


class Loop:
    """The loop that anyone would write."""

    def __init__(self, seed: int, skip: bool = False) -> None:
        self.made = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType]
            torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType]
            self.model = Small()
        self.optimizer: torch.optim.Optimizer = torch.optim.Adam(self.model.parameters(), 1e-3)
        self.recorder = FlightRecorder(self.model, self.optimizer)
        self.skip = skip

    def batch(self, rows: int = ROWS) -> tuple[Tensor, Tensor]:
        """Rows and their classes."""
        return torch.randn(rows, 6, generator=self.made), torch.randint(0, 3, (rows,), generator=self.made)

    def step(self, batch: tuple[Tensor, Tensor]) -> Tensor | None:
        """Forward, loss, backward, optimizer; with `skip`, a non-finite loss is skipped."""
        self.optimizer.zero_grad()
        loss = functional.cross_entropy(self.model(batch[0]), batch[1])
        if self.skip and not torch.isfinite(loss):
            return None
        loss.backward()  # pyright: ignore[reportUnknownMemberType]
        self.optimizer.step()
        return loss

    def bits(self) -> list[Tensor]:
        """Copies of all that the step may change."""
        state = [v for s in self.optimizer.state.values() for v in s.values() if isinstance(v, Tensor)]
        return [t.detach().clone() for t in (*self.model.state_dict().values(), *state)]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    """Equal to the bit."""
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def in_loop(
    id_: str, seed: int, loop: Loop, control: Loop, spoil: Callable[[Any], Any], judge: Callable[[Incident], bool]
) -> FaultResult:
    """A loop that meets one spoilt batch among twenty, and its control run without it."""
    strike = random.Random(f"{id_} {seed}").randrange(3, 17)
    incident, unharmed = None, False
    for number in range(20):
        batch, same_batch = loop.batch(), control.batch()
        if number == strike:
            before = loop.bits()
            incident = loop.recorder.run(loop.step, spoil(batch))
            unharmed = same(before, loop.bits())
            continue
        loop.recorder.run(loop.step, batch)
        control.recorder.run(control.step, same_batch)
    if incident is None:
        return FaultResult(id_, seed, False, False, False, same(loop.bits(), control.bits()), None)
    right = incident.first_bad_step == strike and incident.replay == "bit-exact" and judge(incident)
    return FaultResult(
        id_, seed, True, unharmed, right, same(loop.bits(), control.bits()), incident.seconds,
        f"{incident.stage}: {incident.cause}", f"{incident.op} {incident.module}", ",".join(map(str, incident.rows)),
    )  # fmt: skip


def one_value(seed: int) -> FaultResult:
    """D15: a last batch of one row on a map of one cell, past torch's own guard."""

    def norm(self: nn.BatchNorm1d, x: Tensor) -> Tensor:
        return torch.batch_norm(
            x, self.weight, self.bias, self.running_mean, self.running_var, self.training, 0.1, self.eps, False
        )

    with patch.object(nn.BatchNorm1d, "forward", norm):
        return in_loop(
            "D15", seed, Loop(seed), Loop(seed), lambda batch: (batch[0][:1], batch[1][:1]),
            lambda i: (i.stage, i.cause, i.phase, i.module) == ("buffers", "variance-of-one-value", "buffers", "norm"),
        )  # fmt: skip


def skipped(seed: int) -> FaultResult:
    """D16: a loop that skips a non-finite loss, and keeps the averages that its forward polluted."""
    row = random.Random(f"D16 row {seed}").randrange(ROWS)

    def spoil(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        batch[0][row, 2] = float("nan")
        return batch

    return in_loop(
        "D16", seed, Loop(seed, skip=True), Loop(seed, skip=True), spoil,
        lambda i: (i.stage, i.cause, i.rows) == ("data", "batch-not-finite", [row]),
    )  # fmt: skip


def as_posted() -> Any:
    """A learner whose step leaves out L2 and the averages, as the founding case's did."""
    build = Learner.__init__

    def made(self: Any, *arguments: Any, **more: Any) -> None:
        build(self, *arguments, **more)
        self.kernels = [torch.zeros(1)]
        for module in self.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.0

    return patch.object(Learner, "__init__", made)


def omissions(drill: Drill, seed: int) -> FaultResult:
    """D14: no L2 in the loss and averages that stand still; then the same run all the same, for its alarm."""
    begun = time.perf_counter()
    with as_posted():
        stopped = train_with(RunResult(seed), config_of(seed, 24), drill.folder(), ExitStack())
        warned = train_with(
            RunResult(seed), config_of(seed, 120, ("health.preflight=warn",)), drill.folder(), ExitStack()
        )
    named = all(word in stopped.stopped for word in ("no-l2", "averages-not-updated"))
    alarm = any("averages_still" in text or "average_gap" in text for text in warned.warnings())
    finite = not warned.incidents
    return FaultResult(
        "D14", seed, named, stopped.steps == 0, named and alarm and finite, None, time.perf_counter() - begun,
        "before training: no-l2, averages-not-updated",
        "alarm: " + "; ".join(text.split(":")[0] for text in warned.warnings()),
    )  # fmt: skip


def drift(drill: Drill, seed: int) -> FaultResult:
    """D18: residual gain 1.5 a block without decay. A warning with its lead time is what is asked for."""

    def gained(ops: Any, x: Any, net: Any) -> Any:
        inner = ops.relu(ops.conv("conv1", "norm1", x, net.channels, 3))
        inner = ops.conv("conv2", "norm2", inner, net.channels, 3)
        return ops.relu(ops.add("sum", inner, ops.times("gained", x, 1.5)))

    settings = ("learner.l2=0", "net.blocks=18", "learner.precision=fp32")
    with patch.dict(BLOCKS, residual=gained):
        result = train_with(RunResult(seed), config_of(seed, 100, settings), drill.folder(), ExitStack())
    warned = [t for t in result.warnings() if "activation_share" in t or "weight_drift" in t]
    lead = next((t.rpartition("at step ")[2] for t in warned if "is reached at step" in t), "")
    return FaultResult(
        "D18", seed, bool(warned), not result.incidents, bool(warned), None, None,
        warned[0].split(":")[0] if warned else "",
        f"limit expected at step {lead}" if lead else "",
    )  # fmt: skip


def folded(seed: int) -> FaultResult:
    """D28: a dead channel whose variance is near 0: torch stays finite, the folded weights do not."""
    places = random.Random(f"D28 {seed}")
    game = load_game(GAME)
    torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType]
    network = Network(game.planes_shape, game.num_actions, config_of(seed, 1).net).eval()
    dead, out = places.randrange(8), places.randrange(8)
    layer = places.choice(["norm1"])
    with torch.no_grad():
        network.stem.norm.weight[dead] = network.stem.norm.bias[dead] = 0.0  # its output is 0 for ever
        block = network.blocks[0]
        block.conv1.weight[out] = 0.0
        block.conv1.weight[out, dead] = 1e22
        norm: Any = block.get_submodule(layer)
        norm.eps, norm.running_var[out], norm.running_mean[out] = 0.0, 1e-36, 0.0
        finite = all(bool(torch.isfinite(t).all()) for t in network(torch.zeros(2, *game.planes_shape)))
    begun = time.perf_counter()
    found = model_of(network)
    named = isinstance(found, Violation) and f"blocks.0.{layer}" in found.tensor
    return FaultResult(
        "D28", seed, isinstance(found, Violation), finite, named and finite, None, time.perf_counter() - begun,
        "export: folded weights not finite", str(getattr(found, "tensor", "")),
    )  # fmt: skip


# -- controls ------------------------------------------------------------------------------------------------------


def scaler_calibration() -> list[str]:
    """A gradient scaler that begins far too high and finds its scale."""
    loop = Loop(1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    recorder = FlightRecorder(loop.model, loop.optimizer, extra_state=[scaler])

    def step(batch: Any) -> Tensor:
        loop.optimizer.zero_grad()
        with torch.autocast("cpu", torch.float16):
            loss = functional.cross_entropy(loop.model(batch[0]), batch[1])
        scaler.scale(loss).backward()  # pyright: ignore[reportUnknownMemberType]
        scaler.step(loop.optimizer)
        scaler.update()
        return loss

    return said(recorder.run(step, loop.batch()) for _ in range(40))


def masked_logits() -> list[str]:
    """-inf under a mask that always leaves something."""
    loop = Loop(2)

    def step(batch: Any) -> Tensor:
        loop.optimizer.zero_grad()
        masked = loop.model(batch[0]).masked_fill(functional.one_hot((batch[1] + 1) % 3, 3).bool(), float("-inf"))
        loss = functional.cross_entropy(masked, batch[1])
        loss.backward()  # pyright: ignore[reportUnknownMemberType]
        loop.optimizer.step()
        return loss

    return said(loop.recorder.run(step, loop.batch()) for _ in range(100))


def missing_values() -> list[str]:
    """NaN that stands for "not measured" and is chosen away before it is used."""
    loop = Loop(3)
    places = random.Random(3)

    def step(batch: Any) -> Tensor | None:
        known = torch.where(torch.isnan(batch[0]), torch.zeros(()), batch[0])
        return loop.step((known, batch[1]))

    def batch() -> Any:
        made = loop.batch()
        made[0][places.randrange(ROWS), places.randrange(6)] = float("nan")
        return made

    return said(loop.recorder.run(step, batch()) for _ in range(100))


def honest_jump() -> list[str]:
    """The learning rate and the kind of rows change; the loss jumps, and that is right."""
    loop, warnings = Loop(4), EarlyWarnings()
    metrics = HealthMetrics(loop.model, loop.optimizer)
    warned: list[str] = []
    for number in range(600):
        if number == 300:
            for group in loop.optimizer.param_groups:
                group["lr"] *= 10
        x, y = loop.batch()
        batch = (x, (y + 1) % 3) if number > 300 else (x, y * 0)
        incident = loop.recorder.run(loop.step, batch)
        grads = [p.grad for p in loop.model.parameters() if p.grad is not None]
        norm = vector_norm(torch.stack([vector_norm(grad) for grad in grads]))
        values = metrics.look(number, float(norm)) if number % 20 == 0 else {}
        warned += said([incident]) + [str(warning) for warning in warnings.look(number, values)]
    return warned


def only_draws(drill: Drill) -> list[str]:
    """A run whose every game is a draw."""
    original = learners.to_tensors

    def tensors(batch: Batch, device: Any) -> Any:
        np.asarray(batch.value)[:] = 0.0
        return original(batch, device)

    with patch.object(learners, "to_tensors", tensors):
        result = train_with(RunResult(7), config_of(7, 60), drill.folder(), ExitStack())
    return heard(result)


def clean_steps(drill: Drill, steps: int, seed: int = 11) -> list[str]:
    """A run without any fault."""
    rare = ("steps_per_turn=200", "games_per_turn=300", "replay.publish_every_steps=200")
    result = train_with(RunResult(seed), config_of(seed, steps, rare), drill.folder(), ExitStack())
    return heard(result)


def heard(result: RunResult) -> list[str]:
    """All that a run without a fault said all the same."""
    found = [str(incident) for _, incident in result.incidents]
    return found + result.warnings() + [result.stopped] * bool(result.stopped)


def said(incidents: Iterable[Incident | None]) -> list[str]:
    """The incidents of a loop without a fault, as text."""
    return [str(incident) for incident in incidents if incident is not None]
