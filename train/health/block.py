"""`with recorder.step(batch): …` around the lines of an ordinary loop."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any, Self

from torch import Tensor

from .causes import CAUSES
from .incident import Incident
from .loops import Policy
from .replay import Diagnosis
from .trace.loss_roots import noted_roots
from .trace.operands import measure
from .trace.pytree import as_tensor, is_finite, leaves
from .trace.rows import bad_rows_in
from .trace.with_body import body_of
from .transient import not_explained


class StepNumber(int):
    """The number of the next step. Called, it gives the context of one step: `with recorder.step(batch): …`."""

    begin: Any = None  # a callable that gives the block; `__new__` sets it

    def __new__(cls, number: int, begin: Callable[..., Block]) -> Self:
        made = super().__new__(cls, number)
        made.begin = begin
        return made

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        """A copy is a plain number."""
        return int, (int(self),)

    def __call__(self, batch: Any = None, on_fault: str = "skip", say: Callable[[str], None] = print) -> Block:
        """The context of one step. Raises ValueError for another policy than skip, rewind or stop.

        batch: whatever the lines read. A fault is undone when they have ended: it is said, `incident` holds it, and
        the loop goes on behind the block; `on_fault="stop"` raises FaultFound, and so do three faults in a row.
        """
        return self.begin(batch, on_fault, say)


class Block:
    """The context of one step; afterwards `incident` is None where all is well."""

    def __init__(self, recorder: Any, batch: Any, on_fault: str, say: Callable[[str], None]) -> None:
        self.incident: Incident | None = None
        self._recorder, self._batch = recorder, batch
        kept = recorder.policy
        if kept is None or kept.on_fault != on_fault:
            kept = recorder.policy = Policy(recorder, on_fault, say)
        kept.say = say
        self._policy: Policy = kept
        self._running: Any = None
        self._stack = ExitStack()
        self._roots: list[Tensor] = []

    def __enter__(self) -> Block:
        found = body_of(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]
        step = None if found is None else partial(found.run, **found.values)
        self._running = self._recorder.start(step, self._batch)
        self._roots = self._stack.enter_context(noted_roots(self._recorder.ranks.told_root))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """True, which takes an error back, only where a bad number explains it and everything was undone."""
        try:
            self._stack.close()
            if error is not None and not isinstance(error, Exception):
                self._recorder.abandon(self._running)
                return False
            self.incident = self._recorder.finish(self._running, None, error, self._roots)
        except Exception as raised:
            if raised is error:
                return False  # the user's own: it goes on as it came
            raise
        except BaseException:  # a signal
            self._recorder.abandon(self._running)
            raise
        self._running = None
        self._policy.after(self.incident)
        return error is not None


def not_run_again(found: Diagnosis) -> Incident | None:
    """The fault of lines that cannot be run again, undone; None where they raised for a reason of their own."""
    if found.harm == {"error"}:
        found.finish()
        return None
    found.finish()
    incident = not_explained(found, "nothing can run these lines again: they are in no file, or end in a yield")
    cause = "not-run-again"
    bad = [(name, t) for name, leaf in leaves(found.batch) if (t := as_tensor(leaf)) is not None and not is_finite(t)]
    if bad and "batch" not in found.harm:
        cause, incident.phase = "batch-not-finite", "data"
        fields = [measure(name, tensor) for name, tensor in bad]
        incident.rows = bad_rows_in(found.batch)
        incident.evidence |= {"fields": [one.role for one in fields]}
        incident.evidence["text"] = [*(f"field {one}" for one in fields), *incident.evidence["text"]]
    incident.cause, incident.fix = cause, CAUSES[cause].fix
    incident.stage = CAUSES[cause].stage or incident.phase
    return incident
