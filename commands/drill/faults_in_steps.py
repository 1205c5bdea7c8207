"""Faults of the drill that strike while the learner makes a step, or before its first one."""

from __future__ import annotations

import copy
import random
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from az.commands.drill.runs import STEPS, Fault, RunResult
from az.export.run_services import RunServices
from az.train import learner as learners
from az.train.health import Incident
from az.train.model import Network

Losses = tuple[Tensor, Tensor, Tensor]
FADE = 20  # steps before the gradients of D20 fade


@dataclass(frozen=True)
class Parts:
    """What a loss is made of, and what it should have been."""

    plain: Losses
    logits: Tensor
    policy: Tensor


@contextmanager
def other_losses(
    result: RunResult, places: random.Random, change: Callable[[Parts], Losses], low: int = 3, high: int = STEPS - 2
) -> Generator[None]:
    """The loss of one step is made by other code, until the fault has been named."""
    step, original = places.randrange(low, high), learners.data_losses
    result.truth["step"] = step

    def losses(logits: Tensor, value: Tensor, policy: Tensor, mask: Tensor, target: Tensor, masked: bool) -> Losses:
        plain = original(logits, value, policy, mask, target, masked)
        if result.steps == step and result.clean():
            return change(Parts(plain, logits, policy))
        return plain

    with patch.object(learners, "data_losses", losses):
        yield


def log_of_softmax(result: RunResult, places: random.Random) -> Any:
    def change(parts: Parts) -> Losses:
        sharp = torch.softmax(parts.logits * 500.0, dim=1)
        return -(parts.policy * torch.log(sharp)).sum(1).mean(), *parts.plain[1:]

    return other_losses(result, places, change)


def hidden_by_where(result: RunResult, places: random.Random) -> Any:
    def change(parts: Parts) -> Losses:
        distance = (parts.logits - parts.logits.detach().median()) ** 2
        root = torch.where(distance > 0, torch.sqrt(distance), torch.zeros_like(distance))
        return parts.plain[0] + 1e-3 * root.mean(), *parts.plain[1:]

    return other_losses(result, places, change)


def burst(result: RunResult, places: random.Random) -> Any:
    """Gradients fade for a while (Adam's second moment decays), then one step's are large."""
    original = learners.data_losses
    strike = places.randrange(105, 118)
    result.truth |= {"step": strike, "control": "fade"}

    def losses(*arguments: Any) -> Losses:
        policy, value, logs = original(*arguments)
        size = 1.0 if result.steps < FADE else 1e-12
        if result.steps == strike and result.clean():
            size = 1e22
        return policy * size, value * size, logs

    return patch.object(learners, "data_losses", losses)


def faded(_: RunResult) -> Any:
    """The control of `burst`: the gradients fade, and that is all."""
    original = learners.data_losses
    mine: list[Any] = []

    def losses(*arguments: Any) -> Losses:
        policy, value, logs = original(*arguments)
        size = 1.0 if mine[0].steps < FADE else 1e-12
        return policy * size, value * size, logs

    build = learners.Learner.__init__

    def made(self: Any, *arguments: Any, **more: Any) -> None:
        build(self, *arguments, **more)
        mine[:] = [self]

    return _both(patch.object(learners, "data_losses", losses), patch.object(learners.Learner, "__init__", made))


@contextmanager
def _both(one: Any, other: Any) -> Generator[None]:
    with one, other:
        yield


def quick_moments() -> Any:
    """An Adam whose second moment forgets half of itself a step: what takes days elsewhere takes a minute here."""
    original = learners.make_optimizer

    def made(model: Any, config: Any) -> Any:
        optimizer = original(model, config)
        optimizer.param_groups[0]["betas"] = (0.5, 0.5)
        return optimizer

    return patch.object(learners, "make_optimizer", made)


@contextmanager
def rate_spike(result: RunResult, places: random.Random) -> Generator[None]:
    """The learning rate of one step is 1e4 times what it should be."""
    step, original = places.randrange(3, STEPS - 2), learners.learning_rate
    result.truth["step"] = step

    def rate(config: Any, number: int, progress: float) -> float:
        plain = original(config, number, progress)
        return plain * 1e4 if number == step and result.clean() else plain

    with patch.object(learners, "learning_rate", rate):
        yield


