"""The flight recorder: runs a training step so that a fault in it leaves no trace, and names the fault.

It knows nothing of az: any PyTorch loop can use it.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .block import Block, StepNumber, not_run_again
from .diagnosis import explained
from .history import Running, Step
from .incident import Incident, not_made_again
from .loops import Policy, recorded
from .pace import Pace
from .ranks.agreement import PATIENCE, Ranks
from .remake import state_before
from .replay import Diagnosis, legal_overflow
from .session import Seen, Session, find_loss
from .state import torch_modes
from .state.extra_state import same_bits
from .state.quick_look import QuickLook
from .state.snapshot import Snapshot
from .state.starts import NOTHING, Stamp, Start, stamp_of, start_of
from .together import settle, to_tell, undone_for_others
from .trace.loss_roots import noted_roots
from .trace.patience import OutOfTime, Patience
from .trace.pytree import left_alone
from .trace.surroundings import is_distributed

StepFunction = Callable[[Any], Any]


class FlightRecorder:
    """Keeps what it takes to undo each step; undoes it and says what was wrong when a number goes bad.

        recorder = FlightRecorder(model, optimizer, extra_state=[scheduler, scaler])
        incident = recorder.run(step, batch)  # None: all is well

    model: one, or a list or dict of them, whose modules are then called `0.conv1` or `critic.conv1`.
    optimizer: one, a list of them, or None. extra_state: whatever else a step changes: schedulers, scalers, averages,
    generators, tensors, dicts, lists (`also` is its old name). depth: how many earlier steps can be undone (`rewind`)
    and searched for a cause that came before its effect (default: 8, or what two copies of the state allow).

    budget: the share of a step's time that the recorder may take. Where copying the state before every step takes
    more, it is copied every few steps only, and after a fault the steps since are made again, with their batches and
    random states, and compared with how they ended. interval: from one copy to the next, for steps that cannot be
    made again, such as those that count by themselves: 1 copies before every step.

    ranks: whether the ranks of torch.distributed undo a step together: None where a model is DistributedDataParallel
    or FSDP, True for gradients reduced by hand, False never. rank_timeout: seconds that a rank waits for the others at
    the end of a step; then it warns and is on its own.
    """

    def __init__(
        self,
        model: nn.Module | Sequence[nn.Module] | Mapping[str, nn.Module],
        optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer] | None,
        extra_state: Sequence[Any] = (),
        *,
        depth: int | None = None,
        budget: float = 0.02,
        interval: int | None = None,
        ranks: bool | None = None,
        rank_timeout: float = PATIENCE,
        also: Sequence[Any] = (),
    ) -> None:
        self.session = Session(_one_module(model), optimizer, [*extra_state, *also], depth or 0)
        self._number = 0
        self.policy: Policy | None = None  # of steps in a `with` statement
        self.value: Any = None  # what the last step returned
        self.error: Exception | None = None  # what the last step raised, when that was the fault
        self.pace = Pace(budget, interval, depth)
        self.ranks = Ranks([module for _, module in self.session.snapshotter.modules], ranks, rank_timeout)
        self._after: Stamp | None = None  # of the end of the last step
        self._now: Stamp | None = None  # of the end of this one
        self._look: QuickLook | None = None
        self._has_begun = False

    @property
    def flight(self) -> Session:
        """The old name of `session`, for one version."""
        return self.session

    @property
    def step(self) -> StepNumber:
        """The number of the next step; may be set. Called, the context of one step: `with recorder.step(batch): …`."""
        return StepNumber(self._number, partial(Block, self))

    @step.setter
    def step(self, number: int) -> None:
        self._number = int(number)

    def loop(
        self,
        loader: Iterable[Any],
        step: StepFunction,
        policy: str = "skip",
        say: Callable[[str], None] = print,
    ) -> Iterator[Any]:
        """What `step(batch)` returns, of every batch of a loader whose step ended well: see `recorded`."""
        return recorded(self, loader, step, policy, say)

    def run(self, step: StepFunction, batch: Any) -> Incident | None:
        """Run `step(batch)`. None when all is well; else everything is as it was before, and this is the incident.

        An exception of the step that no bad number explains is raised again, with everything as it was before.
        """
        value, error, roots = None, None, list[Tensor]()
        running = self.start(step, batch)
        try:
            try:
                with noted_roots(self.ranks.told_root) as roots:
                    value = step(batch)
            except Exception as raised:  # a guard of the user's own may have met the bad number first
                error = raised
            return self.finish(running, value, error, roots)
        except BaseException as raised:
            if not isinstance(raised, Exception):
                self.abandon(running)
            raise

    def start(self, step: StepFunction | None, batch: Any) -> Running:
        """Begin a step that the caller runs itself, for loops that are not a function; `finish` or `abandon` follows.

        step: what does the same again, for the diagnosis; None where nothing does: then the state is copied before
        every step, and a fault is undone but not explained.
        """
        begun, modes = time.perf_counter(), torch_modes.modes()
        number, self._number = self._number, self._number + 1
        try:
            if not self._has_begun:
                self._has_begun = True
                self._say_what_is_left_alone(batch)
            if step is None:
                self.pace.always()
            python, began = self.session.python.read(step), self._begin(batch)
        except BaseException:
            torch_modes.put_back(modes)
            raise
        self.ranks.begin()
        return Running(number, step, batch, begun, python, began, modes, time.perf_counter())

    def abandon(self, running: Running) -> None:
        """A signal ended the step, or the look at it: the state of before it, unless it is known to be well."""
        torch_modes.put_back(running.modes)
        is_over, why = running.is_over, "a signal ended its step"
        try:
            if not is_over:
                self._undo(running.began, running.batch)
                running.is_over = True
        finally:
            self._give_up(running, why)
            if not is_over and self.ranks.together:
                self.ranks.leave(why)

    def _give_up(self, running: Running, why: str) -> None:
        """After an error that goes on to the caller."""
        torch_modes.put_back(running.modes)
        if not self.ranks.settled:
            self.ranks.leave(why)

    def finish(self, running: Running, value: Any, error: Exception | None, roots: list[Tensor]) -> Incident | None:
        """End a step: what `run` gives and raises. roots: the numbers from which it began backward (`noted_roots`)."""
        try:
            return self._finish(running, value, error, roots)
        except Exception as raised:
            self._give_up(running, f"its step raised {type(raised).__name__}")
            raise
        except BaseException:
            self.abandon(running)
            raise

    def _finish(self, running: Running, value: Any, error: Exception | None, roots: list[Tensor]) -> Incident | None:
        began, ended = running.began, time.perf_counter()
        self.value, self.error = value, None
        try:
            done, harm = self._seen(running, value, error, roots)
        except Exception:  # such as a kind of number that torch cannot add up
            self._undo(began, running.batch)
            raise
        running.is_over = not harm  # before the ranks agree: in a signal then, the others may go on with theirs
        if self.ranks.agree(bool(harm), error, roots) or harm:
            running.is_over = False
            return self._harmed(done, running, value, error, harm, ended - running.stepping)
        if done.loss is None and not done.ends:
            self.pace.always()  # nothing would tell whether the step, made again, ended as it did
        self._remember(done, began)
        stepping = ended - running.stepping
        self.pace.told_time(time.perf_counter() - running.begun - stepping, stepping)
        return None

    def _seen(
        self, running: Running, value: Any, error: Exception | None, roots: list[Tensor]
    ) -> tuple[Step, set[str]]:
        """A step that has ended, and what is bad in it."""
        seen = self._quickly(running.began, value, error) or self.session.look(running.began, value, error)
        ends = [float(root) for root in roots]
        harm, rates = seen.harm | self.session.harm_of(ends), self.session.rates()
        done = Step(running.number, rates, seen.update, seen.weights, seen.loss, None, running.batch)
        done.function, done.python, done.ends = running.step, running.python, ends
        return done, harm

    def _begin(self, batch: Any) -> Snapshot | Start:
        """A copy of the state where one is due, or where something was written since the last step ended."""
        session, history = self.session, self.session.history
        if self.pace.every > 1 and is_distributed():
            self.pace.always()  # made again, the steps of one rank would wait for the others
        if 0 < history.since_copy < self.pace.every and self._after is not None:
            now = stamp_of(session.snapshotter, session.snapshotter.known().gradients())
            if self._after.is_followed_by(now):
                return start_of(session.snapshotter, batch, history.free_starts.pop() if history.free_starts else None)
        if self.pace.is_tight:
            last = next((one.snapshot for one in reversed(history.kept) if one.snapshot is not None), None)
            self._tell_size(last.batch_bytes() if last is not None else 0)
            history.make_room()
        copied = session.snapshotter.take(batch, history.free.pop() if history.free else None)
        self._tell_size(copied.batch_bytes())
        return copied

    def _tell_size(self, batch: int) -> None:
        """batch: bytes of its copy."""
        state, beside = self.session.snapshotter.sizes()
        self.pace.told_size(state + batch, batch, beside)
        self.session.history.depth, self.session.history.copies = self.pace.depth, self.pace.copies

    def _quickly(self, began: Snapshot | Start, value: Any, error: Exception | None) -> Seen | None:
        """What the look after a step sees where all is well and that can be told quickly; None elsewhere."""
        session = self.session
        if isinstance(began, Snapshot) or error is not None or self._after is None:
            return None
        if session.snapshotter.others and session.snapshotter.loose():
            return None
        if self._look is None or self._look.layout is not began.layout:
            self._look = QuickLook(began.layout)
        found, gradients = find_loss(value), session.snapshotter.known().gradients()
        now = stamp_of(session.snapshotter, gradients)
        loss = float(found.detach()) if isinstance(found, Tensor) else found
        if not self._look.is_well(self._after, now, gradients, began, loss, not session.changes_batch):
            return None
        self._now = now
        return Seen(set(), loss, math.nan, math.nan)

    def _remember(self, done: Step, began: Snapshot | Start) -> None:
        if isinstance(began, Snapshot):
            done.snapshot = began
        else:
            done.start = began
            began.layout = NOTHING
        self.session.history.add(done)
        self._after, self._now = self._now, None
        if self._after is None and self.pace.every > 1:
            snapshotter = self.session.snapshotter
            self._after = stamp_of(snapshotter, snapshotter.known().gradients())

    def _undo(self, began: Snapshot | Start, batch: Any) -> Snapshot | None:
        """Back to before the step, or, where that cannot be had, to the last copy of the state (None)."""
        self._after = None
        if isinstance(began, Start):
            found = state_before(self.session, began, batch) if self.session.history.kept else None
            if found is None:
                self.pace.always()
            return found
        self.session.snapshotter.put_back(began)
        return began

    def rewind(self, step: int) -> bool:
        """Put back the state from before an earlier step; False when it is no longer kept."""
        history = self.session.history
        at = next((i for i, one in enumerate(history.kept) if one.step == step), None)
        if at is None:
            return False
        one, self._after = history.kept[at], None
        if one.snapshot is None:
            assert one.start is not None
            history.forget_from(step)
            if state_before(self.session, one.start, one.batch) is None:
                self._number = history.steps[-1].step + 1 if history.steps else step
                self.pace.always()
                return False
        else:
            self.session.snapshotter.put_back(one.snapshot)
            history.forget_from(step)
        self._number = step
        return True

    def _harmed(
        self, done: Step, running: Running, value: Any, error: Exception | None, harm: set[str], took: float
    ) -> Incident | None:
        """took: seconds of the step."""
        if isinstance(running.began, Start):
            session, batch = self.session, done.batch
            end, python_end = session.snapshotter.take(batch), session.python.read(done.function)
            with Patience(done.step, doing="making the steps since the last copy again"):
                before = self._undo(running.began, batch)
            if before is None:
                running.is_over = True
                self._number = session.history.steps[-1].step + 1 if session.history.steps else 0
                if error is not None and harm == {"error"}:
                    error.add_note(f"the recorder could only put back the state of before step {self._number}")
                    raise error
                return not_made_again(done.step, self._number, harm)
            running.began = before
            python_end.write()
            session.snapshotter.put_back(end)
        before = running.began
        return self._handle(
            Diagnosis(
                self.session, done.function, done.batch, before, value, error, done.step, harm, running.python, took
            )
        )

    def _handle(self, found: Diagnosis) -> Incident | None:
        begun = time.perf_counter()
        try:
            with found.patience:
                stands = not found.harm or self._is_no_fault(found)
                if not self.ranks.settled:
                    stands = not self.ranks.any(not stands)
                if stands:
                    if found.harm:
                        found.restore_end()
                    self.ranks.settled, self._after = True, None
                    return None
                told_by = explained if found.runs_again else not_run_again
                incident = told_by(found) if found.harm else undone_for_others(found.number)
        except BaseException:  # a signal
            found.patience.be_silent()
            found.finish()
            raise
        finally:
            self.session.patience = None  # steps that are made again later have their own time
        found.finish()
        self._after = None
        seconds = time.perf_counter() - begun
        if not self.ranks.settled:
            early, clean = self.ranks.early, self.ranks.clean
            told = self.ranks.tell(to_tell(incident, found.error, bool(found.harm), early, clean))
            if told is not None and incident is not None:
                settle(incident, told, self.ranks.names, self.ranks.place)
        if incident is None or (self.ranks.stranded and found.error is not None):
            assert found.error is not None
            if incident is not None:
                found.error.add_note(f"the other ranks may wait for this one, so it cannot go on:\n{incident}")
            raise found.error
        self.error, incident.seconds = found.error, seconds
        return incident

    def _is_no_fault(self, found: Diagnosis) -> bool:
        """Whether the harm is what the step is meant to do: an overflow for the scaler, a batch written in place."""
        if not found.runs_again:
            found.end = self.session.snapshotter.take(found.batch)
            return found.harm == {"gradients"} and self.session.has_good_scales()
        try:
            found.keep_end()
            scaled = self.session.has_good_scales() and found.harm == {"gradients"} and found.error is None
            if scaled and legal_overflow(found):
                return True  # the scaler saw it, skipped the step and lowered its scale: that is its work
            if found.harm == {"batch"} and self._step_changes_batch(found):
                self.session.changes_batch = True
                return True
        except (Exception, OutOfTime):  # `explained` says what was detected
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


def _one_module(models: nn.Module | Sequence[nn.Module] | Mapping[str, nn.Module]) -> nn.Module:
    """A module, or several as the parts of one."""
    if isinstance(models, nn.Module):
        return models
    return nn.ModuleDict(dict(models)) if isinstance(models, Mapping) else nn.ModuleList(models)
