"""What the watch over a run's numbers remembers, in a form that a checkpoint can keep.

Without it a run that goes on warns at other steps than one that was never stopped.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Annotated

import torch
from pydantic import ConfigDict, Field, StrictBool
from pydantic.dataclasses import dataclass

from az.engine.settings import BIG
from az.train.health.early_warnings import EarlyWarnings
from az.train.health.metrics import HealthMetrics

Count = Annotated[int, Field(strict=True, ge=0, le=BIG)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
FORM = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(config=FORM)
class WatchMemory:
    """Of one early warning."""

    above: Count
    since: Count
    raised: StrictBool
    past: Annotated[list[tuple[Count, Number]], Field(max_length=1000)]


@dataclass(config=FORM)
class HealthMemory:
    """Of all early warnings, and how often each cause was met."""

    watches: dict[str, WatchMemory]
    grad_norms: Annotated[list[Number], Field(max_length=1000)]
    weights: Annotated[list[tuple[Count, Number]], Field(max_length=1000)]
    largest_moments: dict[Annotated[str, Field(pattern="^[0-9]{1,9}$")], Number]
    means: list[Number] | None  # the batch-norm averages at the last look
    looks: Count
    near: StrictBool
    met: dict[str, Count]
    refused_by_writer: dict[str, Count]


def remember(warnings: EarlyWarnings, metrics: HealthMetrics, met: Counter[str], refused: Counter[str]) -> HealthMemory:
    """As it is now; numbers that are not finite are left out, since JSON has none."""
    watches = {
        name: WatchMemory(watch.above, watch.since, watch.raised, list(watch.past))
        for name, watch in warnings.watches.items()
    }
    means = None if metrics.means is None else metrics.means.tolist()
    return HealthMemory(
        watches=watches,
        grad_norms=list(metrics.grad_norms),
        weights=list(metrics.weights),
        largest_moments={str(i): value for i, value in metrics.largest_moment.items() if math.isfinite(value)},
        means=means if means is None or all(map(math.isfinite, means)) else None,
        looks=metrics.looks,
        near=metrics.near,
        met=dict(met),
        refused_by_writer=dict(refused),
    )


def restore(
    memory: HealthMemory,
    warnings: EarlyWarnings,
    metrics: HealthMetrics,
    met: Counter[str],
    refused: Counter[str],
    seamless: bool,
) -> None:
    """Go on watching the same training. A metric that is not known any more is left out.

    seamless: as if there had been no stop, which a deterministic run needs for its bytes. Otherwise what is counted for
    one session begins at zero: how often a cause was met (three times end a session, and would end every later one at
    its first), the files refused by each writer (other processes have those numbers now), and what was warned of.
    """
    for name, kept in memory.watches.items():
        if name in warnings.watches:
            watch = warnings.watches[name]
            watch.above, watch.since, watch.raised = kept.above, kept.since, kept.raised and seamless
            watch.past.extend(kept.past)
    metrics.grad_norms.extend(memory.grad_norms)
    metrics.weights.extend(memory.weights)
    metrics.largest_moment = {int(i): value for i, value in memory.largest_moments.items()}
    metrics.looks, metrics.near = memory.looks, memory.near
    if memory.means is not None:
        device = next(iter(metrics.model.parameters())).device
        metrics.means = torch.tensor(memory.means, device=device)
    if seamless:
        met.update(memory.met)
        refused.update(memory.refused_by_writer)
