"""The flight recorder on loops that are not ours: faults named and undone to the bit, controls kept silent."""

from __future__ import annotations

import math
import random
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from foreign_loops import AttentionLoop, ConvLoop, Loop, RecurrentLoop, line, same
from torch import nn

from az.train.health import FlightRecorder, Incident

torch.set_num_threads(1)
NAN, INF = math.nan, math.inf


@dataclass
class Fault:
    """inject(loop, batch) spoils one step and may return how to undo what it did to the loop."""

    make: Callable[[], Loop]
    inject: Callable[[Any, Any], Callable[[], None] | None]
    plane: str
    cause: str
    phase: str
    op: str | tuple[str, ...] | None
    module: str | None
    source: str | None  # the name of a line
    rows: list[int] = field(default_factory=list)
    replay: str = "bit-exact"
    finite: bool | None = True  # of the counterfactual; None: there is none
    at: int = -1  # the step; -1: drawn from the name


def put(name: str, value: float, *index: Any) -> Callable[[Any, Any], None]:
    """Writes one number into a field of the batch."""

    def inject(_: Any, batch: Any) -> None:
        leaf = batch[name] if isinstance(batch, dict) else batch[int(name)] if name.isdigit() else getattr(batch, name)
        leaf[index] = value

    return inject


def rate(value: float) -> Callable[[Any, Any], Callable[[], None]]:
    def inject(loop: Loop, _: Any) -> Callable[[], None]:
        group = loop.optimizer.param_groups[0]
        old, group["lr"] = group["lr"], value
        return lambda: group.__setitem__("lr", old)

    return inject


def factor(value: float) -> Callable[[Any, Any], Callable[[], None]]:
    def inject(loop: Any, _: Any) -> Callable[[], None]:
        loop.factor = value
        return lambda: setattr(loop, "factor", 1.0)

    return inject


def same_anchor(_: Any, batch: Any) -> None:
    """A row whose distance is exactly 0."""
    batch["bonus"][2] = -1.0


def scaled(name: str, value: float, row: int) -> Callable[[Any, Any], None]:
    def inject(_: Any, batch: Any) -> None:
        leaf = batch[name] if isinstance(batch, dict) else batch[int(name)] if name.isdigit() else getattr(batch, name)
        leaf[(slice(None), row) if name in ("x", "y") and not isinstance(batch, dict) else row] *= value

    return inject


def once(action: Callable[[Any, Any], None]) -> Callable[[Any, Any], Callable[[], None]]:
    """Something that happens in the middle of the step, one time only: not when it is run again."""

    def inject(loop: Any, _: Any) -> Callable[[], None]:
        left = [1]

        def during(loop: Any, batch: Any) -> None:
            if left:
                left.pop()
                action(loop, batch)

        loop.during = during
        return lambda: setattr(loop, "during", None)

    return inject


def flip_a_bit(loop: Any, _: Any) -> None:
    weight = loop.model.bn1.weight.data
    weight[int(weight.argmax())].view(torch.int32).bitwise_xor_(1 << 30)  # of a number just above 1: NaN


def from_a_thread(_: Any, batch: Any) -> None:
    def overwrite() -> None:
        (batch[1] if isinstance(batch, tuple) else batch.y.T)[5] = NAN

    thread = threading.Thread(target=overwrite)
    thread.start()
    thread.join()


def weights_times(value: float) -> Callable[[Any, Any], Callable[[], None]]:
    def inject(loop: Any, _: Any) -> Callable[[], None]:
        weight = loop.model.conv1.weight
        old = weight.detach().clone()
        weight.data.mul_(value)

        def undo() -> None:
            weight.data.copy_(old)

        return undo

    return inject


def loud(loop: Any, batch: Any) -> Callable[[], None]:
    batch[0][2] *= 6e3
    return weights_times(40)(loop, batch)


def black(_: Any, batch: Any) -> None:
    batch[0].zero_()


def hidden(_: Any, batch: Any) -> None:
    batch["bonus"][4] = 0.0


