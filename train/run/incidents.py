"""Faults outside the learner's step, as incidents: record files, searches, models that a gate refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from az.engine.errors import Refused
from az.engine.records.row_checks import RowFault
from az.engine.selfplay.checks import SearchFault
from az.train.health.incident import Incident, incident_of


class BadFile(Refused):
    """A record file that may not enter the window. faults: its bad rows; none where the file itself is bad."""

    def __init__(self, text: str, faults: list[RowFault], origin: dict[str, Any]) -> None:
        super().__init__(text)
        self.faults, self.origin = faults, origin


class BadModel(Refused):
    """A model that a gate refused. tensor: the one that is not finite; node, op: where its ONNX graph goes astray."""

    def __init__(
        self, text: str, tensor: str | None = None, node: str | None = None, op: str | None = None,
        module: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(text)
        self.tensor, self.node, self.op, self.module = tensor, node, op, module


def of_file(path: Path, refusal: Refused, step: int) -> tuple[Incident, list[dict[str, Any]]]:
    """The incident of a quarantined file and where its first bad rows came from."""
    faults = refusal.faults if isinstance(refusal, BadFile) else []
    if not faults:
        cause = "checksum" if "checksum" in str(refusal) else "unreadable"
        evidence: dict[str, Any] = {"file": path.name, "text": [str(refusal)]}
        return _incident(cause, "data", [], step, evidence, "before a row of it was read"), []
    first = faults[0]
    cause = first.cause
    origin = refusal.origin if isinstance(refusal, BadFile) else {}
    evidence = {"file": path.name, "fields": [first.field], "text": [str(refusal)], "origin": origin}
    if cause == "checksum":
        return _incident(cause, "data", [f.row for f in faults], step, evidence, "before a row of it was read"), [
            origin
        ]
    rows = [fault.row for fault in faults]
    return _incident(cause, "data", rows, step, evidence, "before a row of it entered the window"), [origin]


def of_search(fault: dict[str, Any], seed: int, step: int) -> tuple[Incident, list[dict[str, Any]]]:
    """The incident of a game that was stopped before a row of it was written. fault: a `SearchFault` as JSON, and
    "node" where it was met on one of a cluster.
    """
    node = fault.get("node", "")
    found = SearchFault(**{name: value for name, value in fault.items() if name != "node"})
    origin = {"game": found.k, "ply": found.ply, "model": found.model_id, "seed": seed, "state": found.state}
    on = f", on node {node}" if node else ""
    evidence = {"fields": ["policy"], "text": [f"game {found.k}, ply {found.ply}{on}: {found.text}"], "origin": origin}
    return _incident(found.cause, "data", [], step, evidence, "before a row was written"), [origin]


def of_model(refusal: Refused, number: int, step: int) -> Incident:
    """The incident of a model that a gate refused."""
    evidence: dict[str, Any] = {"model": number, "text": [str(refusal)]}
    if not isinstance(refusal, BadModel):
        return _incident("gate-refused", "buffers", [], step, evidence, "before self-play saw it")
    evidence |= {"tensor": refusal.tensor, "node": refusal.node}
    found = _incident("gate-refused", "buffers", [], step, evidence, "before self-play saw it")
    found.op, found.module = refusal.op, refusal.module
    return found


def _incident(cause: str, phase: str, rows: list[int], step: int, evidence: dict[str, Any], when: str) -> Incident:
    return incident_of(cause, phase, step, evidence=evidence, rows=rows, notes=[f"stopped {when}"])
