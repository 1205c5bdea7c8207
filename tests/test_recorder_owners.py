"""The state that a fault hit or came from, its module and the user's line, each with its right answer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from recorder_rig import INF, NAN, Rig, line, seeded
from torch import nn
from torch.utils.checkpoint import checkpoint

from az.train.health import FlightRecorder

torch.set_num_threads(1)
__all__ = ["seeded"]


def test_a_state_that_is_bad_already_says_how_to_get_out():
    rig = Rig(nn.Linear(4, 1), lambda m, b: m(b).mean())
    for _ in range(5):
        assert rig.run(torch.randn(8, 4)) is None
    with torch.no_grad():
        rig.model.weight[0, 1] = INF
    for number in (5, 6, 7):  # a loop that goes on whatever is said
        incident = rig.run(torch.randn(8, 4))
        assert incident is not None
        assert (incident.first_bad_step, incident.cause) == (number, "changed-outside-the-step")
        assert incident.evidence["tensor"] == "weights: weight"
        assert incident.module == ""
        assert "bad already: recorder.rewind(4)" in str(incident)
        assert "recorder.rewind(4)" in incident.fix
    assert rig.recorder.rewind(4)
    assert torch.isfinite(rig.model.weight).all()
    assert rig.run(torch.randn(8, 4)) is None


def test_a_bad_number_in_a_list_of_an_optimizer_is_named():
    model = nn.Linear(4, 1)
    optimizer = torch.optim.LBFGS(model.parameters(), 0.1, max_iter=3)
    recorder = FlightRecorder(model, optimizer)

    def step(batch):
        def closure():
            optimizer.zero_grad()
            loss = model(batch).square().mean() + (model.weight - 1).pow(4).sum()
            loss.backward()
            return loss

        return optimizer.step(closure)

    for _ in range(4):
        assert recorder.run(step, torch.randn(8, 4)) is None
    optimizer.state[model.weight]["old_dirs"][1][2] = NAN
    incident = recorder.run(step, torch.randn(8, 4))
    assert incident is not None
    assert (incident.stage, incident.cause) == ("hardware", "changed-outside-the-step")
    assert incident.evidence["tensor"] == "optimizer: old_dirs[1]/weight"


def test_a_second_model_is_named_with_its_tensor():
    first: Any = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8))
    second = nn.Linear(8, 1)
    recorder = FlightRecorder(second, None, extra_state=[first])

    def step(batch):
        loss = second(first(batch)).mean()  # at: second
        loss.backward()
        return loss

    with torch.no_grad():
        first[1].weight.fill_(3e38)
    incident = recorder.run(step, torch.randn(16, 4))
    assert incident is not None
    told = incident.stage, incident.cause, incident.phase, incident.op, incident.module, incident.source
    assert told == ("forward", "overflow", "forward", "aten::addmm", "also0.1", line("second", __file__))
    assert incident.evidence["tensor"] == "also: also0.1.weight"
    assert (incident.rows, incident.counterfactual) == ([], None)  # whatever the row


def test_the_optimizer_of_a_second_model_is_named_with_its_tensor():
    first, second, factor = nn.Linear(4, 8), nn.Linear(8, 1), [1.0]
    optimizers = [torch.optim.Adam(model.parameters()) for model in (second, first)]
    recorder = FlightRecorder(second, optimizers, extra_state=[first])

    def step(batch):
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss = second(first(batch)).mean()
        loss.backward()
        assert first.weight.grad is not None
        first.weight.grad.mul_(factor[0])
        for optimizer in optimizers:
            optimizer.step()

    assert recorder.run(step, torch.randn(16, 4)) is None
    factor[0] = 1e25
    incident = recorder.run(step, torch.randn(16, 4))
    assert incident is not None
    assert (incident.cause, incident.module) == ("second-moment-overflow", "also0"), str(incident)
    assert incident.evidence["tensor"] == "optimizer: exp_avg_sq/also0.weight"


def poison(gradient):
    return gradient.index_fill(0, torch.tensor([1]), NAN)  # at: poison


def test_a_gradient_that_a_hook_poisons():
    rig = Rig(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), lambda m, b: m(b).sum())
    rig.model[0].weight.register_hook(poison)
    incident = rig.fails(torch.randn(8, 4))
    assert (incident.stage, incident.cause, incident.module) == ("backward", "constant-not-finite", "0")
    assert (incident.evidence["tensor"], incident.source) == ("gradients: 0.weight", line("poison", __file__))


def test_a_gradient_that_is_poisoned_in_place_behind_backward():
    model: Any = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))

    def step(batch):
        model.zero_grad()
        loss = model(batch).sum()
        loss.backward()
        model[1].bias.grad.index_fill_(0, torch.tensor([1]), NAN)
        return loss

    incident = FlightRecorder(model, None).run(step, torch.randn(8, 4))
    assert incident is not None
    assert (incident.op, incident.module) == ("aten::index_fill_", "1")
    assert incident.evidence["tensor"] == "gradients: 1.bias"


class OwnVariance(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.average: torch.Tensor
        self.register_buffer("average", torch.ones(3))

    def forward(self, x):
        h = self.layer(x)
        self.average.mul_(0.9).add_(0.1 * h.detach().var(0))  # at: variance
        return h


@pytest.mark.filterwarnings("ignore:.*degrees of freedom:UserWarning")
def test_a_running_variance_of_the_module_s_own_meets_one_row():
    rig = Rig(nn.Sequential(nn.Linear(4, 4), OwnVariance()), lambda m, b: m(b).sum())
    assert rig.run(torch.randn(8, 4)) is None
    incident = rig.fails(torch.randn(1, 4))
    assert (incident.cause, incident.module, incident.source) == (
        "statistics-of-too-few",
        "1",
        line("variance", __file__),
    )
    assert incident.evidence["tensor"] == "buffers: 1.average"


class Checkpointed(nn.Module):
    def __init__(self, reentrant, bad):
        super().__init__()
        self.layer, self.reentrant, self.bad = nn.Linear(4, 4), reentrant, bad

    def forward(self, x):
        return checkpoint(self.inside, x, use_reentrant=self.reentrant)

    def inside(self, x):
        h = self.layer(x) * 0
        return torch.log(h - 1) if self.bad == "forward" else h.abs().sqrt()  # at: checkpointed


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("bad", ["forward", "backward"])
def test_gradient_checkpointing(reentrant, bad):
    rig = Rig(nn.Sequential(nn.Linear(4, 4), Checkpointed(reentrant, bad)), lambda m, b: m(b).sum())
    incident = rig.fails(torch.randn(8, 4))
    cause = "log-of-negative" if bad == "forward" else "gradient-at-singularity"
    assert (incident.stage, incident.cause, incident.module) == (bad, cause, "1"), str(incident)
    assert incident.source == line("checkpointed", __file__)
    assert incident.counterfactual is None or incident.counterfactual["finite"]


def test_the_line_is_the_user_s_and_not_a_library_s(tmp_path, monkeypatch):
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "library_of_losses.py").write_text("def loss(x):\n    return x.log().mean()\n", "utf-8")
    monkeypatch.syspath_prepend(folder)
    import library_of_losses  # pyright: ignore[reportMissingImports]

    rig = Rig(nn.Linear(4, 1), lambda m, b: library_of_losses.loss(m(b) * 0))  # at: library
    incident = rig.fails(torch.randn(8, 4))
    assert (incident.cause, incident.source) == ("log-of-zero", line("library", __file__))


def test_a_gradient_scaler_whose_scale_is_infinite():
    torch.manual_seed(0)
    model, scaler = nn.Linear(4, 1), torch.amp.GradScaler("cpu", init_scale=8.0)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    recorder = FlightRecorder(model, optimizer, extra_state=[scaler])

    def step(batch):
        optimizer.zero_grad()
        loss = model(batch).square().mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss.detach()

    assert recorder.run(step, torch.randn(8, 4)) is None
    scaler.load_state_dict({**scaler.state_dict(), "scale": INF})
    scaler._scale = torch.tensor(INF)
    incident = recorder.run(step, torch.randn(8, 4))
    assert incident is not None
    assert (incident.cause, incident.evidence["tensor"]) == ("changed-outside-the-step", "scaler: scale")
    assert incident.rows == []
