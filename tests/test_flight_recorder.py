"""The flight recorder on loops that are not ours: faults named and undone to the bit."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from foreign_faults import ATTENTION, CONV, INF, NAN, RECURRENT, Fault, factor, once, put, recorder_of
from foreign_loops import AttentionLoop, ConvLoop, RecurrentLoop, line, same
from torch import nn

from az.train.health import FlightRecorder, Incident

torch.set_num_threads(1)
FAULTS = [
    pytest.param(name, fault, id=f"{kind}: {name}")
    for kind, faults in (("attention", ATTENTION), ("conv", CONV), ("recurrent", RECURRENT))
    for name, fault in faults.items()
]


def agree(incident: Incident, fault: Fault, at: int) -> None:
    """Everything that a fault's entry says, exactly."""
    told = str(incident)
    assert (incident.stage, incident.cause) == (fault.stage, fault.cause), told
    assert fault.phase in ("", incident.phase), told
    assert (incident.first_bad_step, incident.causal_step, incident.replay) == (at, at, fault.replay), told
    if fault.op is not None:
        assert incident.op in ((fault.op,) if isinstance(fault.op, str) else fault.op), told
    if fault.module is not None or fault.phase == "loss":
        assert incident.module == fault.module, told
    if fault.source is not None:
        assert incident.source == line(fault.source), told
    assert incident.rows == fault.rows, told
    if fault.finite is None:
        assert incident.counterfactual is None, told
    else:
        assert incident.counterfactual is not None, told
        assert incident.counterfactual["finite"] is fault.finite, told
    assert Incident.from_json(incident.to_json()) == incident


@pytest.mark.parametrize(("name", "fault"), FAULTS)
def test_a_fault_is_named_and_leaves_no_trace(name, fault):
    at = int(np.random.default_rng(list(name.encode())).integers(3, 12)) if fault.at < 0 else fault.at
    loop, variant = fault.make(), None
    recorder = recorder_of(loop)
    for number in range(at):
        assert recorder.run(loop.step, loop.batch(number)) is None, (number, name)
    bad = loop.batch(at)
    undo = fault.inject(loop, bad)
    before = loop.everything()
    incident = recorder.run(loop.step, bad)
    assert incident is not None
    assert same(before, loop.everything()), "not everything is back"
    if undo:
        undo()
    agree(incident, fault, at)
    for number in range(at + 1, at + 5):
        assert recorder.run(loop.step, loop.batch(number)) is None
    ended = loop.everything()
    variant = fault.make()  # never had the bad batch
    for number in (*range(at), *range(at + 1, at + 5)):
        variant.step(variant.batch(number))
    assert same(ended, variant.everything()), "it does not go on as if nothing had happened"


# -- faults that show later, and faults of the first step --------------------------------------------------------------


def test_a_spike_of_the_learning_rate_is_found_where_it_was():
    """The weights are blown up at one step and the loss overflows at a later one."""
    loop = RecurrentLoop(optimizer=torch.optim.SGD, lr=0.3)
    recorder = recorder_of(loop)
    for number in range(10):
        assert recorder.run(loop.step, loop.batch(number)) is None
    clean = loop.everything()
    loop.optimizer.param_groups[0]["lr"] = 1e18
    incident, before, number = None, clean, 10
    while incident is None and number < 20:
        before = loop.everything()
        incident = recorder.run(loop.step, loop.batch(number))
        loop.optimizer.param_groups[0]["lr"] = 0.3
        before[1]["param_groups"][0]["lr"] = 0.3
        number += 1
    assert incident is not None
    told = str(incident)
    assert number > 11, told
    assert same(before, loop.everything())
    assert (incident.stage, incident.cause) == ("schedule", "learning-rate-spike"), told
    assert (incident.causal_step, incident.first_bad_step, incident.replay) == (10, number - 1, "bit-exact"), told
    assert incident.counterfactual == {"repair": "step 10 at the usual learning rate", "finite": True}, told
    assert recorder.rewind(incident.causal_step)
    loop.optimizer.param_groups[0]["lr"] = 0.3
    assert same(clean, loop.everything())
    assert recorder.step == 10
    assert recorder.run(loop.step, loop.batch(10)) is None


