"""Causes that lie in earlier steps: a spike of a rate or a number, a burst, weights that grew and grew."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from .causes import CAUSES
from .history import Step
from .incident import Incident
from .replay import Diagnosis
from .row_causes import OF_SIZE
from .state.extra_state import same_bits
from .state.finite_check import vector_norm
from .trace.python_values import spikes
from .trace.repair import clipped
from .transient import blame_what_may_have_changed

BY_NUMBER = {"overflow", "constant-not-finite"}  # a number of the same step explains them better than the operation
LOWER = (0.01, 1e-4, 1e-6)  # parts of the learning rate that are tried where it may be too high
GROWN = 1e3  # weights that are so many times larger than a few steps ago have diverged


def from_earlier(found: Diagnosis, incident: Incident) -> None:
    """A spike of the learning rate or of a Python number, an update that dwarfed all others, or a divergence."""
    if incident.stage == "data":
        return
    found.session.snapshotter.put_back(found.before)
    if incident.cause == "learning-rate-not-finite":
        usual = found.session.history.usual_rates()
        if usual and (finite := _redo_from(found, found.number, usual)) is not None:
            incident.counterfactual = {"repair": "the step at the usual learning rate", "finite": finite}
    elif not (_from_rate(found, incident) or _from_number(found, incident) or _from_burst(found, incident)):
        _from_divergence(found, incident)


def _from_rate(found: Diagnosis, incident: Incident) -> bool:
    session = found.session
    rates = session.rates()
    spiked, usual = session.history.rate_spikes(rates, found.number)
    for step in spiked:  # the rate before this step may be the last one's, left there: then the last one explains it
        finite = _redo_from(found, step, usual)
        if finite is None and step != spiked[0]:
            break  # later steps with such a rate are acquitted, this one cannot be tried any more
        if finite is not False:
            at = session.history.at(step)
            text = f"learning rate {max(at.rates if at else rates):.4g} at step {step}, usually {max(usual):.4g}"
            _set(incident, "learning-rate-spike", step, text)
            if finite is not None:
                incident.counterfactual = {"repair": f"step {step} at the usual learning rate", "finite": finite}
            return True
    return False


def _from_number(found: Diagnosis, incident: Incident) -> bool:
    """A number in the script's own variables, such as a rate applied by hand or the weight of a loss."""
    kept = [one for one in found.session.history.steps if one.python is not None]
    if incident.cause not in OF_SIZE | BY_NUMBER or not kept:
        return False
    steps = [*kept, found.as_step()]
    for ago, name, number, usual in spikes([s.python for s in steps if s.python is not None]):
        spiked = steps[len(steps) - 1 - ago]
        assert spiked.python is not None
        usual_there = replace(spiked, python=spiked.python.with_number(name, usual))
        redone = [usual_there if one is spiked else one for one in steps if one.step >= spiked.step]
        finite = _redo(found, redone, [])
        spiked.python.write()
        text = f"{name} was {number:.4g} at step {spiked.step}, usually {usual:.4g}"
        if finite and not ago and incident.cause not in BY_NUMBER:  # the operation has a repair of its own
            incident.notes.append(f"{text}: with that the step stays finite")
            return True
        if finite:
            _set(incident, "python-value-spike", spiked.step, text)
            incident.counterfactual = {"repair": f"step {spiked.step} with {name} = {usual:.4g}", "finite": True}
            return True
    return False


def _from_burst(found: Diagnosis, incident: Incident) -> bool:
    """Weights that one step moved a hundred times as far as the steps before it."""
    burst = found.session.history.update_spike()
    if burst is None or incident.cause not in OF_SIZE:
        return False
    incident.causal_step = burst
    at = found.session.history.at(burst)
    if at is not None and at.snapshot is not None and _rate_of_burst(found, incident, at):
        return True
    if at is not None:
        incident.notes.append(f"at step {burst} the weights moved by {at.update:.4g}, a hundred times as far as before")
    if _was_transient(found, burst):
        cause = "not-reproducible"
        incident.cause, incident.stage, incident.fix = cause, CAUSES[cause].stage, CAUSES[cause].fix
        incident.rows, incident.replay = [], "not reproducible"
        finite = _redo_from(found, burst, [])
        incident.counterfactual = {"repair": f"the steps from {burst} on again", "finite": finite}
        incident.notes.append(f"step {burst} run again ended in other numbers; the fault as it shows is exact")
        blame_what_may_have_changed(found, incident)
    return True


