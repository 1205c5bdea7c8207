"""How strong a run's models were, by its log: on solved positions, and in matches, over rows made and over time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

from az.engine.arena.elo import wilson
from az.engine.runs.log import Line


@dataclass(frozen=True)
class Measured:
    """One measurement of one model. rows, seconds: made and trained before it."""

    scale: str  # "solved": the share of solved positions whose result it gives away; "elo OPPONENT": Elo against it
    step: int
    rows: float
    seconds: float
    value: float
    low: float | None  # 95 % interval, where it is known
    high: float | None

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def number(value: Any) -> float | int | None:
    """A finite number within int64, or None."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**63
    return value if good else None


def measured(lines: Iterable[Line], positions: int | None = None) -> list[Measured]:
    """Every measurement in a log, in its order; one of a model that was made again counts once.

    positions: how many solved ones there are, where the log does not say.
    """
    told = list(lines)
    at = sorted(
        (step, number(line.get("rows")) or 0, number(line.get("elapsed")) or 0.0)
        for line in told
        if line.get("kind") == "step" and (step := number(line.get("step"))) is not None
    )
    steps = [one[0] for one in at]
    found: dict[tuple[str, int], Measured] = {}
    for line in told:
        step = number(line.get("step"))
        made = None if step is None else _figures(line, positions)
        if step is None or made is None:
            continue
        before = at[max(0, bisect_right(steps, step) - 1)] if at and step else (0, 0, 0.0)
        found[made[0], int(step)] = Measured(made[0], int(step), float(before[1]), float(before[2]), *made[1:])
    return sorted(found.values(), key=lambda one: (one.scale != "solved", one.scale, one.step))


def _figures(line: Line, positions: int | None) -> tuple[str, float, float | None, float | None] | None:
    if line.get("kind") == "solved":
        share, count = (_of_all(line.get(name)) for name in ("thrown", "of"))
        count = count or positions
        if share is None or not 0 <= share <= 1:
            return None
        low, high = wilson(share, count) if count else (None, None)
        return "solved", float(share), low, high
    if line.get("kind") == "score":
        elo, low, high = (number(line.get(name)) for name in ("elo", "elo_low", "elo_high"))
        return None if elo is None else (f"elo {line.get('opponent')}", float(elo), low, high)
    return None


def _of_all(part: Any) -> float | int | None:
    """What a line says of all phases together."""
    return number(cast("dict[str, Any]", part).get("all")) if isinstance(part, dict) else None


def scales_of(found: Iterable[Measured]) -> list[str]:
    """The scales that were measured on, in order."""
    return list(dict.fromkeys(one.scale for one in found))


def last_before(found: Sequence[Measured], scale: str, field: str, most: float) -> Measured | None:
    """The newest measurement on a scale at or before `most` rows or seconds."""
    there = [one for one in found if one.scale == scale and getattr(one, field) <= most * (1 + 1e-9)]
    return max(there, key=lambda one: getattr(one, field), default=None)


def shown(one: Measured) -> str:
    """A measurement for people."""
    share = one.scale == "solved"

    def text(value: float) -> str:
        return f"{100 * value:.1f}" if share else f"{value:+.0f}"

    span = "" if one.low is None or one.high is None else f" [{text(one.low)}, {text(one.high)}]"
    return f"{text(one.value)}{' %' if share else ' Elo'}{span}"


def words(scale: str) -> str:
    """What a scale measures, for people."""
    return "solved positions given away" if scale == "solved" else f"Elo against {scale.removeprefix('elo ')}"
