"""Faults for loops that are not ours: how each is put in, and what must be said of it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from foreign_loops import AttentionLoop, ConvLoop, Loop, RecurrentLoop

from az.train.health import FlightRecorder

torch.set_num_threads(1)
NAN, INF = math.nan, math.inf


@dataclass
class Fault:
    """inject(loop, batch) spoils one step and may return how to undo what it did to the loop."""

    make: Callable[[], Loop]
    inject: Callable[[Any, Any], Callable[[], None] | None]
    stage: str
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


def recorder_of(loop: Loop, **options: Any) -> FlightRecorder:
    return FlightRecorder(loop.model, loop.optimizer, loop.also, **options)