def _rate_of_burst(found: Diagnosis, incident: Incident, at: Step) -> bool:
    """Whether that step began at a rate that it did not leave: a schedule inside of the step sets it again."""
    session, usual = found.session, found.session.history.usual_rates()
    assert at.snapshot is not None
    session.snapshotter.put_back(at.snapshot)
    rates = session.rates()
    session.snapshotter.put_back(found.before)
    if not any(0 < 100 * now < rate for rate, now in zip(rates, usual, strict=False)):
        return False
    finite = _redo_from(found, at.step, usual)
    if finite is False:
        return False
    _set(
        incident,
        "learning-rate-spike",
        at.step,
        f"learning rate {max(rates):.4g} at step {at.step}, usually {max(usual):.4g}",
    )
    if finite:
        incident.counterfactual = {"repair": f"step {at.step} at the usual learning rate", "finite": True}
    return True


def _from_divergence(found: Diagnosis, incident: Incident) -> None:
    """Weights that grew from step to step: does it end with a lower rate, or with clipped gradients?"""
    kept = [one for one in found.session.history.steps if one.snapshot is not None]
    if incident.cause not in OF_SIZE or not kept:
        return
    norms = [one.weights for one in found.session.history.steps if one.weights > 0]
    now, then = _norm_before(found.as_step()), _norm_before(kept[0])
    if now < GROWN * min([then, *norms]) or now < max([then, *norms]) or _jumped(found):
        return
    first = kept[0].step
    text = f"norm of the weights: {then:.4g} before step {first}, {now:.4g} before this one"
    rates = found.session.rates()
    tries: list[tuple[str, list[float], Any]] = []
    if any(rate > 0 for rate in rates):
        tries += [(f"at {part:g} of the learning rate", [part * rate for rate in rates], None) for part in LOWER]
    if found.session.optimizers:
        tries.append(("with gradients clipped to a norm of 1", [], clipped(found.session.optimizers)))
    for words, lower, context in tries:
        if _redo(found, [*kept, found.as_step()], lower, context, 1.0):
            _set(incident, "diverged", first, text)
            incident.rows = []
            incident.counterfactual = {"repair": f"the steps from {first} on {words}", "finite": True}
            return
    incident.notes.append(text)


def _norm_before(step: Step) -> float:
    """The norm of the weights before a kept step."""
    snapshot = step.snapshot
    assert snapshot is not None
    pieces = [piece for one, piece in snapshot.layout.pieces(snapshot.copies) if one.kind == "weights"]
    return math.hypot(*(float(vector_norm(piece.detach().double())) for piece in pieces)) if pieces else math.inf


def _set(incident: Incident, cause: str, step: int, text: str) -> None:
    incident.cause, incident.causal_step = cause, step
    incident.stage, incident.fix = CAUSES[cause].stage, CAUSES[cause].fix
    incident.evidence["text"] = [text, *incident.evidence["text"]]


def _redo_from(found: Diagnosis, step: int, rates: list[float]) -> bool | None:
    """Whether the steps from this one on end well at these learning rates; None when it is no longer kept."""
    return _redo(found, [*(s for s in found.session.history.steps if s.step >= step), found.as_step()], rates)


def _redo(
    found: Diagnosis, steps: list[Step], rates: list[float], context: Any = None, most: float = 100.0
) -> bool | None:
    return found.session.redo(steps, rates, context, most)


def _was_transient(found: Diagnosis, step: int) -> bool:
    """Whether an earlier step, run again, ends in other numbers than it did then."""
    kept = [s for s in found.session.history.steps if s.step >= step]
    after = kept[1].snapshot if len(kept) > 1 else found.before
    if after is None or not found.session.redo(kept[:1], []):
        return False
    now = found.session.snapshotter.layout()
    copies = now.copied() if now is after.layout else None
    return copies is not None and not all(same_bits(copies[key], after.copies[key]) for key in copies)


def _jumped(found: Diagnosis) -> str | None:
    """What to say of weights that something changed to other finite numbers since the last step."""
    last = found.session.history.steps[-1] if found.session.history.steps else None
    now = _norm_before(found.as_step())
    if last is None or not last.weights > 0 or last.step != found.number - 1 or now < GROWN * last.weights:
        return None
    return f"between the steps the norm of the weights went from {last.weights:.4g} to {now:.4g}"


def name_rewind(found: Diagnosis, incident: Incident, bad_already: bool) -> None:
    """Where the state of before the step is the fault itself, say how to get out of it."""
    history = found.session.history
    jumped = _jumped(found)
    if jumped:
        incident.notes.append(jumped)
    if incident.causal_step >= incident.first_bad_step and not bad_already and not jumped:
        return
    last = history.steps[-1].step if history.steps else -1
    step = incident.causal_step if incident.causal_step < incident.first_bad_step else last
    at = history.at(step)
    if at is None or at.snapshot is None:
        incident.evidence["rewind"] = None
        incident.notes.append("the state of before this step is bad already, and no earlier one is kept")
        return
    incident.evidence["rewind"] = step
    incident.fix += f" recorder.rewind({step}) brings back the last good state."
