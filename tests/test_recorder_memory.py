"""What the recorder takes of memory: two copies of the state and 30 MB."""

from __future__ import annotations

import gc
import runpy
from typing import Any

import pytest
import torch
from command_line import ROOT
from torch import nn

from az.train.health import FlightRecorder

measure = runpy.run_path(str(ROOT / "benchmarks" / "recorder_memory.py"))["measure"]
SPARE = 30e6


@pytest.mark.parametrize(("optimizer", "mb"), [("adam", 10.0), ("lbfgs", 10.0)])
def test_the_recorder_takes_two_copies_of_the_state_and_30_mb(optimizer, mb):
    found = measure(optimizer, mb)
    assert found["state_mb"] > 5
    assert found["over_mb"] <= found["most_mb"], found


MAKE: dict[str, Any] = {
    "sgd": lambda p: torch.optim.SGD(p, 1e-3),
    "adam": torch.optim.Adam,
    "lbfgs": lambda p: torch.optim.LBFGS(p, 1e-2, max_iter=2, history_size=3),
}


class Loop:
    """A few wide layers; the old gradients are let go in every step, as `zero_grad` does."""

    def __init__(self, name, width, *, recorded, **options):
        torch.manual_seed(0)
        self.name, self.width = name, width
        self.model = nn.Sequential(*[nn.Linear(width, width, bias=False) for _ in range(4)])
        self.optimizer = MAKE[name](self.model.parameters())
        self.recorder = FlightRecorder(self.model, self.optimizer, **options) if recorded else None

    def step(self, batch):
        def closure():
            self.optimizer.zero_grad()
            loss = self.model(batch).square().mean()
            loss.backward()
            return loss

        if self.name == "lbfgs":
            return self.optimizer.step(closure)
        loss = closure()
        self.optimizer.step()
        return loss

    def go(self, steps):
        for _ in range(steps):
            batch = torch.randn(2, self.width)
            if self.recorder is None:
                self.step(batch)
            else:
                assert self.recorder.run(self.step, batch) is None

    def state_bytes(self):
        found = sum(p.nbytes for p in self.model.parameters())
        for value in (v for one in self.optimizer.state.values() for v in one.values()):
            found += sum(t.nbytes for t in (value if isinstance(value, list) else [value]) if torch.is_tensor(t))
        return found


def gradients(loop):
    return [p.grad for p in loop.model.parameters() if p.grad is not None]


def peak(name, width, recorded, **options):
    """(most bytes of tensors at once, bytes of the state), counted by torch's allocator and not by the system."""
    gc.collect()  # what an earlier profile counted, such as a loop that its recorder refers to, would be taken off here
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        loop = Loop(name, width, recorded=recorded, **options)
        loop.go(20)
    now = most = 0
    found: Any = profile.profiler
    for event in found.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most, loop.state_bytes()


@pytest.mark.parametrize(("name", "width"), [("sgd", 1800), ("adam", 1400), ("lbfgs", 1000)])
def test_large_states_have_two_copies_and_30_mb_of_tensors(name, width):
    bare, state = peak(name, width, recorded=False)
    most, _ = peak(name, width, recorded=True)
    assert state > 45e6
    assert state / 2 < most - bare <= 2 * state + SPARE, (most - bare) / 1e6


def test_gradients_that_a_step_lets_go_are_put_back_with_their_numbers():
    loop = Loop("sgd", 16, recorded=True, interval=1)
    loop.go(3)
    before = [gradient.clone() for gradient in gradients(loop)]
    strides = [gradient.stride() for gradient in gradients(loop)]
    assert loop.recorder is not None
    assert loop.recorder.run(loop.step, torch.full((2, 16), torch.nan)) is not None
    after = gradients(loop)
    assert len(after) == len(before) > 0
    assert all(map(torch.equal, before, after))
    assert strides == [gradient.stride() for gradient in after]


def test_a_gradient_that_is_held_elsewhere_is_the_same_object_afterwards():
    loop = Loop("sgd", 16, recorded=True, interval=1)
    loop.go(3)
    held = gradients(loop)
    assert loop.recorder is not None
    assert loop.recorder.run(loop.step, torch.full((2, 16), torch.nan)) is not None
    assert held
    assert all(before is now for before, now in zip(held, gradients(loop), strict=True))
