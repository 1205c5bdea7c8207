"""The means to run a harmed step again: as it was, watched, or with a repair."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from .history import Step
from .incident import Incident
from .session import Session
from .state.extra_state import same_bits
from .state.snapshot import Snapshot
from .trace.loss_roots import noted_roots
from .trace.op_trace import OpTrace
from .trace.operands import is_bad
from .trace.patience import TRYING, WATCHING, Patience
from .trace.python_values import Values
from .trace.pytree import as_tensor, leaves
from .trace.repair import lowered
from .trace.root_cause import LOGS, MASKING, Meant, meant_by
from .trace.rows import Rows, has_bad_numbers
from .trace.surroundings import alone, eager
from .trace.windows import Backwards, TooLong, Window, after_backward


class Diagnosis:
    """One harmed step: what is known of it, and the means to run it again."""

    def __init__(
        self,
        session: Session,
        step: Callable[[Any], Any] | None,
        batch: Any,
        before: Snapshot,
        value: Any,
        error: Exception | None,
        number: int,
        harm: set[str],
        python: Values,
        took: float = 0.0,
    ) -> None:
        self.session, self.step, self.batch, self.before = session, step or str, batch, before
        self.runs_again = step is not None  # else nothing does the same again, see `not_run_again`
        self.value, self.error, self.number, self.harm = value, error, number, harm
        self.python = python  # what the step read of Python's values
        self.python_end = session.python.read(step)
        self._added = [(held, length, held[length:]) for held, length in python.lists]  # to lists, by the harmed step
        self.replayed_value: Any = None
        self.replayed_roots: list[Tensor] = []
        self.end: Snapshot | None = None
        self.end_batch: list[tuple[Any, Any]] = []
        self.watch: OpTrace | None = None
        self.patience = Patience(number, session.clock)
        self.patience.took, session.patience = took, self.patience
        self.partial: Incident | None = None  # what is known of it, before causes elsewhere and repairs are tried

    def keep_end(self) -> None:
        """Remember how the harmed step ended: the replay is compared with it."""
        self.end = self.session.snapshotter.take(self.batch)
        self.end_batch = [(leaf, kept) for leaf, kept in self.end.batch]
        if "batch" in self.harm and self.harm != {"batch"}:  # does the step itself write it? then that is no harm
            self.again()
            if all(same_bits(leaf, kept) for leaf, kept in zip_ends(self)):
                self.session.changes_batch = True
                self.harm = self.harm - {"batch"}

    def restore_end(self) -> None:
        """Let the step have happened after all."""
        assert self.end is not None
        self._restore_python_end()
        self.session.snapshotter.put_back(self.end)

    def finish(self) -> None:
        """The state of before the step; Python's values, which no one handed over, as the step left them."""
        self._restore_python_end()
        self.session.snapshotter.put_back(self.before)

    def _restore_python_end(self) -> None:
        self.python_end.write()
        for held, length, added in self._added:
            held[length:] = added

    def again(
        self,
        batch: Any = None,
        context: Any = None,
        change: Callable[[], None] | None = None,
        as_it_was: bool = False,
    ) -> Exception | None:
        """The step, run again from the same state; returns what it raised.

        context: to run it in. change: called when the state is back. as_it_was: compiled code runs compiled.
        """
        begun = self.patience.before("" if context is not None and self.patience.doing != TRYING else TRYING)
        self.session.snapshotter.put_back(self.before)
        self.python.write()
        if change is not None:
            change()
        if isinstance(context, OpTrace) and context.renew is not None:
            context.state = context.renew()  # tensors that lie in lists, as those of LBFGS, are others now
        stance = contextlib.nullcontext() if as_it_was else eager()
        uncut = isinstance(context, OpTrace) or (as_it_was and self.session.is_compiled())
        ends = contextlib.nullcontext() if uncut else self.patience.ends()
        hooks = contextlib.closing(context) if isinstance(context, OpTrace) else contextlib.nullcontext()
        with hooks, stance, alone(), ends, noted_roots() as roots, torch.autograd.set_multithreading_enabled(False):
            self.replayed_value, self.replayed_roots = None, roots
            with context or contextlib.nullcontext():
                try:
                    self.replayed_value = self.step(self.batch if batch is None else batch)
                except Exception as error:
                    return error
        self.patience.after(begun, not isinstance(context, OpTrace))
        return None

    def watched(self) -> tuple[OpTrace, Exception | None]:
        """The step, run again with every operation watched; of a long one, those up to where the harm began."""
        self.patience.doing = WATCHING
        with contextlib.suppress(TooLong):
            watch = self._watch()
            return watch, self.again(context=watch)
        self.patience.doing = "looking for the part of it where the harm begins"
        found = Backwards(lambda: self.replayed_roots, lambda: self.session.snapshotter.gradients().tensors)
        self.again(context=after_backward(found.ended))
        watch = self._watch()
        watch.window = Window(found.first, watch.close_window)
        self.patience.doing = f"watching backward {found.first} of {found.count} and what leads to it"
        return watch, self.again(context=watch)

    def _watch(self) -> OpTrace:
        session = self.session
        session.snapshotter.put_back(self.before)
        self.python.write()
        tensors = [t for _, leaf in leaves(self.batch) if (t := as_tensor(leaf)) is not None]
        declared = [t for (name, _), t in zip(leaves(self.batch), tensors, strict=False) if name in self.declared()]
        meant = [*session.masks(), *declared]
        held = [tensor for _, tensor in self.python.tensors()]
        self.watch = OpTrace(
            session.model, session.optimizers, Rows(self.batch), session.names(), [*tensors, *held], meant,
            renew=session.names, others=session.snapshotter.modules[1:], bad_numbers=has_bad_numbers(self.batch),
        )  # fmt: skip
        self.watch.check = self.patience.check
        return self.watch

    def meant(self) -> Meant:
        """Infinities that the last step, which ended well, made on its way: a mask's logarithm, for example."""
        last = next((one for one in reversed(self.session.history.steps) if one.snapshot is not None), None)
        if last is None or last.snapshot is None:
            return set()
        session = self.session
        session.snapshotter.put_back(last.snapshot)
        if last.python is not None:
            last.python.write()
        watch = OpTrace(session.model, session.optimizers, Rows(last.batch), session.names(),
                        others=session.snapshotter.modules[1:])  # fmt: skip
        watch.check = self.patience.check
        if self.watch is not None and self.watch.window is not None:
            watch.only = LOGS | MASKING
        one_thread = torch.autograd.set_multithreading_enabled(False)
        quiet, hooks = contextlib.suppress(Exception, TooLong), contextlib.closing(watch)
        with noted_roots() as roots, quiet, hooks, eager(), alone(), one_thread, watch:
            (last.function or self.step)(last.batch)
        session.snapshotter.put_back(last.snapshot)  # the old batch too
        if session.harm_of(roots):
            return set()  # it reads something that is no longer as it was
        return meant_by(watch)

    def declared(self) -> set[str]:
        """Fields of the batch that held NaN or infinities in earlier steps, which ended well: they are meant."""
        found: set[str] = set()
        for one in self.session.history.steps:
            if one.snapshot is not None and len(one.snapshot.batch) == len(self.before.batch):
                pairs = zip(leaves(self.batch), one.snapshot.batch, strict=True)
                found |= {name for (name, _), (_, kept) in pairs if (t := as_tensor(kept)) is not None and is_bad(t)}
        return found

    def replay_is_exact(self) -> bool:
        """Whether the step that was run again ended in the same bits as the step that failed."""
        assert self.end is not None
        now = self.session.snapshotter.take(self.batch)
        if now.copies.keys() != self.end.copies.keys() or now.grad_copies.keys() != self.end.grad_copies.keys():
            return False
        pairs = [(now.copies[key], self.end.copies[key]) for key in now.copies]
        pairs += [(now.grad_copies[key], self.end.grad_copies[key]) for key in now.grad_copies]
        return all(same_bits(a, b) for a, b in pairs)

    def harmed_now(self) -> set[str]:
        """What is bad after a replay."""
        harm = self.session.look(self.before, self.replayed_value, None).harm - {"batch"}
        return harm | self.session.harm_of(self.replayed_roots)

    def stays_finite(self, batch: Any = None, context: Any = None, change: Callable[[], None] | None = None) -> bool:
        """Whether a repaired step ends well."""
        return self.again(batch, context, change) is None and not self.harmed_now()

    def state(self) -> list[tuple[str, Tensor]]:
        """(name, tensor) of the state of now and its gradients: `gradients: 1.weight`."""
        snapshotter = self.session.snapshotter
        held = snapshotter.layout().held
        names = {id(one.tensor): one.name for one in held if one.kind in ("weights", "also")}
        grads = [(names[id(p)], p.grad) for p in snapshotter.found().parameters if id(p) in names]
        found = [(f"{one.kind}: {one.name}", one.tensor) for one in held]
        return found + [(f"gradients: {name}", grad) for name, grad in grads if grad is not None]

    def as_step(self) -> Step:
        """The harmed step as one of the history's."""
        return Step(self.number, [], 0.0, 0.0, None, self.before, self.batch, self.step, self.python)


def zip_ends(found: Diagnosis) -> Iterator[tuple[Any, Any]]:
    """(leaf after the replay, leaf after the failed step): equal when only the step itself wrote the batch."""
    for (leaf, _), (_, kept) in zip(found.before.batch, found.end_batch, strict=True):
        yield leaf, kept


def legal_overflow(found: Diagnosis) -> bool:
    """Whether gradients would have been finite at a small scale: an overflow that the gradient scaler is made for."""
    return found.stays_finite(context=lowered(found.session.scalers))
