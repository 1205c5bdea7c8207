"""Early warnings: numbers that leave their usual range long before anything stops being finite.

Each metric has a threshold that clean runs never reached (docs/health.md has the runs and their largest values) and,
where there is one, the limit at which arithmetic gives out. A metric warns once, when it has stood above its threshold
at three measurements in a row, and again only after it has been well below.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

LOOKS = 3  # measurements in a row above the threshold before a metric warns
TREND = 24  # measurements that the trend is taken over


@dataclass(frozen=True)
class Metric:
    """One number that is watched."""

    name: str
    warn: float
    limit: float | None  # where arithmetic gives out
    words: str
    looks: int = LOOKS


METRICS = (
    Metric("max_logit", 30.0, 88.0, "the logits grow: exp() of a float32 overflows beyond 88"),
    Metric("max_pre_tanh", 8.0, None, "the value head is saturated: tanh is 1 in float32 beyond 9, its gradient 0"),
    Metric("grad_norm_ratio", 20.0, None, "the gradient is many times its usual size", looks=1),
    Metric("activation_share", 0.02, 1.0, "the largest activation nears the end of float16 (65504)"),
    Metric("weight_drift", 0.7, None, "the weights grow: this much of log|W| in a thousand steps"),
    # Heavy tails bring one tensor to 17 once in 100,000 clean steps; Adam's own limit is sqrt(1 / (1 - 0.999)) = 31.6.
    Metric("moment_ratio", 25.0, None, "gradients dwarf the optimizer's second moment: RMS of g/sqrt(v)", looks=1),
    Metric("moment_decay", 6.0, None, "the optimizer's second moment has decayed by so many powers of ten"),
    Metric("variance_ratio", 1e6, None, "running variances of one layer differ by such a factor"),
    Metric("average_gap", 1.0, None, "in evaluation mode the loss is higher by this than the averages' age explains"),
    Metric("averages_still", 0.5, None, "the batch-norm averages do not move"),
    Metric("bad_files", 0.5, None, "one writer's record files are refused again and again", looks=1),
)
BY_NAME = {metric.name: metric for metric in METRICS}


@dataclass
class EarlyWarning:
    """A metric that has gone beyond its threshold."""

    metric: str
    step: int
    value: float
    since: int
    expected: int | None  # the step at which its limit is reached if the trend goes on

    @property
    def sign(self) -> str:
        """The old name of `metric`, for one version."""
        return self.metric

    def __str__(self) -> str:
        metric = BY_NAME[self.metric]
        text = (
            f"early warning {self.metric}: {metric.words}: {self.value:.4g},"
            f" above {metric.warn:g} since step {self.since}"
        )
        return text + (f"; on this trend {metric.limit:g} is reached at step {self.expected}" if self.expected else "")

    def to_json(self) -> dict[str, Any]:
        """As JSON: a line of the log, where the metric has the key "sign"."""
        return {"sign" if name == "metric" else name: value for name, value in vars(self).items()} | {"text": str(self)}


@dataclass
class _History:
    above: int = 0
    since: int = 0
    raised: bool = False
    past: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=TREND))


class EarlyWarnings:
    """Takes the measured numbers, returns the warnings that are due. A non-finite number is ignored."""

    def __init__(self) -> None:
        self.watches = {metric.name: _History() for metric in METRICS}

    def look(self, step: int, values: Mapping[str, float]) -> list[EarlyWarning]:
        """values: health metrics by name (those that were measured)."""
        warnings: list[EarlyWarning] = []
        for metric in METRICS:
            value = values.get(metric.name)
            if value is None or not math.isfinite(value):
                continue
            watch = self.watches[metric.name]
            watch.past.append((step, value))
            if value > metric.warn:
                watch.since = step if watch.above == 0 else watch.since
                watch.above += 1
            else:
                watch.above = 0
                watch.raised = watch.raised and value > 0.7 * metric.warn
            if watch.above >= metric.looks and not watch.raised:
                watch.raised = True
                warnings.append(EarlyWarning(metric.name, step, value, watch.since, self._expected(metric, watch)))
        return warnings

    def _expected(self, metric: Metric, watch: _History) -> int | None:
        """Where an exponential through the last measurements meets the limit."""
        if metric.limit is None or len(watch.past) < 3 or min(v for _, v in watch.past) <= 0:
            return None
        steps = np.array([s for s, _ in watch.past], float)
        logs = np.log([v for _, v in watch.past])
        line = cast("NDArray[np.float64]", np.polyfit(steps - steps[-1], logs, 1))
        slope = float(line[0])
        if slope <= 0:
            return None
        return int(steps[-1] + max(0.0, (math.log(metric.limit) - logs[-1]) / slope))