ATTENTION = {
    "a row holds NaN": Fault(
        AttentionLoop, put("x", NAN, 3, 1, 2), "data", "batch-not-finite", "data", "aten::addmm", "embed", "embed", [3]
    ),
    "a target is inf": Fault(
        AttentionLoop, put("score", INF, 6), "data", "batch-not-finite", "data", "aten::sub", None, "score", [6]
    ),
    "a row is 1e25 times too large": Fault(
        lambda: AttentionLoop("finite mask"), scaled("x", 1e25, 5), "data", "batch-value-out-of-range", "data",
        None, None, None, [5],
    ),
    "softmax reaches 0 under a logarithm": Fault(
        AttentionLoop, put("temperature", 1e-5, 2), "loss", "log-of-zero", "loss", "aten::log", None, "log", [2]
    ),
    "a row is nothing but padding": Fault(
        AttentionLoop, put("pad", 1, 1), "forward", "softmax-of-nothing", "forward", "aten::_softmax",
        "blocks.0.attention", "attention", [1],
    ),
    "0/0 in the pooling of a row of padding": Fault(
        lambda: AttentionLoop("finite mask", "guard"), put("pad", 1, 7), "loss", "zero-over-zero", "loss", "aten::div",
        None, "pool", [7],
    ),
    "a root at 0": Fault(
        lambda: AttentionLoop("distance", "clip"), same_anchor, "backward", "gradient-at-singularity", "backward",
        "SqrtBackward0", None, "distance", [2],
    ),
    "a power at 0": Fault(
        lambda: AttentionLoop("power"), put("bonus", 0.0, 3), "backward", "gradient-at-singularity", "backward",
        "PowBackward0", None, "power", [3],
    ),
    "NaN that where hides in forward": Fault(
        lambda: AttentionLoop("where", "clip"), hidden, "backward", "gradient-at-singularity", "backward",
        "LogBackward0", None, "where", [4],
    ),
    "an exponential overflows": Fault(
        lambda: AttentionLoop("exp"), put("bonus", 500.0, 0), "loss", "exp-overflow", "loss", "aten::exp", None, "exp",
        [0],
    ),
    "the learning rate is NaN": Fault(
        AttentionLoop, rate(NAN), "schedule", "learning-rate-not-finite", "optimizer", None, None, None
    ),
    "a burst of the gradient": Fault(
        AttentionLoop, factor(1e25), "optimizer", "second-moment-overflow", "optimizer", None, None, None
    ),
}  # fmt: skip

CONV = {
    "a row holds inf": Fault(
        ConvLoop, put("0", INF, 2, 1, 3, 3), "data", "batch-not-finite", "data", None, None, None, [2]
    ),
    "a target is NaN": Fault(
        ConvLoop, put("1", NAN, 4), "data", "batch-not-finite", "data", "aten::sub", None, "square", [4]
    ),
    "a row is 1e25 times too large": Fault(
        ConvLoop, scaled("0", 1e25, 6), "data", "batch-value-out-of-range", "data", None, None, None, [6]
    ),
    "float16 weights overflow": Fault(
        lambda: ConvLoop(half=torch.float16), weights_times(1e6), "forward", "half-overflow", "forward",
        "aten::_to_copy", "conv1", "first",
    ),
    "float16 activations overflow": Fault(
        lambda: ConvLoop(half=torch.float16), loud, "forward", "half-overflow", "forward",
        ("aten::mkldnn_convolution", "aten::convolution"), "conv1", "first", [2],
    ),
    "a custom function's backward divides 0 by 0": Fault(
        lambda: ConvLoop("even"), put("2", 0.0, 3), "backward", "zero-over-zero", "backward", "EvenBackward", None,
        "even", [3],
    ),
    "a constant image is normalised": Fault(
        lambda: ConvLoop("standard"), put("0", 0.5, 1), "forward", "zero-over-zero", "data", "aten::div", None, "std",
        [1],
    ),
    "a bit of a weight flips during the step": Fault(
        ConvLoop, once(flip_a_bit), "hardware", "not-reproducible", "", None, None, None,
        replay="not reproducible",
    ),
    "a thread overwrites the batch": Fault(
        ConvLoop, once(from_a_thread), "loader", "batch-changed-under-the-step", "data", None, None, None, [5],
        replay="not reproducible", finite=None,
    ),
    "a buffer divides by 0": Fault(
        lambda: ConvLoop("brightness"), black, "forward", "zero-over-zero",
        "data", "aten::div", None, "light",
    ),
    "the loop skips, batch norm does not": Fault(
        lambda: ConvLoop("skip"), put("0", NAN, 0, 0, 0, 0), "data", "batch-not-finite", "data", None, "conv1", "first",
        [0],
    ),
}  # fmt: skip