@contextmanager
def overwritten(result: RunResult, places: random.Random) -> Generator[None]:
    """Another thread writes the next batch over this one between forward and backward."""
    step, original, made = places.randrange(3, STEPS - 2), learners.to_tensors, learners.data_losses
    rows = sorted(places.sample(range(32), 5))
    result.truth |= {"step": step, "rows": rows}
    held: list[Tensor] = []

    def tensors(batch: Any, device: Any) -> Any:
        given = original(batch, device)
        held[:] = [given[0]]
        return given

    def losses(*arguments: Any) -> Losses:
        losses_of_step = made(*arguments)
        if result.steps == step and "struck" not in result.truth:
            result.truth["struck"] = True

            def write() -> None:
                with torch.no_grad():
                    held[0][rows] = 0.5

            thread = threading.Thread(target=write)
            thread.start()
            thread.join()
        return losses_of_step

    with patch.object(learners, "to_tensors", tensors), patch.object(learners, "data_losses", losses):
        yield


@contextmanager
def half_overflow(result: RunResult, places: random.Random) -> Generator[None]:
    """One step runs in float16, and one layer's output is 1e5 times what it should be."""
    step, original = places.randrange(3, STEPS - 2), Network.heads
    paths = ["stem", "blocks.0", "policy_stem", "value_stem"]
    path = places.choice(paths)
    result.truth |= {"step": step, "module": path}

    def heads(self: Any, planes: Tensor) -> Any:
        if not (self.training and result.steps == step and result.clean()):
            return original(self, planes)
        module = self.get_submodule(path)
        forward = module.forward

        def too_large(x: Tensor) -> Any:
            return forward(x) * 1e5

        with patch.object(module, "forward", too_large), torch.autocast("cpu", torch.float16):
            return original(self, planes)

    with patch.object(Network, "heads", heads):
        yield


@contextmanager
def poisoned_model(result: RunResult, places: random.Random) -> Generator[None]:
    """What is offered for publishing holds a NaN in one tensor, once."""
    original, number = RunServices.publish, places.randrange(1, 3)

    def publish(self: Any, learner: Any, replay: Any, folder: Any, model: int) -> Any:
        if model != number or "tensor" in result.truth:
            return original(self, learner, replay, folder, model)
        copied = copy.deepcopy(learner.model).eval().requires_grad_(False)
        floats = [n for n, t in copied.state_dict().items() if t.is_floating_point()]
        name = places.choice(floats)
        tensor = copied.state_dict()[name]
        tensor[tuple(places.randrange(size) for size in tensor.shape)] = float("nan")
        result.truth["tensor"] = name
        with patch.object(learner, "published", lambda: copied):
            return original(self, learner, replay, folder, model)

    with patch.object(RunServices, "publish", publish):
        yield


def at(op: str, phase: str | None = None) -> Callable[[RunResult, Incident], bool]:
    """The step, the phase and the operation are the true ones, and the replay agreed to the bit."""

    def exact(result: RunResult, incident: Incident) -> bool:
        right = incident.causal_step == result.truth["step"] and (phase is None or incident.phase == phase)
        return right and op in (incident.op or "") and incident.replay == "bit-exact"

    return exact


def names_rows(result: RunResult, incident: Incident) -> bool:
    """The overwritten rows, and a replay that does not agree and says so."""
    return incident.rows == result.truth["rows"] and incident.replay == "not reproducible" and bool(incident.notes)


def names_layer(result: RunResult, incident: Incident) -> bool:
    """The layer whose output went beyond float16."""
    return incident.phase == "forward" and (incident.module or "").startswith(result.truth["module"])


def names_tensor(result: RunResult, incident: Incident) -> bool:
    """The tensor that the gate refused, by name, and the last good model."""
    text = incident.evidence["text"][0]
    return result.truth["tensor"] in text and "last good model" in text


NO_L2 = "learner.l2=0"

FAULTS = [
    Fault("D09", "the batch overwritten during the step", "loader", ("batch-changed-under-the-step",), overwritten,
          names_rows),
    Fault("D10", "log(softmax) by hand, the policy sharp", "loss", ("log-of-zero",), log_of_softmax,
          at("aten::log", "loss")),
    Fault("D12", "where hides it forward, backward is NaN", "backward", ("gradient-at-singularity",), hidden_by_where,
          at("SqrtBackward0", "backward")),
    Fault("D20", "Adam's v decays, then a burst", "optimizer", ("second-moment-overflow",), burst,
          at("norm", "optimizer"),
          settings=(NO_L2, "learner.grad_clip=0"), steps=120, control=faded, around=quick_moments, must_warn=True),
    Fault("D21", "a learning rate x 1e4 for one step", "schedule", ("learning-rate-spike",), rate_spike,
          lambda result, incident: incident.causal_step == result.truth["step"] and incident.replay == "bit-exact"),
    Fault("D24", "a float16 activation above 65504", "forward", ("half-overflow",), half_overflow, names_layer),
    Fault("D27", "a NaN offered for publishing", "export", ("gate-refused",), poisoned_model, names_tensor),
]  # fmt: skip
