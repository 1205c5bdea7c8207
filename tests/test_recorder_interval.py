"""Copies every few steps: the state before a fault is had by making the steps since again, to the bit."""

from __future__ import annotations

import copy
import itertools
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from az.train.health import FlightRecorder
from az.train.health.pace import Pace

torch.set_num_threads(1)
NAN = float("nan")


class Loop:
    """A small network with batch norm and dropout, Adam, a schedule and numbers drawn from everywhere."""

    def __init__(self, interval: int | None, schedule_outside: bool = False, **more: Any) -> None:
        torch.manual_seed(1)
        np.random.seed(1)
        random.seed(1)
        self.model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Dropout(0.3), nn.ReLU(), nn.Linear(16, 1))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01)
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, 3, 0.9)
        self.recorder = FlightRecorder(self.model, self.optimizer, [self.schedule], interval=interval, **more)
        self.schedule_outside, self.done = schedule_outside, 0

    def step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        noise = float(np.random.rand()) + random.random()
        self.optimizer.zero_grad()
        loss = (self.model(batch[0]) - batch[1] * noise).square().mean()
        loss.backward()
        self.optimizer.step()
        if not self.schedule_outside:
            self.schedule.step()
        return loss.detach()

    def batch(self, bad: bool = False) -> tuple[Tensor, Tensor]:
        dice = torch.Generator().manual_seed(self.done)
        x, y = torch.randn(8, 6, generator=dice), torch.randn(8, 1, generator=dice)
        if bad:
            x[3, 2] = NAN
        return x, y

    def go(self, steps: int, bad: bool = False) -> Any:
        found = None
        for _ in range(steps):
            found = self.recorder.run(self.step, self.batch(bad))
            self.done += 1
            if self.schedule_outside:
                self.schedule.step()
        return found

    def state(self) -> dict[str, Any]:
        parts = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
                 "schedule": self.schedule.state_dict(), "torch": torch.get_rng_state(),
                 "numpy": np.random.get_state(legacy=False), "python": random.getstate()}  # fmt: skip
        return copy.deepcopy(parts)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 6, 7, 8, 13])
def test_a_fault_leaves_the_state_of_before_to_the_bit(steps, outside):
    loop = Loop(7, outside)
    assert loop.go(steps) is None
    before = loop.state()
    if outside:  # the schedule is stepped after the run: without that here
        incident = loop.recorder.run(loop.step, loop.batch(bad=True))
    else:
        incident = loop.go(1, bad=True)
    assert incident is not None
    assert (incident.cause, incident.rows, incident.replay) == ("batch-not-finite", [3], "bit-exact")
    assert incident.first_bad_step == steps
    assert same(loop.state(), before)
    assert loop.go(9) is None


def test_with_and_without_copies_the_curve_and_the_incident_are_the_same():
    told, ends = [], []
    for interval in (1, 5, None):
        loop = Loop(interval)
        assert loop.go(11) is None
        with torch.no_grad():  # written outside: nothing that was made before leads here
            list(loop.model.parameters())[-1].add_(0.25)
        assert loop.go(3) is None
        incident = loop.go(1, bad=True)
        told.append({key: value for key, value in incident.to_json().items() if key != "seconds"})
        assert loop.go(4) is None
        ends.append(loop.state())
    assert told[0] == told[1] == told[2]
    assert same(ends[0], ends[1])
    assert same(ends[0], ends[2])


@pytest.mark.parametrize("interval", [1, 4, 6])
def test_every_step_that_is_kept_can_be_undone(interval):
    loop, states = Loop(interval), []
    for _ in range(14):
        states.append(loop.state())
        assert loop.go(1) is None
    kept = [one.step for one in loop.recorder.session.history.kept]
    assert kept[-1] == 13
    assert len(kept) >= 6
    assert not loop.recorder.rewind(kept[0] - 1)
    for step in reversed(kept):
        assert loop.recorder.rewind(step)
        assert loop.recorder.step == step
        assert same(loop.state(), states[step])


def test_two_copies_and_no_more():
    loop = Loop(4)
    assert loop.go(30) is None
    kept = list(loop.recorder.session.history.kept)
    assert sum(one.snapshot is not None for one in kept) == 2
    assert 4 <= len(kept) <= 8


def counting(loop: Loop, ticks: Any) -> Any:
    """A step whose numbers depend on how often it has been called."""
    real = loop.step

    def step(batch: tuple[Tensor, Tensor]) -> Tensor:
        if isinstance(ticks, list):
            ticks[0] += 1
            now = ticks[0]
        else:
            now = next(ticks)
        return real((batch[0] * (1 + 0.01 * now), batch[1]))

    return step


