"""What the incident of a rank says once all ranks have told theirs."""

from __future__ import annotations

from typing import Any

from .causes import CAUSES
from .incident import Incident, incident_of

OTHER = "from-another-rank"
UNSURE = (OTHER, "not-explained")  # causes that do not say that this rank is the one


def undone_for_others(number: int) -> Incident:
    """Of a rank whose own numbers were all finite."""
    incident = incident_of(OTHER, "backward", number, exact=False, stage="backward")
    incident.replay = "not run again"
    return incident


def to_tell(
    incident: Incident | None, error: Exception | None, harmed: bool, early: bool, clean: bool
) -> dict[str, Any]:
    """What a rank tells the others.

    early: its own loss or gradients were bad before any other rank came in. clean: what it gave to the reduction of
    gradients was finite.
    """
    if incident is None:
        return {
            "met": True, "harmed": True, "clean": clean, "words": f"raised {type(error).__name__}",
            "causal": None, "rewind": None,
        }  # fmt: skip
    rows = f", rows {incident.rows[:16]}" if incident.rows else ""
    return {
        "met": early or (harmed and incident.cause not in UNSURE),
        "harmed": harmed,
        "clean": clean,
        "words": f"{'a fault that did not come back' if incident.cause == OTHER else incident.cause}{rows}",
        "causal": incident.causal_step,
        "rewind": incident.evidence.get("rewind"),
    }


def settle(incident: Incident, told: list[dict[str, Any]], names: list[int], at: int) -> None:
    """Name the ranks that met the fault. told: of every rank; names: their ranks; at: which of them this one is."""
    met = [place for place, one in enumerate(told) if one["met"]]
    if all(one["clean"] for one in told) or (not met and not all(one["harmed"] for one in told)):
        met = [place for place, one in enumerate(told) if one["harmed"]]
    incident.evidence["ranks"] = {
        "rank": names[at],
        "of": len(names),
        "met": [names[place] for place in met],
        "words": {str(names[place]): told[place]["words"] for place in met},
    }
    if incident.cause == OTHER and (at in met or not met):
        _rename(incident, "not-repeatable")
    elif at not in met and met:
        _rename(incident, OTHER)
        incident.rows, incident.counterfactual = [], None
    causal = [told[place]["causal"] for place in met if told[place]["causal"] is not None]
    if causal:  # a policy that goes back does so on every rank
        incident.causal_step = min(causal)
    rewinds = [told[place]["rewind"] for place in met if told[place]["rewind"] is not None]
    if rewinds:
        incident.evidence["rewind"] = min(rewinds)


def _rename(incident: Incident, cause: str) -> None:
    incident.cause, incident.fix = cause, CAUSES[cause].fix
    incident.stage = CAUSES[cause].stage or incident.phase
