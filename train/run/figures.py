"""The figures of a run that its display shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from az.train.config import RunConfig
from az.train.learner import StepMetrics
from az.train.replay import window_rows
from az.train.run.counters import Counters


def figures(
    config: RunConfig,
    count: Counters,
    steps: int,
    rows: int,
    elapsed: float,
    speed: Sequence[tuple[float, int]],
    latest: StepMetrics | None,
) -> dict[str, Any]:
    """steps, rows: made so far; elapsed: seconds; speed: (moment in seconds, positions by then), oldest first; latest:
    the last step that was logged.
    """
    stats: dict[str, Any] = {
        "games": count.games,
        "positions": count.plies,
        "step": steps,
        "version": count.model,
        "total_steps": config.steps,
        "window": window_rows(config.replay, rows),
        "rows": rows,
        "window_size": config.replay.window,
        "elapsed": elapsed,
    }
    if config.minutes and not config.deterministic:
        stats["left"] = max(0.0, config.minutes * 60 - elapsed)
    if len(speed) > 1:
        (t0, p0), (t1, p1) = speed[0], speed[-1]
        stats["positions_per_second"] = (p1 - p0) / max(1e-9, t1 - t0)
    if latest is not None:
        stats |= {name: getattr(latest, name) for name in ("policy_loss", "value_loss", "entropy")}
        stats["learning_rate"] = latest.lr
    return stats