RECURRENT = {
    "a row holds NaN": Fault(
        RecurrentLoop, put("x", NAN, 2, 6, 1), "data", "batch-not-finite", "data", None, "core", "core", [6]
    ),
    "a target is inf": Fault(
        RecurrentLoop, put("y", INF, 0, 3), "data", "batch-not-finite", "data", "aten::sub", None, "error", [3]
    ),
    "a row is 1e25 times too large": Fault(
        lambda: RecurrentLoop("lstm"), scaled("y", 1e25, 5), "data", "batch-value-out-of-range", "data", None, None,
        None, [5],
    ),
    "a length is 0": Fault(
        RecurrentLoop, put("length", 0, 6), "loss", "zero-over-zero", "loss", "aten::div", None, "error", [6]
    ),
    "a length is 0 in the half whose loss is not returned": Fault(
        lambda: RecurrentLoop("last"), put("length", 0, 1), "loss", "zero-over-zero", "loss", "aten::div", None,
        "error", [1],
    ),
    "the learning rate is inf": Fault(
        lambda: RecurrentLoop(optimizer=torch.optim.SGD), rate(INF), "schedule", "learning-rate-not-finite",
        "optimizer", None, None, None,
    ),
    "a burst of the gradient, RMSprop": Fault(
        lambda: RecurrentLoop(optimizer=torch.optim.RMSprop, lr=1e-3), factor(1e25), "optimizer",
        "second-moment-overflow", "optimizer", None, None, None,
    ),
    "a thread overwrites the batch": Fault(
        lambda: RecurrentLoop("skip"), once(from_a_thread), "loader", "batch-changed-under-the-step", "data", None,
        None, None, [5], replay="not reproducible", finite=None,
    ),
    "the loop skips, the carried state does not": Fault(
        lambda: RecurrentLoop("skip", "lstm"), put("x", INF, 4, 1, 0), "data", "batch-not-finite", "data", None, "core",
        "core", [1],
    ),
}  # fmt: skip
FAULTS = [
    pytest.param(name, fault, id=f"{kind}: {name}")
    for kind, faults in (("attention", ATTENTION), ("conv", CONV), ("recurrent", RECURRENT))
    for name, fault in faults.items()
]


def recorder_of(loop: Loop, **options: Any) -> FlightRecorder:
    return FlightRecorder(loop.model, loop.optimizer, loop.also, **options)


def agree(incident: Incident, fault: Fault, at: int) -> None:
    """Everything that a fault's entry says, exactly."""
    told = str(incident)
    assert (incident.plane, incident.cause) == (fault.plane, fault.cause), told
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
    loop, twin = fault.make(), None
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
    twin = fault.make()  # never had the bad batch
    for number in (*range(at), *range(at + 1, at + 5)):
        twin.step(twin.batch(number))
    assert same(ended, twin.everything()), "it does not go on as if nothing had happened"


# -- faults that show later, and faults of the first step --------------------------------------------------------------


def test_a_spike_of_the_learning_rate_is_found_where_it_was():
    """The weights are blown up at one step and the loss overflows at a later one."""
    loop = RecurrentLoop(optimizer=torch.optim.SGD, lr=0.3)
    recorder = recorder_of(loop)
    for number in range(10):
        assert recorder.run(loop.step, loop.batch(number)) is None
    clean = loop.everything()
    loop.optimizer.param_groups[0]["lr"] = 1e18
    incident, number = None, 10
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
    assert (incident.plane, incident.cause) == ("schedule", "learning-rate-spike"), told
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
    assert (incident.plane, incident.cause, incident.causal_step) == ("hardware", "not-reproducible", 12), told
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
    assert (incident.plane, incident.cause) == ("optimizer", "second-moment-overflow"), str(incident)
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
    assert (incident.plane, incident.cause, incident.module) == ("hardware", "changed-outside-the-step", "head"), told
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
    assert (incident.plane, incident.cause, incident.module) == ("hardware", "changed-outside-the-step", "bn2"), told


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
    assert (incident.plane, incident.cause, incident.phase) == ("buffers", "variance-of-one-value", "buffers"), told
    assert incident.op in ("aten::native_batch_norm", "aten::_native_batch_norm_legit"), told


# -- what must stay silent ---------------------------------------------------------------------------------------------


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
    loop, twin = make(), make()
    silent(loop, 60)
    recorded = loop.everything()
    torch.manual_seed(7), np.random.seed(7), random.seed(7)
    twin = make()
    for number in range(60):
        twin.step(twin.batch(number))
    assert same(recorded, twin.everything())


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

    silent(loop, 100, change)


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