def test_a_flipped_bit_that_shows_a_step_later_is_found_where_it_was():
    """The weight is finite, only 1e37: the step after it overflows, and the one before cannot be reproduced."""
    loop = RecurrentLoop()

    def flip(loop: Any, _: Any) -> None:
        loop.model.head.weight.data.view(torch.int32)[0, 3].bitwise_xor_(1 << 30)

    recorder = recorder_of(loop)
    for number in range(12):
        assert recorder.run(loop.step, loop.batch(number)) is None
    clean = loop.everything()
    undo = once(flip)(loop, None)
    assert recorder.run(loop.step, loop.batch(12)) is None
    before = loop.everything()
    incident = recorder.run(loop.step, loop.batch(13))
    assert incident is not None
    told = str(incident)
    assert same(before, loop.everything())
    assert (incident.stage, incident.cause, incident.causal_step) == ("hardware", "not-reproducible", 12), told
    assert (incident.first_bad_step, incident.replay) == (13, "not reproducible"), told
    undo()
    assert recorder.rewind(12)
    assert same(clean, loop.everything())


@pytest.mark.parametrize("first", [AttentionLoop, ConvLoop, RecurrentLoop])
def test_the_first_step_of_all_may_be_the_bad_one(first):
    """The optimizer has no state yet, the scaler no scale: there must be none afterwards."""
    loop = first()
    bad = loop.batch(0)
    put("x" if first is not ConvLoop else "0", NAN, 1, 1, 1)(loop, bad)
    before = loop.everything()
    incident = recorder_of(loop).run(loop.step, bad)
    assert incident is not None
    assert same(before, loop.everything())
    assert (incident.cause, incident.rows, incident.first_bad_step) == ("batch-not-finite", [1], 0), str(incident)


@pytest.mark.parametrize("make", [RecurrentLoop, lambda: RecurrentLoop(optimizer=torch.optim.RMSprop)])
def test_a_burst_in_the_first_step_is_named_too(make):
    loop = make()
    factor(1e25)(loop, None)
    before = loop.everything()
    incident = recorder_of(loop).run(loop.step, loop.batch(0))
    assert incident is not None
    assert same(before, loop.everything())
    assert (incident.stage, incident.cause) == ("optimizer", "second-moment-overflow"), str(incident)
    assert incident.counterfactual == {"repair": "gradients are clipped to a norm of 1", "finite": True}


def test_weights_spoiled_between_two_steps_are_not_blamed_on_the_step():
    loop = AttentionLoop()
    recorder = recorder_of(loop)
    for number in range(3):
        assert recorder.run(loop.step, loop.batch(number)) is None
    with torch.no_grad():
        loop.model.head.weight[2, 3] = NAN
    before = loop.everything()
    incident = recorder.run(loop.step, loop.batch(3))
    assert incident is not None
    told = str(incident)
    assert same(before, loop.everything())
    assert (incident.stage, incident.cause, incident.module) == ("hardware", "changed-outside-the-step", "head"), told
    assert incident.source == line("head"), told


def test_averages_spoiled_between_two_steps_are_seen_although_training_does_not_read_them():
    loop = ConvLoop()
    recorder = recorder_of(loop)
    for number in range(3):
        assert recorder.run(loop.step, loop.batch(number)) is None
    assert loop.model.bn2.running_var is not None
    loop.model.bn2.running_var[1] = INF
    incident = recorder.run(loop.step, loop.batch(3))
    assert incident is not None
    told = str(incident)
    assert (incident.stage, incident.cause, incident.module) == ("hardware", "changed-outside-the-step", "bn2"), told


def test_an_error_that_no_number_explains_is_raised_and_everything_is_back():
    loop = ConvLoop()
    recorder = recorder_of(loop)
    assert recorder.run(loop.step, loop.batch(0)) is None

    def step(batch: Any) -> None:
        loop.step(batch)
        random.random()
        raise KeyError("of the user's own")

    before = loop.everything()
    with pytest.raises(KeyError):
        recorder.run(step, loop.batch(1))
    assert same(before, loop.everything())


def test_batch_norm_over_one_value_is_named():
    """nn.BatchNorm2d refuses by itself; the function underneath does not."""
    model = nn.BatchNorm1d(3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(x: torch.Tensor) -> torch.Tensor:
        out = torch.batch_norm(
            x, model.weight, model.bias, model.running_mean, model.running_var, True, 0.1, 1e-5, False
        )
        optimizer.zero_grad()
        out.square().sum().backward()
        optimizer.step()
        return out.sum()

    recorder = FlightRecorder(model, optimizer)
    assert recorder.run(step, torch.randn(4, 3)) is None
    before = {k: v.clone() for k, v in model.state_dict().items()}
    incident = recorder.run(step, torch.randn(1, 3))
    assert incident is not None
    told = str(incident)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert (incident.stage, incident.cause, incident.phase) == ("buffers", "variance-of-one-value", "buffers"), told
    assert incident.op in ("aten::native_batch_norm", "aten::_native_batch_norm_legit"), told


# -- what must stay silent ---------------------------------------------------------------------------------------------
