"""The curve of a run: how often its models gave the result away, over the rows they had learned from and over time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from az.engine.errors import WrongRequest
from az.engine.system.files import write_atomic
from az.train.doctor.trends import number, steps

FORMATS = (".svg", ".png")


@dataclass(frozen=True)
class Point:
    """One published model. rows: made before it; hours: of training before it; thrown: shares by phase."""

    model: int
    rows: float
    hours: float
    thrown: dict[str, float]

    @property
    def minutes(self) -> float:
        """Of training before it."""
        return 60 * self.hours


def points(lines: Iterable[dict[str, Any]]) -> list[Point]:
    """The published models that a log tells of, oldest first; a model that was undone and made again counts once."""
    told = list(lines)
    at = {line["step"]: line for line in steps(told)}
    measured = sorted(at)
    found: dict[int, Point] = {}
    for line in told:
        step, model, thrown = number(line.get("step")), number(line.get("model")), line.get("thrown")
        if line.get("kind") != "solved" or step is None or model is None or not isinstance(thrown, dict):
            continue
        told_shares = cast("dict[str, Any]", thrown)
        shares = {phase: float(good) for phase, share in told_shares.items() if (good := number(share)) is not None}
        before = at[max((s for s in measured if s <= step), default=measured[0])] if measured else {}
        rows, seconds = (number(before.get(key)) or 0.0 for key in ("rows", "elapsed"))
        found[int(model)] = Point(int(model), float(rows) if step else 0.0, seconds / 3600 if step else 0.0, shares)
    return [found[model] for model in sorted(found)]


def check_format(path: Path) -> None:
    """Raises WrongRequest for a picture of another kind than FORMATS."""
    if path.suffix.lower() not in FORMATS:
        raise WrongRequest(f"the picture is '{path.name}': its name must end in {' or '.join(FORMATS)}.")


def draw(found: list[Point], title: str, path: Path) -> None:
    """Write the picture: one line a phase, over rows and over hours. Raises WrongRequest without a point."""
    check_format(path)
    if not found:
        raise WrongRequest(f"{title}: its log tells of no model measured on solved positions, so there is no curve.")
    import io

    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams["svg.hashsalt"] = "az"  # the same run gives the same file
    from matplotlib import pyplot

    figure: Any
    panels: Any
    figure, panels = pyplot.subplots(1, 2, figsize=(9, 3.4), sharey=True)
    long = found[-1].hours >= 2
    times = ("hours", "hours of training") if long else ("minutes", "minutes of training")
    for panel, (across, words) in zip(panels, (("rows", "rows made"), times), strict=True):
        for phase in found[-1].thrown:
            style: dict[str, Any] = {"lw": 2.2, "color": "black"} if phase == "all" else {"lw": 1.2}
            there = [point for point in found if phase in point.thrown]
            values = [100 * point.thrown[phase] for point in there]
            panel.plot([getattr(point, across) for point in there], values, label=phase, **style)
        panel.set_xlabel(words)
        panel.grid(alpha=0.3)
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel("result given away, %")
    panels[0].legend(fontsize=8)
    figure.suptitle(f"{title}: the network alone on solved positions", fontsize=10)
    figure.tight_layout()
    kept = io.BytesIO()
    figure.savefig(
        kept, format=path.suffix[1:].lower(), dpi=120, metadata={"Date": None} if path.suffix == ".svg" else {}
    )
    pyplot.close(figure)
    write_atomic(path, kept.getvalue())
