"""The flight recorder on honest loops: silent, and without a trace."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from foreign_faults import INF, NAN, recorder_of
from foreign_loops import AttentionLoop, ConvLoop, Loop, RecurrentLoop, line, same
from torch import Tensor, nn

from az.train.health import FlightRecorder

torch.set_num_threads(1)


def silent(loop: Loop, steps: int = 120, change: Callable[[int, Any], None] = lambda *_: None) -> FlightRecorder:
    """No incident in so many steps, and the same bits as without a recorder."""
    recorder = recorder_of(loop)
    for number in range(steps):
        batch = loop.batch(number)
        change(number, batch)
        incident = recorder.run(loop.step, batch)
        assert incident is None, f"step {number}: {incident}"
    return recorder


@pytest.mark.parametrize(
    "make",
    [
        lambda: AttentionLoop("clip"),
        lambda: ConvLoop(half=torch.float16, scale=2.0**40),
        lambda: ConvLoop("in place", half=torch.float16, scale=2.0**60),
        lambda: RecurrentLoop("lstm", optimizer=torch.optim.RMSprop),
    ],
    ids=["masks of -inf", "calibration", "calibration and a batch written in place", "truncated through time"],
)
def test_honest_loops_stay_silent_and_end_in_the_same_bits(make):
    loop, variant = make(), make()
    silent(loop, 60)
    recorded = loop.everything()
    torch.manual_seed(7)
    np.random.seed(7)
    random.seed(7)
    variant = make()
    for number in range(60):
        variant.step(variant.batch(number))
    assert same(recorded, variant.everything())


def test_missing_values_that_are_chosen_away_stay_silent_and_are_not_blamed():
    """NaN stands for "not measured"; when something else breaks, it is not the cause."""
    loop = AttentionLoop()
    honest = loop.step

    def step(batch: Any) -> Any:
        return honest({**batch, "x": torch.where(batch["x"].isnan(), 0.0, batch["x"])})

    def change(_: int, batch: Any) -> None:
        batch["x"][2, 0] = NAN

    loop.step = step
    recorder = silent(loop, 12, change)
    bad = loop.batch(12)
    change(12, bad)
    bad["temperature"][5] = 1e-5
    incident = recorder.run(loop.step, bad)
    assert incident is not None
    assert (incident.cause, incident.rows) == ("log-of-zero", [5]), str(incident)


def test_a_jump_of_the_learning_rate_as_in_a_schedule_and_a_jump_of_the_loss_stay_silent():
    loop = RecurrentLoop(lr=1e-4)

    def change(number: int, batch: Any) -> None:
        if number == 30:
            loop.optimizer.param_groups[0]["lr"] *= 10
        if number > 50:
            batch.y *= 1e3

    assert silent(loop, 100, change).step == 100


class Odd(nn.Module):
    """Tied and frozen weights, a weight without gradient, one that is not contiguous, a buffer of integers."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.out = nn.Embedding(10, 6), nn.Linear(6, 10, bias=False)
        self.out.weight = self.embedding.weight
        self.frozen, self.unused = nn.Linear(6, 6).requires_grad_(False), nn.Parameter(torch.ones(3))
        self.turned = nn.Parameter(torch.randn(6, 6).t())
        self.scattered = nn.Parameter(torch.randn(6, 12)[:, ::2])
        self.register_buffer("seen", torch.zeros(10, dtype=torch.int64))
        self.calls = 0

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        self.seen += torch.bincount(tokens.reshape(-1), minlength=10)
        x = torch.tanh(self.frozen(self.embedding(tokens)) @ self.turned + self.scattered.sum(0))
        return self.out(x)


@dataclass
class Text:
    tokens: np.ndarray
    weight: np.ndarray
    names: list[str]


class OddLoop(Loop):
    def __init__(self) -> None:
        super().__init__()
        self.model = Odd()
        given = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adagrad(given, lr=0.05)
        self.best = {"loss": torch.tensor(INF), "history": deque(maxlen=5), "seen": {"steps": 0}}
        self.also = [self.best, np.random.default_rng(3)]

    def batch(self, number: int) -> Text:
        rng = np.random.default_rng(number)
        return Text(rng.integers(0, 10, (6, 5)), np.ones(6, np.float32), ["a"] * 6)

    def step(self, batch: Text) -> dict[str, Any]:
        self.optimizer.zero_grad()
        tokens = torch.from_numpy(batch.tokens)
        logits = self.model(tokens[:, :-1])
        each = torch.nn.functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none").mean(1)
        loss = (each * torch.from_numpy(batch.weight)).mean() + self.also[1].normal() * 0
        loss.backward()
        self.optimizer.step()
        self.best["loss"] = torch.minimum(self.best["loss"], loss.detach())
        self.best["history"].append(float(loss.detach()))
        self.best["seen"]["steps"] += 1
        return {"total": loss.detach()}


def test_odd_models_and_batches_stay_silent_and_come_back_to_the_bit():
    loop = OddLoop()
    recorder = silent(loop, 100)
    inner = loop.best["seen"]
    bad = loop.batch(100)
    bad.weight[4] = NAN
    before, drawn = loop.everything(), loop.also[1].bit_generator.state
    incident = recorder.run(loop.step, bad)
    assert incident is not None
    assert same(before, loop.everything())
    assert loop.also[1].bit_generator.state == drawn
    assert loop.best["seen"] is inner
    assert (incident.cause, incident.rows, incident.evidence["fields"]) == ("batch-not-finite", [4], ["weight"])


def test_a_gradient_that_no_scale_would_save_is_an_incident_under_a_scaler():
    """The scaler would skip the step again and again; the row that does it is named instead."""
    loop = ConvLoop("even", half=torch.float16)
    recorder = silent(loop, 20)
    bad = loop.batch(20)
    bad[2][6] = 0.0
    scale = loop.scaler.get_scale()
    incident = recorder.run(loop.step, bad)
    assert incident is not None
    assert (incident.cause, incident.rows, incident.source) == ("zero-over-zero", [6], line("even")), str(incident)
    assert loop.scaler.get_scale() == scale


def test_a_rate_that_had_honestly_risen_is_not_blamed_for_another_fault() -> None:
    """The rate rose for good twelve steps ago; the root of -1 has nothing to do with it."""
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)
    recorder = FlightRecorder(model, optimizer)

    def step(batch: tuple[int, Tensor]) -> Tensor:
        number, x = batch
        optimizer.param_groups[0]["lr"] = 2e-3 if number >= 58 else 1e-5
        optimizer.zero_grad()
        answer = model(x)
        loss = answer.square().mean()
        if number == 70:
            loss = loss + torch.sqrt(answer.detach().abs().min() * 0 - 1.0)
        loss.backward()
        optimizer.step()
        return loss

    incidents = [recorder.run(step, (number, torch.randn(8, 4))) for number in range(71)]
    assert incidents[:70] == [None] * 70
    assert incidents[70] is not None
    assert (incidents[70].cause, incidents[70].causal_step) == ("root-of-negative", 70)
