"""From a harmed step to its incident: run it again under watch, name the fault, and try the repair."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor

from .causes import CAUSES
from .earlier import from_earlier, name_rewind
from .incident import Incident, incident_of
from .replay import Diagnosis, zip_ends
from .row_causes import from_data, plain_name, try_without
from .state.extra_state import same_bits
from .trace.classify import classify, fix_for
from .trace.guilty import guilty_tensor, large_state, owner
from .trace.op_trace import OpTrace
from .trace.patience import TRYING, OutOfTime
from .trace.pytree import as_tensor, is_finite, leaves
from .trace.repair import for_operation
from .trace.root_cause import FORWARD, LOGS, MASKING, Birth, base, find_birth
from .trace.rows import rows_of, rows_where
from .trace.surroundings import is_distributed, needs_other_ranks
from .transient import compiled_only, not_explained, transient


def explained(found: Diagnosis) -> Incident | None:
    """The incident of a harmed step; None when the step raised for a reason of its own.

    An error of the diagnosis itself is told in the incident, which then only says what was detected.
    """
    try:
        if needs_other_ranks(module for _, module in found.session.snapshotter.modules):
            return not_explained(found, "its parameters are spread over ranks, it cannot be run again on one of them")
        incident = diagnose(found)
    except OutOfTime:
        if found.error is not None and found.harm == {"error"}:
            return None
        incident = _what_is_known(found)
    except Exception as failure:
        if found.error is not None and found.harm == {"error"}:
            return None
        return not_explained(found, f"the diagnosis raised {_told(failure)}")
    if incident is not None and found.session.scalers and not found.session.has_good_scales():
        _blame_scale(found, incident)
    unknown = found.session.unknown_optimizers()
    if incident is not None and unknown:
        if incident.counterfactual is not None and not incident.counterfactual["finite"]:
            incident.counterfactual = None  # what the failed step left in that optimizer spoils every repair
        incident.notes.append(f"the recorder was not given {unknown[0]}, an optimizer of the step: it is not restored")
    return incident


def _what_is_known(found: Diagnosis) -> Incident:
    """The incident as far as the diagnosis came in its time."""
    words = f"the diagnosis ended after {found.patience.seconds():.0f} s: {{}}"
    if found.partial is not None:
        found.partial.notes.append(words.format("causes in earlier steps and repairs were not all tried"))
        return found.partial
    watch = found.watch
    bad = [i for i, op in watch.ops.items() if op.bad_output and "empty" not in op.name] if watch is not None else []
    birth = find_birth(watch, set(bad[-1:]), True) if watch is not None else None
    if watch is not None and birth is not None:
        incident = _incident(found, watch, birth, exact=False)
        incident.notes.append(words.format("the step was not watched to its end"))
        return incident
    told = f"detected, not explained further, because of time: it was {found.patience.doing}"
    return not_explained(found, words.format(told))


def _blame_scale(found: Diagnosis, incident: Incident) -> None:
    """A scale that is no number, or infinite, makes every gradient bad and is never brought down."""
    cause = "changed-outside-the-step" if found.number > 0 else "state-not-finite"
    incident.cause, incident.stage, incident.fix = cause, CAUSES[cause].stage, CAUSES[cause].fix
    incident.rows, incident.counterfactual = [], None
    incident.evidence["tensor"] = "scaler: scale"
    incident.evidence["text"] = ["the gradient scaler's scale is not finite", *incident.evidence.get("text", [])]


def diagnose(found: Diagnosis) -> Incident | None:
    """The incident; None when the step raised for a reason of its own. Raises whatever goes wrong in a replay."""
    compiled = found.session.is_compiled() and found.error is None
    came_back = exact = False
    if compiled:  # the watched run is not compiled: whether the fault comes back is asked of the step as it was
        came_back = found.again(as_it_was=True) is None and bool(found.harmed_now())
        exact = found.replay_is_exact()
    watch, error = found.watched()
    exact = exact if compiled else found.replay_is_exact()
    found.patience.doing = TRYING
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
        return compiled_only(found, exact) if came_back else transient(found)
    if watch.window is not None and watch.window.is_over:
        birth = _birth(found, watch, watch.ends or set(bad_ops[-1:]), watch.bad_root)
    else:
        ends = _ends(found, watch, again, bad_ops) or set(bad_ops[-1:])
        birth = _birth(found, watch, ends, watch.bad_root or "loss" in again)
    if birth is None:
        return transient(found)
    incident = found.partial = _incident(found, watch, birth, exact)
    from_data(found, incident, birth)
    from_earlier(found, incident)
    if incident.counterfactual is None:
        _try_repair(found, incident)
    name_rewind(found, incident, birth.origin == "state")
    return incident


def _birth(found: Diagnosis, watch: OpTrace, ends: set[int], loss: bool) -> Birth | None:
    """The guilty operation; where it made nothing but infinities, those of a step that ended well are not guilty."""
    birth = find_birth(watch, ends, loss)
    if birth is None or birth.origin != "op" or birth.op.output_nan or birth.op.bad_inputs:
        return birth
    if birth.op.phase not in FORWARD or base(birth.op.name) not in LOGS | MASKING:
        return birth
    return find_birth(watch, ends, loss, found.meant())


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
    if "loss" in harm and not any(watch.ops[i].phase in FORWARD for i in ends):
        early = [i for i in bad_ops if watch.ops[i].phase in FORWARD]
        ends |= set(early[-1:])
    return ends


def _incident(found: Diagnosis, watch: OpTrace, birth: Birth, exact: bool) -> Incident:
    op, cause = birth.op, classify(birth)
    if birth.chosen_away is not None and op.forward != birth.chosen_away.index:
        op = birth.chosen_away  # what was made of the exponential met it first, not its own derivative
    phase = op.phase
    if cause in ("variance-of-one-value", "running-average-not-finite"):
        phase = "buffers"
    if birth.origin == "data":
        phase = "data"
    tensor = guilty_tensor(watch, birth, found.state())
    module = op.module
    if op.phase == "optimizer" or (module is None and ((op.phase == "backward" and op.forward < 0) or op.wrote)):
        module = owner(tensor)
    if birth.origin == "state":
        module = owner(tensor) if module is None else module
        cause = "changed-outside-the-step" if found.number > 0 else cause
    if op.phase == "optimizer" and "norm" in op.name and _has_second_moments(found):
        cause = "second-moment-overflow"  # a gradient whose square overflows, met at its norm first
    stage = CAUSES[cause].stage or (phase if phase != "data" else "forward")
    text = [str(operand) for operand in op.operands[:6]]
    if tensor and not any(tensor in line for line in text):
        text.append(f"reached {tensor}")
    evidence: dict[str, Any] = {
        "operands": [operand.to_json() for operand in op.operands],
        "text": text,
        "wrote": op.wrote,
        "tensor": tensor,
        "forward_op": watch.forward_name(op),
        "spread": watch.spread(op.index),
        "backward": watch.backward.to(op.index),
        "end_digest": found.end.digest() if found.end is not None else None,
    }
    if birth.origin == "op" and tensor in large_state(op):
        op.rows = []  # that weight explains it, whatever the row
    if birth.origin in ("op", "masked") and len(op.rows) == watch.rows.size_at(op.index):
        op.rows = []  # every row alike: it is not the rows
    name = op.node if op.phase == "backward" and op.node else op.name
    incident = incident_of(
        cause, phase, found.number, exact, stage=stage, op=name, module=module, source=op.source or None,
        rows=op.rows, evidence=evidence, fix=fix_for(cause, birth) or CAUSES[cause].fix,
    )  # fmt: skip
    if is_distributed():
        incident.replay = "this rank alone"
        incident.notes.append(f"rank {torch.distributed.get_rank()}; run again without the collectives of the others")
    return incident


def _has_second_moments(found: Diagnosis) -> bool:
    return any(one.name.startswith("exp_avg_sq") for one in found.session.snapshotter.layout().held)


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


def _unwatched(found: Diagnosis, error: Exception) -> Incident:
    """The step could not be watched: run again as it is, it tells at least whether the fault comes back."""
    failed = found.again(as_it_was=True)
    exact, back = found.replay_is_exact(), bool(found.harmed_now()) or failed is not None
    words = f"run under watch, the step raised {_told(error)}"
    if not back:
        incident = transient(found)
        incident.notes.append(words)
        return incident
    incident = not_explained(found, words)
    incident.replay = "bit-exact" if exact else "not reproducible"
    return incident


def _told(error: Exception) -> str:
    """The first line: torch's messages go on for pages."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"


def _try_repair(found: Diagnosis, incident: Incident) -> None:
    """Run the step again with the repair that the cause suggests."""
    tried = for_operation(incident.cause, plain_name(incident.op), found.session.optimizers)
    if tried is None:
        try_without(found, incident)
        return
    if found.again(context=tried.context) is not None and found.error is None:
        return  # it could not be tried: the step raises, such as a checkpoint that is run again without the repair
    finite = not found.harmed_now()
    if finite or tried.used:
        incident.counterfactual = {"repair": tried.words, "finite": finite}
