"""Causes and repairs: small faults in loops of other people, each with its right answer."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from recorder_rig import INF, F, Rig, line, seeded, tried
from torch import nn

from az.train.health import FlightRecorder

torch.set_num_threads(1)
__all__ = ["seeded"]


def test_an_exponential_whose_mean_overflows_stays_finite_when_it_is_clamped():
    rig = Rig(nn.Linear(8, 8), lambda m, b: torch.exp(m(b) * 1e3).mean())
    incident = rig.fails(torch.randn(16, 8) * 3)
    assert (incident.cause, incident.op, incident.stage) == ("exp-overflow", "aten::exp", "loss")
    assert tried(incident) == ("the exponent stays below half of what overflows", True)


def test_a_sum_of_exponentials_that_overflows_although_each_is_finite():
    rig = Rig(nn.Linear(4, 64), lambda m, b: (m(b) * 0 + 88.5).exp().sum(1).log().mean())
    incident = rig.fails(torch.randn(8, 4))
    assert (incident.cause, incident.op) == ("exp-overflow", "aten::sum")
    assert tried(incident) == ("the exponent stays below half of what overflows", True)


def test_a_ratio_that_the_minimum_chooses_away():
    def loss(m, b):
        x, gain, old = b
        ratio = torch.exp(m(x).squeeze(1) - old)  # at: ratio
        return -torch.min(ratio * gain, ratio.clamp(0.8, 1.2) * gain).mean()

    rig = Rig(nn.Linear(4, 1), loss)
    old = torch.zeros(8)
    assert rig.run((torch.randn(8, 4), torch.ones(8), old)) is None
    old[3] = -200.0
    incident = rig.fails((torch.randn(8, 4), torch.ones(8), old))
    assert (incident.stage, incident.cause, incident.op) == ("backward", "exp-overflow", "ExpBackward0")
    assert (incident.rows, incident.source, incident.module) == ([3], line("ratio", __file__), None)
    assert "Clamp the exponent" in incident.fix
    assert incident.counterfactual is not None
    assert incident.counterfactual["finite"]


def test_one_minus_a_mask_times_minus_infinity():
    mask = (1 - torch.ones(4, 4).tril()).mean(0)
    rig = Rig(nn.Linear(4, 4), lambda m, b: F.softmax(m(b) + mask * -INF, 1).pow(2).sum())
    incident = rig.fails(torch.randn(8, 4))
    assert (incident.cause, incident.op) == ("inf-times-zero", "aten::mul")
    assert "masked_fill" in incident.fix
    assert tried(incident) == ("an infinite factor becomes 0", True)


def test_a_variance_that_overflows_in_batch_norm():
    rig = Rig(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), lambda m, b: m(b).square().mean())
    assert rig.run(torch.randn(8, 4)) is None
    with torch.no_grad():
        rig.model[0].weight.mul_(1e21)
    incident = rig.fails(torch.randn(8, 4))
    assert (incident.stage, incident.cause, incident.module) == ("forward", "variance-overflow", "1")
    assert incident.evidence["tensor"] == "buffers: 1.running_var"
    assert "averages" not in incident.fix
    assert "recorder.rewind(0)" in incident.fix


@pytest.mark.parametrize("returned", [True, False])
def test_a_batch_without_a_label_that_counts(returned):
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def step(batch):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(batch[0]), batch[1])  # at: labels
        loss.backward()
        optimizer.step()
        return loss if returned else None

    recorder = FlightRecorder(model, optimizer)
    assert recorder.run(step, (torch.randn(8, 4), torch.zeros(8, dtype=torch.long))) is None
    incident = recorder.run(step, (torch.randn(8, 4), torch.full((8,), -100)))
    assert incident is not None
    assert (incident.stage, incident.cause, incident.op) == ("loss", "statistics-of-too-few", "aten::nll_loss_forward")
    assert (incident.source, incident.rows, incident.counterfactual) == (line("labels", __file__), [], None)
    assert "ignore_index" in incident.fix


def test_an_image_without_a_pixel_that_counts():
    rig = Rig(nn.Conv2d(3, 4, 1), lambda m, b: F.cross_entropy(m(b[0]), b[1]))
    incident = rig.fails((torch.randn(2, 3, 4, 4), torch.full((2, 4, 4), -100)))
    assert (incident.cause, incident.op) == ("statistics-of-too-few", "aten::nll_loss2d_forward")
    assert "ignore_index" in incident.fix


def test_ctc_without_an_alignment():
    def loss(m, b):
        scores = m(b[0]).log_softmax(-1).transpose(0, 1)
        return F.ctc_loss(scores, b[1], torch.full((6,), 7), b[2])

    rig = Rig(nn.Linear(4, 5), loss)
    targets, lengths = torch.randint(1, 5, (6, 10)), torch.full((6,), 3)
    assert rig.run((torch.randn(6, 7, 4), targets, lengths)) is None
    lengths[2] = 9
    incident = rig.fails((torch.randn(6, 7, 4), targets, lengths))
    assert (incident.cause, incident.rows) == ("no-alignment", [2])
    assert tried(incident) == ("the CTC loss with zero_infinity", True)


@pytest.mark.parametrize(("make", "rate"), [(torch.optim.SGD, 200.0), (torch.optim.Adam, 1e6)])
def test_a_rate_that_is_too_high(make, rate):
    model = nn.Linear(8, 1) if make is torch.optim.SGD else nn.Sequential(
        nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1)
    )  # fmt: skip
    rig, incident = Rig(model, lambda m, b: (m(b) ** 2).mean(), make(model.parameters(), rate)), None
    for _ in range(40):
        incident = incident or rig.run(torch.randn(16, 8))
    assert incident is not None
    assert (incident.stage, incident.cause) == ("schedule", "diverged"), str(incident)
    assert "learning rate" in incident.fix
    assert "clip" in incident.fix
    assert incident.counterfactual is not None
    assert incident.counterfactual["finite"]
    assert rig.recorder.rewind(incident.evidence["rewind"])
    assert all(p.abs().max() < 1 for p in model.parameters())


def test_a_hook_that_poisons_a_gradient_names_its_operation_and_the_parameter():
    rig = Rig(nn.Linear(4, 3), lambda m, b: m(b).square().mean())
    armed: list[bool] = []
    rig.model.weight.register_hook(lambda g: g.index_fill(0, torch.tensor([0]), math.nan) if armed else g)  # at: hook
    assert rig.run(torch.randn(8, 4)) is None
    armed.append(True)
    incident = rig.fails(torch.randn(8, 4))
    assert (incident.phase, incident.op, incident.source) == ("backward", "aten::index_fill", line("hook", __file__))
    assert (incident.evidence["tensor"], incident.rows) == ("gradients: weight", [])


def test_zero_to_a_negative_power_is_a_division_by_zero():
    rig = Rig(nn.Linear(4, 3), lambda m, b: (m(b[0]) * b[1][:, None] ** -0.5).mean())
    incident = rig.fails((torch.randn(8, 4), torch.tensor([1.0] * 7 + [0.0])))
    assert (incident.cause, incident.op, incident.rows) == ("division-by-zero", "aten::pow", [7])
    assert tried(incident) == ("the base of the power is kept away from 0", True)


def test_the_inner_infinities_of_a_ctc_loss_are_meant():
    letters = torch.full((4,), 2)

    def loss(m, b):
        each = F.ctc_loss(
            m(b).log_softmax(2), torch.tensor([[1, 2]] * 4), torch.full((4,), 6), letters, reduction="none"
        )
        return (each / letters).mean()

    rig = Rig(nn.Linear(3, 5), loss)
    assert rig.run(torch.randn(6, 4, 3)) is None
    letters[2] = 0
    incident = rig.fails(torch.randn(6, 4, 3))
    assert (incident.cause, incident.op) == ("division-by-zero", "aten::div")


def test_a_rate_that_is_wrong_for_one_step_of_lbfgs_and_a_log_in_its_closure():
    model = nn.Linear(4, 1)
    optimizer = torch.optim.LBFGS(model.parameters(), 0.1, max_iter=3)
    recorder = FlightRecorder(model, optimizer)

    def step(batch):
        def closure():
            optimizer.zero_grad()
            loss = (model(batch[0])[:, 0] - torch.log(batch[1])).square().mean()  # at: closure
            loss.backward()
            return loss

        return optimizer.step(closure)

    assert recorder.run(step, (torch.randn(8, 4), torch.ones(8))) is None
    incident = recorder.run(step, (torch.randn(8, 4), torch.tensor([1.0] * 7 + [-1.0])))
    assert incident is not None
    assert (incident.cause, incident.op, incident.rows) == ("log-of-negative", "aten::log", [7])
    assert incident.source == line("closure", __file__)
    optimizer.param_groups[0]["lr"] = math.nan
    incident = recorder.run(step, (torch.randn(8, 4), torch.ones(8)))
    assert incident is not None
    assert incident.cause == "learning-rate-not-finite"


def test_gradients_that_are_clipped_by_hand_to_a_norm_of_zero():
    model: Any = nn.Linear(4, 1)
    optimizer = torch.optim.Adam(model.parameters())
    recorder = FlightRecorder(model, optimizer)

    def step(batch):
        optimizer.zero_grad()
        loss = (model(batch[0])[:, 0].square() * batch[1]).mean()
        loss.backward()
        norm = torch.stack([p.grad.square().sum() for p in model.parameters()]).sum().sqrt()
        for p in model.parameters():
            p.grad = p.grad / norm  # at: clipped
        optimizer.step()
        return loss

    assert recorder.run(step, (torch.randn(8, 4), torch.ones(8))) is None
    incident = recorder.run(step, (torch.randn(8, 4), torch.zeros(8)))
    assert incident is not None
    assert (incident.stage, incident.cause, incident.op) == ("optimizer", "zero-over-zero", "aten::div")
    assert incident.source == line("clipped", __file__)
    assert tried(incident) == ("a divisor of 0 becomes 1e-12", True)


def test_a_careless_operation_that_a_large_row_shows_is_named_with_the_row():
    rig = Rig(nn.Linear(4, 3), lambda m, b: -torch.log(torch.softmax(m(b[0]) * b[1][:, None], 1)).mean())
    assert rig.run((torch.randn(8, 4), torch.ones(8))) is None
    incident = rig.fails((torch.randn(8, 4), torch.tensor([1.0] * 5 + [1e6] + [1.0] * 2)))
    assert (incident.cause, incident.op, incident.rows) == ("log-of-zero", "aten::log", [5])
    assert "usually up to 1; without them it stays finite too" in incident.fix


def test_a_rate_spike_inside_of_a_scheduled_step():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    recorder = FlightRecorder(model, optimizer, [scheduler], interval=1)

    def step(batch):
        optimizer.zero_grad()
        loss = model(batch).square().mean()
        loss.backward()
        optimizer.step()
        scheduler.step()
        return loss

    incident = None
    for number in range(16):
        if number == 14:
            optimizer.param_groups[0]["lr"] *= 1e32
        incident = recorder.run(step, torch.randn(8, 4))
        assert incident is None or number > 13
        if incident is not None:
            break
    assert incident is not None
    assert (incident.cause, incident.causal_step) == ("learning-rate-spike", 14)
