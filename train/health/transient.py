"""Incidents of faults that did not come back when the step was run again, and of those that could not be explained."""

from __future__ import annotations

from .causes import CAUSES
from .incident import Incident, incident_of
from .replay import Diagnosis
from .trace.pytree import is_finite
from .trace.surroundings import is_distributed


def transient(found: Diagnosis) -> Incident:
    """The step, run again, ended well. The machine is suspected only where nothing else can have changed."""
    incident = _detected(found, "not-reproducible")
    incident.counterfactual = {"repair": "the same step again", "finite": True}
    blame_what_may_have_changed(found, incident)
    return incident


def blame_what_may_have_changed(found: Diagnosis, incident: Incident) -> None:
    """Name what the replay could not have as it was; `not-reproducible` stays where there is nothing of it."""
    reasons = not_kept(found)
    if is_distributed():
        _set_cause(incident, "from-another-rank")
        if incident.counterfactual is not None:
            incident.counterfactual["repair"] = "the same step again on this rank alone"
    elif reasons:
        _set_cause(incident, "not-repeatable")
        incident.notes.append("not as it was when the step was run again: " + "; ".join(reasons))


def not_kept(found: Diagnosis) -> list[str]:
    """What the step reads and a replay may not have as it was."""
    changed = found.python.changed_in_place(found.python_end)
    reasons = [f"{name}, which the step writes and extra_state does not hold" for name in changed[:4]]
    reasons += [f"{name}, an iterator: what it has given is gone" for name in found.python.iterators[:4]]
    return [*reasons, "compiled code, which may choose other kernels"] if found.session.is_compiled() else reasons


def compiled_only(found: Diagnosis, exact: bool) -> Incident:
    """Run again compiled, the fault came back; run again as it is written, it did not."""
    incident = _detected(found, "compiled-code-only")
    incident.replay = "bit-exact" if exact else "not reproducible"
    incident.counterfactual = {"repair": "the step without compilation", "finite": True}
    return incident


def not_explained(found: Diagnosis, why: str) -> Incident:
    """What was detected, and why there is no more to say."""
    incident = _detected(found, "not-explained")
    incident.notes.append(why)
    return incident


def _detected(found: Diagnosis, cause: str) -> Incident:
    order = (("loss", "loss"), ("gradients", "backward"), ("optimizer", "optimizer"), ("weights", "optimizer"))
    phase = next(
        (phase for harm, phase in order if harm in found.harm), "buffers" if "buffers" in found.harm else "loss"
    )
    bad = [] if found.end is None else [
        f"{one.kind}: {one.name}" for one, piece in found.end.layout.pieces(found.end.copies) if not is_finite(piece)
    ]  # fmt: skip
    text = [f"not finite after the step: {', '.join(sorted(found.harm))}", *([", ".join(bad[:6])] if bad else [])]
    return incident_of(
        cause, phase, found.number, exact=False, stage=CAUSES[cause].stage or phase,
        evidence={"harm": sorted(found.harm), "tensors": bad, "text": text},
    )  # fmt: skip


def _set_cause(incident: Incident, cause: str) -> None:
    incident.cause, incident.fix = cause, CAUSES[cause].fix
    incident.stage = CAUSES[cause].stage or incident.phase
