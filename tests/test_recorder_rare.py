"""Rare things that a model, an optimizer or their memory may be: no hang, no crash, and everything comes back."""

import math

import pytest
import torch
from torch import nn

from az.train.health import FlightRecorder


def spoiled(model, optimizer=None, also=(), bad=lambda: None):
    """Whether a step that spoils the first weight after `bad` is found to be faulty, one good step before it."""
    recorder = FlightRecorder(model, optimizer, also=also)
    assert recorder.run(lambda _: None, None) is None

    def step(_):
        with torch.no_grad():
            bad()
            next(model.parameters()).fill_(math.nan)

    return recorder.run(step, None) is not None


def test_a_parameter_that_only_the_optimizer_knows_is_seen_and_comes_back():
    model, alone = nn.Linear(3, 3), nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = torch.optim.SGD([*model.parameters(), alone], lr=0.1)
    assert spoiled(model, optimizer, bad=lambda: alone.add_(1.0))
    assert alone.tolist() == [1.0, 2.0]
    recorder = FlightRecorder(model, optimizer)
    with torch.no_grad():
        incident = recorder.run(lambda _: alone.fill_(math.nan) and None, None)
    assert incident is not None
    assert alone.tolist() == [1.0, 2.0]


def test_one_number_seen_many_times_comes_back():
    model = nn.Linear(3, 3)
    model.register_buffer("wide", torch.tensor([[2.0], [3.0]]).expand(2, 5))
    assert spoiled(model, bad=lambda: model.wide[:, :1].mul_(7.0))
    assert torch.equal(model.wide, torch.tensor([[2.0] * 5, [3.0] * 5]))
    assert model.wide.stride() == (1, 0)


def test_conjugates_are_read_and_come_back():
    model = nn.Linear(3, 3)
    model.register_buffer("turned", torch.tensor([1 + 2j, 3 - 1j]).conj())
    kept = model.turned.clone()
    assert spoiled(model, bad=lambda: model.turned.mul_(math.nan))
    assert torch.equal(model.turned, kept)


class Working(torch.optim.SGD):
    """Its state is worked out when it is asked for: other tensors every time."""

    @property
    def state(self):
        return {p: {"age": torch.zeros(1)} for group in self.param_groups for p in group["params"]}

    @state.setter
    def state(self, _):
        pass


def test_what_is_never_twice_the_same_does_not_keep_the_step_waiting():
    model = nn.Linear(3, 3)
    kept = model.weight.detach().clone()
    assert spoiled(model, Working(model.parameters(), lr=0.1))
    assert torch.equal(model.weight, kept)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_views_of_memory_that_was_given_away_are_no_crash(dtype):
    flat = torch.arange(1000.0, dtype=dtype)
    model = nn.Module()
    model.first, model.second = nn.Parameter(flat[:500]), nn.Parameter(flat[500:])
    recorder = FlightRecorder(model, None)
    assert recorder.run(lambda _: None, None) is None
    with pytest.raises(RuntimeError, match="has lost its memory"):
        recorder.run(lambda _: flat.untyped_storage().resize_(0) and None, None)
    assert torch.equal(torch.cat([model.first, model.second]), torch.arange(1000.0, dtype=dtype))


def test_gradients_without_memory_are_left_alone():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3, device="meta"))
    model[1](torch.ones(1, 3, device="meta")).sum().backward()
    kept = model[1].weight.grad
    assert spoiled(model)
    assert model[1].weight.grad is kept
