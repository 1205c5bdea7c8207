"""From a harmed step to its diagnosis: put the state back, run it again under watch, and try the repair."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import torch
from torch import Tensor

from az.train.health.causes import CAUSES
from az.train.health.extra_state import same_bits
from az.train.health.incident import Incident, incident_of
from az.train.health.op_trace import Operand, OpTrace, is_bad, measure
from az.train.health.pytree import (
    Rows,
    as_tensor,
    bad_rows,
    far_rows,
    is_finite,
    leaves,
    replaced_rows,
    rows_of,
    rows_where,
    scaled,
    without_rows,
)
from az.train.health.repair import for_operation, lowered
from az.train.health.root_cause import Birth, classify, find_birth
from az.train.health.session import Session
from az.train.health.snapshot import Snapshot

# Faults of an operation that a state blown up earlier explains.
OF_SIZE = {"overflow", "half-overflow", "exp-overflow", "log-of-zero", "inf-minus-inf", "inf-times-zero",
           "second-moment-overflow", "update-overflow", "gradient-at-singularity", "division-by-zero", "zero-over-zero",
           "softmax-of-nothing", "running-average-not-finite"}  # fmt: skip


class Diagnosis:
    """One harmed step: what is known of it, and the means to run it again."""

    def __init__(
        self,
        session: Session,
        step: Callable[[Any], Any],
        batch: Any,
        before: Snapshot,
        value: Any,
        error: Exception | None,
        number: int,
        harm: set[str],
    ) -> None:
        self.session, self.step, self.batch, self.before = session, step, batch, before
        self.value, self.error, self.number, self.harm = value, error, number, harm
        self.replayed_value: Any = None
        self.end: Snapshot | None = None
        self.end_batch: list[tuple[Any, Any]] = []

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
        self.session.snapshotter.put_back(self.end)

    def again(self, batch: Any = None, context: Any = None) -> Exception | None:
        """The step, run again from the same state; returns what it raised."""
        self.session.snapshotter.put_back(self.before)
        with context or contextlib.nullcontext(), torch.autograd.set_multithreading_enabled(False):
            try:
                self.replayed_value = self.step(self.batch if batch is None else batch)
            except Exception as error:
                return error
        return None

    def watched(self) -> tuple[OpTrace, Exception | None]:
        """The step, run again with every operation watched."""
        session = self.session
        session.snapshotter.put_back(self.before)
        tensors = [t for _, leaf in leaves(self.batch) if (t := as_tensor(leaf)) is not None]
        declared = [t for (name, _), t in zip(leaves(self.batch), tensors, strict=False) if name in self.declared()]
        meant = [*session.masks(), *declared]
        watch = OpTrace(
            session.model, session.optimizers, Rows(self.batch), session.names(), tensors, meant, renew=session.names
        )
        return watch, self.again(context=watch)

    def declared(self) -> set[str]:
        """Fields of the batch that held NaN or infinities in earlier steps, which ended well: they are meant."""
        found: set[str] = set()
        for one in self.session.history.steps:
            if one.snapshot is not None and len(one.snapshot.batch) == len(self.before.batch):
                pairs = zip(leaves(self.batch), one.snapshot.batch, strict=True)
                found |= {name for (name, _), (_, kept) in pairs if (t := as_tensor(kept)) is not None and is_bad(t)}
        return found

    def replay_is_exact(self) -> bool:
        """Whether the watched step ended in the same bits as the step that failed."""
        assert self.end is not None
        now = self.session.snapshotter.take(self.batch)
        if now.copies.keys() != self.end.copies.keys() or now.grad_copies.keys() != self.end.grad_copies.keys():
            return False
        pairs = [(now.copies[key], self.end.copies[key]) for key in now.copies]
        pairs += [(now.grad_copies[key], self.end.grad_copies[key]) for key in now.grad_copies]
        return all(same_bits(a, b) for a, b in pairs)

    def harmed_now(self) -> set[str]:
        """What is bad after a replay."""
        return self.session.look(self.before, self.replayed_value, None).harm - {"batch"}

    def stays_finite(self, batch: Any = None, context: Any = None) -> bool:
        """Whether a repaired step ends well."""
        return self.again(batch, context) is None and not (self.harmed_now() - {"batch"})


def legal_overflow(found: Diagnosis) -> bool:
    """Whether gradients would have been finite at a small scale: an overflow that the gradient scaler is made for."""
    return found.stays_finite(context=lowered(found.session.scalers))


def diagnose(found: Diagnosis) -> Incident | None:
    """The incident; None when the step raised for a reason of its own."""
    watch, error = found.watched()
    exact = found.replay_is_exact()
    changed = any(not same_bits(leaf, kept) for leaf, kept in zip_ends(found))
    again = found.harmed_now()
    # Fresh memory may hold anything until it is written: empty() output is not a result.
    bad_ops = [i for i, op in watch.ops.items() if op.bad_output and "empty" not in op.name]
    recurred = bool(again) or (error is not None and found.error is not None)
    if error is not None and found.error is None:
        return _unwatched(found, error)
    if found.error is not None and not (bad_ops or found.harm - {"error"}):
        return None
    if changed and (not recurred or not exact):
        return _loader(found)
    if not recurred:
        return _transient(found)
    loss = watch.bad_root or "loss" in again
    birth = find_birth(watch, _ends(found, watch, again, bad_ops) or set(bad_ops[-1:]), loss)
    if birth is None:
        return _transient(found)
    incident = _incident(found, watch, birth, exact)
    _from_data(found, incident, birth)
    _from_earlier(found, incident)
    if incident.counterfactual is None:
        _try_repair(found, incident)
    return incident


def zip_ends(found: Diagnosis) -> Iterator[tuple[Any, Any]]:
    """(leaf after the replay, leaf after the failed step): equal when only the step itself wrote the batch."""
    for (leaf, _), (_, kept) in zip(found.before.batch, found.end_batch, strict=True):
        yield leaf, kept


def _ends(found: Diagnosis, watch: OpTrace, harm: set[str], bad_ops: list[int]) -> set[int]:
    """The operations that wrote what is bad after the replay."""
    snapshotter = found.session.snapshotter
    tensors: list[Tensor] = []
    loss = found.replayed_value
    values = cast("Iterable[Any]", loss if isinstance(loss, tuple | list) else [loss])
    tensors += [t for t in values if isinstance(t, Tensor)]
    tensors += [one.tensor for one in snapshotter.layout().held if one.tensor.is_floating_point()]
    tensors += snapshotter.gradients().tensors
    tensors += [tensor for _, tensor in snapshotter.loose()]
    ends = {watch.writer(t) for t in tensors if not is_finite(t)}
    ends = (ends | watch.roots) - {-1}  # a loss that the step does not return, such as that of a part of the batch
    if "loss" in harm and not any(watch.ops[i].phase in ("forward", "loss", "data") for i in ends):
        early = [i for i in bad_ops if watch.ops[i].phase in ("forward", "loss", "data")]
        ends |= set(early[-1:])
    return ends


def _incident(found: Diagnosis, watch: OpTrace, birth: Birth, exact: bool) -> Incident:
    op, cause = birth.op, classify(birth)
    phase = op.phase
    if cause in ("variance-of-one-value", "running-average-not-finite"):
        phase = "buffers"
    if birth.origin == "data":
        phase = "data"
    module = op.module or (_owner(op.wrote) if "batch_norm" in op.name else "")
    if birth.origin == "state" and found.number > 0:
        cause = "changed-outside-the-step"
    if op.phase == "optimizer":
        module = _owner(op.wrote)
        if "norm" in op.name and any(
            one.name.startswith("exp_avg_sq") for one in found.session.snapshotter.layout().held
        ):
            cause = "second-moment-overflow"  # a gradient whose square overflows, met at its norm first
    stage = CAUSES[cause].stage or (phase if phase != "data" else "forward")
    evidence: dict[str, Any] = {
        "operands": [operand.to_json() for operand in op.operands],
        "text": [str(operand) for operand in op.operands[:6]],
        "wrote": op.wrote,
        "forward_op": watch.forward_name(op),
        "spread": watch.spread(op.index),
        "end_digest": found.end.digest() if found.end is not None else None,
    }
    if birth.origin == "op" and len(op.rows) == watch.rows.size_at(op.index):
        op.rows = []  # every row alike: it is not the rows
    name = op.node if op.phase == "backward" and op.node else op.name
    return incident_of(
        cause, phase, found.number, exact,
        stage=stage, op=name, module=module or None, source=op.source or None, rows=op.rows, evidence=evidence,
    )  # fmt: skip


def _owner(wrote: list[str]) -> str:
    """`optimizer: exp_avg_sq/blocks.0.conv1.weight` → `blocks.0.conv1`."""
    for name in wrote:
        path = name.partition(": ")[2].rpartition("/")[2]
        return path.rpartition(".")[0]
    return ""


def _loader(found: Diagnosis) -> Incident:
    names: list[str] = []
    rows: set[int] = set()
    count = rows_of(found.batch)
    kinds = list(leaves(found.batch))
    for (name, _), (_, kept), (_, end) in zip(kinds, found.before.batch, found.end_batch, strict=True):
        a, b = as_tensor(kept), as_tensor(end)
        if a is not None and b is not None and not same_bits(a, b):
            names.append(name)
            differ = (a != b) & ~((a != a) & (b != b))
            rows |= set(rows_where(differ, count))
    cause = "batch-changed-under-the-step"
    evidence = {"fields": names, "text": [f"changed while the step ran: {', '.join(names)}"]}
    return incident_of(
        cause, "data", found.number, exact=False, rows=sorted(rows), evidence=evidence,
        notes=["run again on the batch as it was before, the step ended in other numbers: the replay disagrees"],
    )  # fmt: skip


def _transient(found: Diagnosis) -> Incident:
    order = (("loss", "loss"), ("gradients", "backward"), ("optimizer", "optimizer"), ("weights", "optimizer"))
    phase = next(
        (phase for harm, phase in order if harm in found.harm), "buffers" if "buffers" in found.harm else "loss"
    )
    assert found.end is not None
    bad = [f"{one.kind}: {one.name}" for one, piece in found.end.layout.pieces(found.end.copies)
           if not is_finite(piece)]  # fmt: skip
    text = [f"not finite after the step: {', '.join(sorted(found.harm))}", *([", ".join(bad[:6])] if bad else [])]
    return incident_of(
        "not-reproducible", phase, found.number, exact=False,
        evidence={"harm": sorted(found.harm), "tensors": bad, "text": text},
        counterfactual={"repair": "the same step again", "finite": True},
    )  # fmt: skip


def _unwatched(found: Diagnosis, error: Exception) -> Incident:
    """The step could not be watched: run again as it is, it tells at least whether the fault comes back."""
    found.again()
    exact, back = found.replay_is_exact(), bool(found.harmed_now())
    incident = _transient(found)
    incident.notes.append(f"run under watch, the step raised {type(error).__name__}: {error}")
    if back:
        cause = "not-a-number"
        incident.cause, incident.stage, incident.fix = cause, incident.phase, CAUSES[cause].fix
        incident.replay, incident.counterfactual = "bit-exact" if exact else "not reproducible", None
    return incident


# -- causes that lie before the operation ------------------------------------------------------------------------


def _from_data(found: Diagnosis, incident: Incident, birth: Birth) -> None:
    """Rows that are bad themselves, or so large that they explain the overflow."""
    count = rows_of(found.batch)
    if birth.origin == "data":
        found.session.snapshotter.put_back(found.before)
        fields: list[Operand] = []
        bad: set[int] = set()
        for name, leaf in leaves(found.batch):
            tensor = as_tensor(leaf)
            if tensor is not None and not is_finite(tensor):
                fields.append(measure(name, tensor))
                bad |= set(bad_rows(tensor, count))
        incident.rows = sorted(bad) or incident.rows
        incident.evidence |= {"fields": [f.role for f in fields], "text": [f"field {f}" for f in fields]}
        _try_without(found, incident)
    elif incident.cause in OF_SIZE or incident.cause == "domain-error":
        found.session.snapshotter.put_back(found.before)
        earlier = [s.snapshot.batch for s in found.session.history.steps if s.snapshot is not None]
        for name, rows, size, usual in far_rows(found.batch, [[kept for _, kept in batch] for batch in earlier]):
            tried = _without(found, rows) if len(rows) < count else None
            if tried is None and found.stays_finite(scaled(found.batch, name, usual / size)):
                tried = {"repair": f"{name} scaled down to its usual size", "finite": True}
            if tried is None or not tried["finite"]:
                continue
            incident.counterfactual = tried
            incident.cause, incident.stage, incident.phase = "batch-value-out-of-range", "data", "data"
            incident.fix, incident.rows = CAUSES[incident.cause].fix, rows
            text = f"{name}: up to {size:.4g} in these rows, usually up to {usual:.4g}"
            incident.evidence |= {"fields": [name], "text": [text, *incident.evidence["text"]]}
            return


def _without(found: Diagnosis, rows: list[int]) -> dict[str, Any] | None:
    """The step without these rows; with others in their place where it raises because rows are missing."""
    if not 0 < len(rows) < rows_of(found.batch):
        return None
    error = found.again(without_rows(found.batch, rows))
    words = f"without rows {rows[:8]}"
    if error is not None:
        error = found.again(replaced_rows(found.batch, rows))
        words = f"with other rows in place of rows {rows[:8]}"
    return {"repair": words, "finite": error is None and not found.harmed_now()}


def _try_without(found: Diagnosis, incident: Incident) -> None:
    incident.counterfactual = _without(found, incident.rows)


def _from_earlier(found: Diagnosis, incident: Incident) -> None:
    """A spike of the learning rate, or an update that dwarfed all others, some steps before."""
    if incident.stage == "data":
        return
    session = found.session
    found.session.snapshotter.put_back(found.before)
    rates = [float(g.get("lr", 0.0)) for o in session.optimizers for g in o.param_groups]
    if incident.cause == "learning-rate-not-finite":
        usual = session.history.usual_rates()
        if usual and (finite := _redo_from(found, found.number, usual)) is not None:
            incident.counterfactual = {"repair": "the step at the usual learning rate", "finite": finite}
        return
    spikes, usual = session.history.rate_spikes(rates, found.number)
    for step in spikes:  # the rate before this step may be the last one's, left there: then the last one explains it
        finite = _redo_from(found, step, usual)
        if finite is None and step != spikes[0]:
            break  # later steps with such a rate are acquitted, this one cannot be tried any more
        if finite is not False:
            incident.cause, incident.causal_step = "learning-rate-spike", step
            incident.stage, incident.fix = "schedule", CAUSES["learning-rate-spike"].fix
            at = session.history.at(step)
            incident.evidence["text"] = [
                f"learning rate {max(at.rates if at else rates):.4g} at step {step}, usually {max(usual):.4g}",
                *incident.evidence["text"],
            ]
            if finite is not None:
                incident.counterfactual = {"repair": f"step {step} at the usual learning rate", "finite": finite}
            return
    burst = session.history.update_spike()
    if burst is not None and incident.cause in OF_SIZE:
        incident.causal_step = burst
        at = session.history.at(burst)
        if at is not None:
            incident.notes.append(
                f"at step {burst} the weights moved by {at.update:.4g}, a hundred times as far as before"
            )
        if _was_transient(found, burst):
            cause = "not-reproducible"
            incident.cause, incident.stage, incident.fix = cause, CAUSES[cause].stage, CAUSES[cause].fix
            incident.rows, incident.replay = [], "not reproducible"
            finite = _redo_from(found, burst, [])
            incident.counterfactual = {"repair": f"the steps from {burst} on again", "finite": finite}
            incident.notes.append(f"step {burst} run again ended in other numbers; the fault as it shows is exact")


def _redo_from(found: Diagnosis, step: int, rates: list[float]) -> bool | None:
    """Whether the steps from this one on end well at these learning rates; None when it is no longer kept."""
    steps = [(s.snapshot, s.batch) for s in found.session.history.steps if s.step >= step]
    return found.session.redo(found.step, [*steps, (found.before, found.batch)], rates)


def _was_transient(found: Diagnosis, step: int) -> bool:
    """Whether an earlier step, run again, ends in other numbers than it did then."""
    kept = [s for s in found.session.history.steps if s.step >= step]
    after = kept[1].snapshot if len(kept) > 1 else found.before
    if after is None or not found.session.redo(found.step, [(kept[0].snapshot, kept[0].batch)], []):
        return False
    now = found.session.snapshotter.layout()
    copies = now.copied() if now is after.layout else None
    return copies is not None and not all(same_bits(copies[key], after.copies[key]) for key in copies)


def _try_repair(found: Diagnosis, incident: Incident) -> None:
    """Run the step again with the repair that the cause suggests."""
    name = incident.op or ""
    plain = name.partition("::")[2] or name.removesuffix("Backward0").removesuffix("Backward1")
    tried = for_operation(incident.cause, plain, found.session.optimizers)
    if tried is not None:
        words, context = tried
        incident.counterfactual = {"repair": words, "finite": found.stays_finite(context=context)}
    else:
        _try_without(found, incident)
