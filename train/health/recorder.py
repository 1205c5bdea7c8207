"""The flight recorder: runs a training step so that a fault in it leaves no trace, and names the fault.

It knows nothing of az: any PyTorch loop can use it.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from az.train.health.diagnosis import explained
from az.train.health.extra_state import same_bits
from az.train.health.history import Step
from az.train.health.incident import Incident
from az.train.health.replay import Diagnosis, legal_overflow
from az.train.health.session import Session
from az.train.health.snapshot import Snapshot
from az.train.health.trace.loss_roots import noted_roots
from az.train.health.trace.pytree import left_alone

StepFunction = Callable[[Any], Any]
MOST_DEPTH, MOST_MEMORY = 8, 256 << 20  # steps that can be undone, and the bytes that their copies may take


class FlightRecorder:
    """Keeps the state from before each step; puts it back and says what was wrong when a number goes bad.

        recorder = FlightRecorder(model, optimizer, extra_state=[scheduler, scaler])
        incident = recorder.run(step, batch)  # None: all is well

    optimizer: one, a list of them, or None. extra_state: whatever else a step changes: schedulers, scalers, averages,
    generators, tensors, dicts, lists (`also` is its old name). depth: how many earlier steps can be undone (`rewind`)
    and searched for a cause that came before its effect; each costs a copy of the state (default: 8, fewer where they
    exceed 256 MiB).
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer] | None,
        extra_state: Sequence[Any] = (),
        *,
        depth: int | None = None,
        also: Sequence[Any] = (),
    ) -> None:
        self.session = Session(model, optimizer, [*extra_state, *also], depth or 0)
        self.step = 0  # number of the next step; may be set
        self.value: Any = None  # what the last step returned
        self.error: Exception | None = None  # what the last step raised, when that was the fault
        self._depth = depth
        self._has_begun = False
        self._free: Snapshot | None = None

    @property
    def flight(self) -> Session:
        """The old name of `session`, for one version."""
        return self.session

    def run(self, step: StepFunction, batch: Any) -> Incident | None:
        """Run `step(batch)`. None when all is well; else everything is as it was before, and this is the incident.

        An exception of the step that no bad number explains is raised again, with everything as it was before.
        """
        modes = torch.is_grad_enabled(), torch.get_num_threads()
        try:
            return self._run(step, batch)
        except BaseException:  # a signal may raise where a context is left, before it has cleaned up
            torch.set_grad_enabled(modes[0])
            torch.set_num_threads(modes[1])
            raise

    def _run(self, step: StepFunction, batch: Any) -> Incident | None:
        number, self.step = self.step, self.step + 1
        if not self._has_begun:
            self._has_begun = True
            self._say_what_is_left_alone(batch)
        python = self.session.python.read(step)
        before = self.session.snapshotter.take(batch, self._free)
        self._free = None
        if self._depth is None:
            self._depth = self.session.history.depth = max(1, min(MOST_DEPTH, MOST_MEMORY // max(1, before.bytes())))
        value, error, roots = None, None, list[Tensor]()
        try:
            with noted_roots() as roots:
                value = step(batch)
        except Exception as raised:  # a guard of the user's own may have met the bad number first
            error = raised
        except BaseException:
            self.session.snapshotter.put_back(before)
            raise
        self.value, self.error = value, None
        try:
            seen = self.session.look(before, value, error)
        except BaseException:  # such as a kind of number that torch cannot add up
            self.session.snapshotter.put_back(before)
            raise
        harm = seen.harm | self.session.harm_of(roots)
        if not harm:
            loss = seen.loss
            rates = self.session.rates()
            self._free = self.session.history.add(
                Step(number, rates, seen.update, seen.weights, loss, before, batch, step, python)
            )
            return None
        return self._handle(Diagnosis(self.session, step, batch, before, value, error, number, harm, python))

    def rewind(self, step: int) -> bool:
        """Put back the state from before an earlier step; False when it is no longer kept."""
        found = self.session.history.at(step)
        if found is None or found.snapshot is None:
            return False
        self.session.snapshotter.put_back(found.snapshot)
        self.session.history.forget_from(step)
        self.step = step
        return True

    def _handle(self, found: Diagnosis) -> Incident | None:
        begun = time.perf_counter()
        try:
            if self._is_no_fault(found):
                found.restore_end()
                self._free = found.before
                return None
            incident = explained(found)
        except BaseException:  # a signal
            found.finish()
            raise
        found.finish()
        self._free = found.before
        if incident is None:
            assert found.error is not None
            raise found.error
        self.error = found.error
        incident.seconds = time.perf_counter() - begun
        return incident

    def _is_no_fault(self, found: Diagnosis) -> bool:
        """Whether the harm is what the step is meant to do: an overflow for the scaler, a batch written in place."""
        try:
            found.keep_end()
            if self.session.scalers and found.harm == {"gradients"} and found.error is None and legal_overflow(found):
                return True  # the scaler saw it, skipped the step and lowered its scale: that is its work
            if found.harm == {"batch"} and self._step_changes_batch(found):
                self.session.changes_batch = True
                return True
        except Exception:  # an error of ours: `explained` says what was detected
            return False
        return False

    def _say_what_is_left_alone(self, batch: Any) -> None:
        """Once, at the first step: what can be neither restored nor checked."""
        names = [*left_alone(batch), *self.session.left_alone()]
        if names:
            shown = ", ".join(names[:6])
            warnings.warn(f"the recorder can neither restore nor check, and leaves alone: {shown}", stacklevel=4)

    def _step_changes_batch(self, found: Diagnosis) -> bool:
        """Whether the step itself writes its batch, the same way each time."""
        left = [kept for _, kept in found.end_batch]
        found.again()
        return all(same_bits(leaf, kept) for (leaf, _), kept in zip(found.before.batch, left, strict=True))