def test_a_python_number_that_a_step_counts_is_put_back_too():
    loop, ticks = Loop(8), [0]
    loop.step = counting(loop, ticks)
    assert loop.go(5) is None
    before = loop.state()
    incident = loop.go(1, bad=True)
    assert (incident.cause, incident.replay) == ("batch-not-finite", "bit-exact")
    assert same(loop.state(), before)
    assert ticks == [6]  # as the step left it


def test_steps_that_cannot_be_made_again_are_told_and_copied_from_then_on():
    loop = Loop(8)
    loop.step = counting(loop, itertools.count(1))  # what an iterator has given is gone
    first = loop.state()
    assert loop.go(5) is None
    incident = loop.go(1, bad=True)
    assert incident.cause == "not-made-again"
    assert f"the state is that of before step {loop.recorder.step}, the last copy" in str(incident)
    assert "nothing was changed" not in str(incident)
    assert "before step 0" in incident.notes[0]
    assert same(loop.state(), first)
    assert loop.recorder.step == 0
    before = loop.state()
    assert loop.go(1, bad=True).cause == "batch-not-finite"
    assert same(loop.state(), before)


def test_an_error_of_the_user_s_own_is_raised_where_steps_cannot_be_made_again():
    loop = Loop(4)
    loop.step = counting(loop, itertools.count(1))
    assert loop.go(4) is None
    copied, real = loop.state(), loop.step  # the next step begins with a copy

    def careless(batch: tuple[Tensor, Tensor]) -> Tensor:
        real(batch)
        return [batch[0]][1]

    assert loop.go(3) is None
    with pytest.raises(IndexError) as caught:
        loop.recorder.run(careless, loop.batch())
    assert "before step 4" in caught.value.__notes__[0]
    assert loop.recorder.step == 4
    assert same(loop.state(), copied)
    assert loop.go(3) is None


@pytest.mark.parametrize("returned", [True, False])
def test_a_loss_that_is_not_returned_is_compared_all_the_same(returned):
    loop: Any = Loop(8)
    counted = counting(loop, itertools.count(1))

    def step(batch: tuple[Tensor, Tensor]) -> Tensor | None:
        loss = counted(batch)
        return loss if returned else None

    loop.step = step
    first = loop.state()
    assert loop.go(5) is None
    incident = loop.go(1, bad=True)
    assert incident is not None
    assert incident.cause == "not-made-again"
    assert same(loop.state(), first)


def test_steps_without_a_loss_are_copied_each():
    model = nn.Linear(3, 1)
    recorder = FlightRecorder(model, None, interval=8)

    def step(batch: Tensor) -> None:
        with torch.no_grad():
            model.weight.add_(0.1 * batch.mean())

    for _ in range(5):
        assert recorder.run(step, torch.randn(4, 3)) is None
    assert all(one.snapshot is not None for one in list(recorder.session.history.kept)[1:])
    assert recorder.pace.every == 1


def test_an_interrupt_within_a_step_is_undone_too():
    loop = Loop(6)
    assert loop.go(4) is None
    before = loop.state()

    def interrupted(batch: tuple[Tensor, Tensor]) -> Tensor:
        loop.step(batch)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.recorder.run(interrupted, loop.batch())
    assert same(loop.state(), before)


def test_a_batch_whose_memory_is_used_again_is_made_again_as_it_was():
    loop, memory = Loop(6), torch.zeros(8, 6)
    real = loop.batch

    def batch(bad: bool = False) -> tuple[Tensor, Tensor]:
        x, y = real(bad)
        return memory.copy_(x), y

    loop.batch = batch
    assert loop.go(4) is None
    before = loop.state()
    incident = loop.go(1, bad=True)
    assert incident.replay == "bit-exact"
    assert same(loop.state(), before)
    assert torch.isnan(memory[3, 2])


def test_the_budget_sets_how_often_the_state_is_copied():
    dear, cheap, fixed = Pace(0.02, None, None), Pace(0.02, None, None), Pace(0.02, 1, None)
    for _ in range(100):
        dear.told_time(0.1, 0.1)
        cheap.told_time(0.001, 0.1)
        fixed.told_time(0.1, 0.1)
    assert (dear.every, cheap.every, fixed.every) == (64, 1, 1)
    dear.told_time(0.1, 4.0)  # a fault is explained after the steps since the copy have been made again
    assert dear.every == 2
    large = Pace(0.02, None, None)
    large.told_size(100 << 20, 1 << 19)
    assert (large.every, large.depth, large.copies) == (8, 2, 2)
    large.told_size(100 << 20, 1 << 19, 30 << 20)  # two copies with so large gradients would be too many
    assert large.copies == 1
    fat = Pace(0.02, None, None)
    fat.told_size(100 << 20, 100 << 20)  # batches that are as large: nothing can be kept
    assert fat.every == 1
