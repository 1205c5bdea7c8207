"""What the recorder found: for a person `str(incident)`, for a program `incident.to_json()`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypedDict, Unpack

from .causes import CAUSES

FIELDS = (
    "stage", "cause", "phase", "op", "module", "source", "rows", "first_bad_step", "causal_step", "replay", "evidence",
    "fix", "counterfactual",
)  # fmt: skip
IN_JSON = {"stage": "plane"}  # an input plane is something else; the file keeps its key


class Known(TypedDict, total=False):
    """The fields of an incident that `incident_of` takes; without one, what the registry of causes says."""

    stage: str
    op: str | None
    module: str | None
    source: str | None
    rows: list[int]
    first_bad_step: int
    causal_step: int
    evidence: dict[str, Any]
    fix: str
    counterfactual: dict[str, Any] | None
    seconds: float
    notes: list[str]


@dataclass(kw_only=True)
class Incident:
    """One fault, stopped and named. Steps are counted from 0. See `incident_of`."""

    stage: str  # where it belongs: causes.STAGES; "plane" in JSON
    cause: str  # id: a key of causes.CAUSES
    phase: str  # data, forward, loss, backward, optimizer, buffers
    op: str | None = None  # torch's name of the operation: aten::log; in backward the autograd node's: SqrtBackward0
    module: str | None = None  # path in the model, "" for the model itself; None outside it
    source: str | None = None  # file:line of the user's code
    rows: list[int] = field(default_factory=list)  # of the batch; [] where the fault is of no row
    first_bad_step: int
    causal_step: int
    replay: str = "bit-exact"  # or "not reproducible"; "this rank alone" on one of several ranks
    evidence: dict[str, Any] = field(default_factory=dict)
    fix: str
    counterfactual: dict[str, Any] | None = None  # {"repair": …, "finite": …}; None where no repair can be tried
    seconds: float = 0.0  # from detection to diagnosis
    notes: list[str] = field(default_factory=list)

    @property
    def plane(self) -> str:
        """The old name of `stage`, for one version."""
        return self.stage

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON types."""
        found = {IN_JSON.get(name, name): getattr(self, name) for name in FIELDS}
        return {**found, "seconds": self.seconds, "notes": self.notes}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Incident:
        """The incident that `to_json` wrote. Raises KeyError or TypeError for anything else."""
        return cls(**{name: value[IN_JSON.get(name, name)] for name in (*FIELDS, "seconds", "notes")})

    def words(self) -> str:
        """The cause in plain words."""
        return CAUSES[self.cause].words if self.cause in CAUSES else self.cause

    def _state(self) -> str:
        """What the loop goes on with."""
        if (step := self.evidence.get("state_of")) is not None:
            return f"the state is that of before step {step}, the last copy: go on from that step"
        if "rewind" not in self.evidence:
            return "nothing was changed: the state is that of before the step"
        words = "nothing was changed: the state is that of before the step, which was bad already"
        step = self.evidence["rewind"]
        return (
            f"{words}: recorder.rewind({step}) goes back to that of before step {step}" if step is not None else words
        )

    @property
    def ranks(self) -> list[int]:
        """The ranks that met the fault; [] where ranks did not agree on it, or where no rank's own numbers tell."""
        return list(self.evidence.get("ranks", {}).get("met", []))

    def _ranks(self, first: str) -> list[str]:
        """The first lines, with who met the fault."""
        told = self.evidence.get("ranks")
        if told is None:
            return [first]
        own, of, met = told["rank"], told["of"], told["met"]
        others = "; ".join(f"rank {rank} of {of}: {told['words'][str(rank)]}" for rank in met if rank != own)
        if not met:
            others = "undone on all ranks; no rank's own numbers tell on which it began"
        elif own not in met:
            others = f"undone since rank {' and '.join(map(str, met))} met a fault: {others}"
        return [f"rank {own} of {of}, {first}", *([f"  {others}"] if others else [])]

    def __str__(self) -> str:
        lines = self._ranks(f"step {self.first_bad_step}: {self.words()} ({self.stage}: {self.cause})")
        if self.causal_step != self.first_bad_step:
            lines.append(f"  caused at step {self.causal_step}, showed at step {self.first_bad_step}")
        place = [f"in {self.phase}"]
        place += [f"operation {self.op}"] if self.op else []
        place += [f"module {self.module or 'the model itself'}"] if self.module is not None else []
        place += [self.source] if self.source else []
        lines.append("  " + ", ".join(place))
        if self.rows:
            shown = ", ".join(map(str, self.rows[:8])) + (
                f" and {len(self.rows) - 8} more" if len(self.rows) > 8 else ""
            )
            lines.append(f"  rows of the batch: {shown}")
        lines += [f"  {text}" for text in self.evidence.get("text", [])]
        lines.append(f"  replay: {self.replay}; {self._state()}")
        lines.append(f"  {self.fix}")
        if self.counterfactual is not None:
            went = "stayed finite" if self.counterfactual["finite"] else "did not stay finite"
            lines.append(f"  tried ({self.counterfactual['repair']}): the step {went}")
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])


def incident_of(cause: str, phase: str, step: int, exact: bool = True, **known: Unpack[Known]) -> Incident:
    """An incident of a cause, in the words and at the place that its registry gives.

    step: both where it showed and where it was caused. exact: whether the replay was bit-exact. known: other fields.
    """
    found = CAUSES[cause]
    fields: dict[str, Any] = {"stage": found.stage, "fix": found.fix, "first_bad_step": step, "causal_step": step}
    fields |= known
    return Incident(cause=cause, phase=phase, replay="bit-exact" if exact else "not reproducible", **fields)


def not_made_again(shown: int, now: int, harm: set[str]) -> Incident:
    """A fault in a step whose state of before could not be had again: that of before step `now` was put back."""
    since = f"steps {now} to {shown - 1}, made again, did not end as they had: the state is that of before step {now}"
    return incident_of(
        "not-made-again", "loss", shown, exact=False,
        evidence={
            "harm": sorted(harm), "state_of": now, "text": [f"not finite after the step: {', '.join(sorted(harm))}"]
        },
        notes=[since, "from now on the state is copied before every step"],
    )  # fmt: skip
