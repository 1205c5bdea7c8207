"""Faults that lie in rows of the batch: which, and whether the step ends well without them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .causes import CAUSES
from .incident import Incident
from .replay import Diagnosis
from .trace.operands import measure
from .trace.pytree import as_tensor, is_finite, leaves
from .trace.repair import for_operation
from .trace.root_cause import Birth
from .trace.rows import bad_rows_in, far_rows, overwrite_rows, rows_of, scaled, without_rows

# Faults of an operation that a state blown up earlier explains, or a row of a size that no other has.
OF_SIZE = {"overflow", "half-overflow", "exp-overflow", "log-of-zero", "inf-minus-inf", "inf-times-zero",
           "second-moment-overflow", "update-overflow", "gradient-at-singularity", "division-by-zero", "zero-over-zero",
           "softmax-of-nothing", "running-average-not-finite", "variance-overflow"}  # fmt: skip


MOST = 1e19  # beyond it every sum of squares overflows in float32: no operation can be asked to bear that


def from_data(found: Diagnosis, incident: Incident, birth: Birth) -> None:
    """Rows that are bad themselves, or so large that they explain the overflow."""
    found.session.snapshotter.put_back(found.before)
    found.python.write()
    if birth.origin == "data":
        _name_fields(found, incident)
        try_without(found, incident)
    elif incident.cause in OF_SIZE or incident.cause == "domain-error":
        _blame_far_rows(found, incident)


def _name_fields(found: Diagnosis, incident: Incident) -> None:
    fields = [measure(name, t) for name, leaf in leaves(found.batch)
              if (t := as_tensor(leaf)) is not None and not is_finite(t)]  # fmt: skip
    rows = bad_rows_in(found.batch)
    for name, tensor in _held(found):
        fields.append(measure(name, tensor))
        rows = rows or bad_rows_in(tensor)
    incident.rows = rows or incident.rows
    incident.evidence |= {"fields": [f.role for f in fields], "text": [f"field {f}" for f in fields]}


def _held(found: Diagnosis) -> list[tuple[str, Tensor]]:
    """Tensors with bad numbers that the step reads by a name of its own, not from the batch."""
    given = {t.data_ptr() for _, leaf in leaves(found.batch) if (t := as_tensor(leaf)) is not None}
    return [(name, t) for name, t in found.python.tensors() if not is_finite(t) and t.data_ptr() not in given]


def _blame_far_rows(found: Diagnosis, incident: Incident) -> None:
    count = rows_of(found.batch)
    earlier = [s.snapshot.batch for s in found.session.history.steps if s.snapshot is not None]
    for name, rows, size, usual in far_rows(found.batch, [[kept for _, kept in batch] for batch in earlier]):
        tried = _without(found, rows) if len(rows) < count else None
        if tried is None and found.stays_finite(scaled(found.batch, name, usual / size)):
            tried = {"repair": f"{name} scaled down to its usual size", "finite": True}
        if tried is None or not tried["finite"]:
            continue
        text = f"{name}: up to {size:.4g} in these rows, usually up to {usual:.4g}"
        if size < MOST and (repair := _own_repair(found, incident)) is not None:
            incident.rows, incident.counterfactual = rows, repair
            incident.fix += f" Or leave rows {rows[:8]} out: {text}; without them it stays finite too."
            incident.evidence |= {"fields": [name], "text": [text, *incident.evidence["text"]]}
            return
        incident.counterfactual = tried
        incident.cause, incident.stage, incident.phase = "batch-value-out-of-range", "data", "data"
        incident.fix, incident.rows = CAUSES[incident.cause].fix, rows
        incident.evidence |= {"fields": [name], "text": [text, *incident.evidence["text"]]}
        return


def _own_repair(found: Diagnosis, incident: Incident) -> dict[str, Any] | None:
    """The repair of the operation itself, where one is known and ends well: then the operation is careless, whatever
    the size of the row that showed it."""
    tried = for_operation(incident.cause, plain_name(incident.op), found.session.optimizers)
    if tried is None or incident.stage == "optimizer" or not found.stays_finite(context=tried.context):
        return None
    return {"repair": tried.words, "finite": True}


def plain_name(op: str | None) -> str:
    """`aten::log` → `log`, `SqrtBackward0` → `Sqrt`."""
    name = op or ""
    return name.partition("::")[2] or name.removesuffix("Backward0").removesuffix("Backward1")


def try_without(found: Diagnosis, incident: Incident) -> None:
    """The step without the rows that are bad. Where it ends no better, the fault is not one of these rows."""
    incident.counterfactual = _without(found, incident.rows)
    if incident.counterfactual is not None and not incident.counterfactual["finite"] and incident.stage != "data":
        incident.rows = []


def _without(found: Diagnosis, rows: list[int]) -> dict[str, Any] | None:
    """The step on a batch without these rows, or with others written over them in its own memory.

    None where neither can be tried, or where the step never read what was changed: then nothing was tried.
    """
    if 0 < len(rows) < rows_of(found.batch):
        error = found.again(without_rows(found.batch, rows))
        if error is None and not found.harmed_now():
            return {"repair": f"without rows {rows[:8]}", "finite": True}
    else:
        error = None
    tensors = [t for _, t in _held(found)]
    counts = [*[rows_of(t) for t in tensors], rows_of(found.batch)]
    if not rows or not any(len(rows) < count and max(rows) < count for count in counts):
        return None
    with _Restored(tensors):
        finite = found.stays_finite(change=_overwriting(found, tensors, rows))
    if finite:
        return {"repair": f"with other rows in place of rows {rows[:8]}", "finite": True}
    if found.watch is None or not found.watch.reads_batch:
        return None
    words = f"without rows {rows[:8]}" if error is None else f"with other rows in place of rows {rows[:8]}"
    return {"repair": words, "finite": False}


def _overwriting(found: Diagnosis, tensors: list[Tensor], rows: list[int]) -> Callable[[], None]:
    def overwrite() -> None:
        for tree in (found.batch, *tensors):
            if len(rows) < rows_of(tree) and max(rows) < rows_of(tree):
                overwrite_rows(tree, rows)

    return overwrite


class _Restored:
    """Tensors that no snapshot holds get their numbers back."""

    def __init__(self, tensors: list[Tensor]) -> None:
        self.kept = [(tensor, tensor.detach().clone()) for tensor in tensors]

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: Any) -> None:
        with torch.no_grad():
            for tensor, numbers in self.kept:
                tensor.copy_(numbers)
