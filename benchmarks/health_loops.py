"""Four ways to guard a training loop that is not ours, each hooked in where people hook it in, around the same step.

Every guard replaces what the loop has of its own (its knobs `guard` and `skip` are off), so that each is judged alone.
A guard that raises is caught outside and the batch given up, the kindest thing to do after it: as it is mostly used,
the run ends there.
"""

from __future__ import annotations

import functools
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from az.train.health import FlightRecorder, Incident

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import foreign_loops
from foreign_loops import Loop


@dataclass
class Told:
    """What a guard said of a step. lines: file:line that a reader is led to."""

    text: str
    op: str = ""
    rows: list[int] = field(default_factory=list)
    line: str = ""
    replay: str = ""


class Guard:
    """`step` runs one step of the loop; None where the guard has nothing to say."""

    about = ""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        loop.knobs -= {"guard", "skip"}

    def step(self, batch: Any) -> Told | None:
        try:
            with self.watching():
                self.loop.step(batch)
        except (FloatingPointError, RuntimeError) as error:
            return Told(str(error), line=_innermost(traceback.format_exc()))
        return None

    @contextmanager
    def watching(self) -> Generator[None]:
        """Whatever must be in place while the step runs."""
        yield


class FiniteLoss(Guard):
    """`if not torch.isfinite(loss): raise`, its best place: between loss and backward, before a gradient scaler.

    For a loop that adds up gradients: every part's loss.
    """

    about = "finite loss or raise"

    @contextmanager
    def watching(self) -> Generator[None]:
        backward, scale = torch.Tensor.backward, torch.amp.GradScaler.scale

        def look(loss: torch.Tensor) -> None:
            if not torch.isfinite(loss).all():
                raise FloatingPointError(f"the loss is {float(loss.detach())}")

        def checked(loss: torch.Tensor, *arguments: Any, **named: Any) -> None:
            if not hasattr(loss, "was_looked_at"):
                look(loss)
            backward(loss, *arguments, **named)

        def scaled(scaler: Any, loss: Any) -> Any:
            look(loss)
            result = scale(scaler, loss)
            result.was_looked_at = True  # a scale may overflow while it is found: that is the scaler's affair
            return result

        with ExitStack() as stack:
            stack.enter_context(patch.object(torch.Tensor, "backward", checked))
            stack.enter_context(patch.object(torch.amp.GradScaler, "scale", scaled))
            yield


class Anomaly(Guard):
    """`torch.autograd.set_detect_anomaly(True)` around the step; it raises where backward makes a NaN.

    Its message names the autograd function, its warning the line of forward: the innermost of them is taken.
    """

    about = "autograd's anomaly mode"

    def step(self, batch: Any) -> Told | None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            told = super().step(batch)
        if told is not None:
            found = re.search(r"Function '(\w+)'", told.text)
            told.op = found.group(1) if found else ""
            forward = [_innermost(str(w.message)) for w in caught if "Traceback of forward" in str(w.message)]
            told.line = next((line for line in forward if line), told.line)
        return told

    @contextmanager
    def watching(self) -> Generator[None]:
        with torch.autograd.set_detect_anomaly(True):
            yield


class SkipGradients(Guard):
    """optax.apply_if_finite, GradScaler, Megatron: where any gradient is not finite the optimizer's step is left out.

    The scheduler rests with it, as accelerate does. A loop that has a gradient scaler leaves that to the scaler, whose
    scale says afterwards that it did.
    """

    about = "skip where gradients are not finite"

    def __init__(self, loop: Loop) -> None:
        super().__init__(loop)
        self.skipped = False

    def step(self, batch: Any) -> Told | None:
        self.skipped = False
        scaler = getattr(self.loop, "scaler", None)
        scale = scaler.get_scale() if scaler is not None else 0.0
        with self.watching():
            self.loop.step(batch)
        if scaler is not None and scaler.get_scale() < scale:
            self.skipped = True
        return Told("a gradient is not finite: the optimizer's step was skipped") if self.skipped else None

    @contextmanager
    def watching(self) -> Generator[None]:
        optimizer, scheduler = self.loop.optimizer, getattr(self.loop, "scheduler", None)

        def unless_bad(step: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(step)
            def call(*arguments: Any, **named: Any) -> Any:
                grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
                self.skipped = not all(bool(torch.isfinite(grad).all()) for grad in grads)
                return None if self.skipped else step(*arguments, **named)

            return call

        def rests(step: Callable[..., Any]) -> Callable[..., Any]:
            return lambda *arguments: None if self.skipped else step(*arguments)

        with ExitStack() as stack:
            stack.enter_context(patch.object(optimizer, "step", unless_bad(optimizer.step)))
            if scheduler is not None:
                stack.enter_context(patch.object(type(scheduler), "step", rests(type(scheduler).step)))
            yield


class Recorder(Guard):
    """az's FlightRecorder."""

    about = "az's flight recorder"

    def __init__(self, loop: Loop) -> None:
        super().__init__(loop)
        self.recorder = FlightRecorder(loop.model, loop.optimizer, loop.also)
        self.incident: Incident | None = None

    def step(self, batch: Any) -> Told | None:
        found = self.incident = self.recorder.run(self.loop.step, batch)
        if found is None:
            return None
        return Told(str(found), found.op or "", found.rows, found.source or "", found.replay)


GUARDS: dict[str, type[Guard]] = {
    "finite loss": FiniteLoss,
    "anomaly mode": Anomaly,
    "skip gradients": SkipGradients,
    "az": Recorder,
}


def _innermost(text: str) -> str:
    """The last line of the loops' file in a traceback."""
    file = str(foreign_loops.__file__)
    found = re.findall(rf'File "{re.escape(file)}", line (\d+)', text)
    return f"{file}:{found[-1]}" if found else ""


def same_operation(said: str, meant: str) -> bool:
    """Whether `LogBackward0` or `aten::log` names `aten::log`: forward and backward of one operation are one name."""

    def plain(name: str) -> str:
        return re.sub(r"backward\d*$", "", name.removeprefix("aten::").replace("_", "").lower())

    return bool(said) and plain(said) == plain(meant)
