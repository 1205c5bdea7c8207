"""Curves of one run or several in one picture: losses, entropy, throughput, strength over rows and over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from az.engine.errors import WrongRequest
from az.engine.printable import one_line
from az.engine.runs.log import Line, read_log
from az.engine.runs.strength import Measured, number, words
from az.engine.system.files import write_atomic
from az.train.doctor.trends import steps, thinned

COLORS = ("#1b56b8", "#b1231b", "#0b6b3a", "#8a5200", "#6b2fa0", "#00707f", "#55606e", "#a0156b")
LEAST_STRETCH, STRETCHES = 10.0, 100  # seconds that a speed is measured over, and how many of them a run has
STYLES = ("-", "--", "-.", ":")  # lines differ without color too
PLAIN = (("total", "loss"), ("policy_loss", "policy loss"), ("value_loss", "value loss"), ("entropy", "policy entropy"))


@dataclass(frozen=True)
class Curves:
    """What is drawn of a run."""

    name: str
    lines: list[Line]
    measured: list[Measured]

    @classmethod
    def of(cls, name: str, log: Path, measured: list[Measured]) -> Curves:
        """Read a run's log."""
        return cls(name, steps(read_log(log)[0]), measured)

    def plain(self, name: str) -> list[tuple[float, float]]:
        """(step, value), thinned so that no spike is lost."""
        points = [(int(line["step"]), good) for line in self.lines if (good := number(line.get(name))) is not None]
        return [(float(step), float(value)) for step, value in thinned(points)]

    def throughput(self) -> list[tuple[float, float]]:
        """(step, simulations a second), each over a stretch of time: games are counted when a file of them is done."""
        told = [
            (float(line["step"]), float(elapsed), float(made))
            for line in self.lines
            if (elapsed := number(line.get("elapsed"))) is not None
            and (made := number(line.get("simulations"))) is not None
        ]
        found: list[tuple[float, float]] = []
        stretch = max(LEAST_STRETCH, told[-1][1] / STRETCHES) if told else 0.0
        before = told[0] if told else (0.0, 0.0, 0.0)
        for line in told:
            if line[1] - before[1] >= stretch:
                found.append((line[0], max(0.0, line[2] - before[2]) / (line[1] - before[1])))
                before = line
        return found


def draw_overview(runs: Sequence[Curves], path: Path) -> None:
    """Write the picture (.svg or .png). Raises WrongRequest where no run has a line."""
    if not any(run.lines or run.measured for run in runs):
        raise WrongRequest("the logs of these runs tell of no step yet: there is nothing to draw.")
    import io

    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams["svg.hashsalt"] = "az"  # the same run gives the same file
    matplotlib.rcParams["text.parse_math"] = False  # a name is a name
    from matplotlib import pyplot

    scales = list(dict.fromkeys(one.scale for run in runs for one in run.measured))[:2]
    panels: list[tuple[str, Callable[[Curves], list[tuple[float, float]]]]]
    panels = [(title, partial(Curves.plain, name=name)) for name, title in PLAIN]
    panels.append(("simulations a second", Curves.throughput))
    rows = (len(panels) + 2 * len(scales) + 2) // 3
    figure: Any
    axes: Any
    figure, axes = pyplot.subplots(rows, 3, figsize=(12, 3 * rows), squeeze=False)
    places = list(axes.flat)
    for title, points in panels:
        place = places.pop(0)
        for index, run in enumerate(runs):
            line = points(run)
            place.plot(
                [x for x, _ in line], [y for _, y in line], label=one_line(run.name, 40), lw=1.4, **_style(index)
            )
        _finish(place, title, "step", legend=len(runs) > 1)
    for scale in scales:
        for across in ("rows", "seconds"):
            _strength(places.pop(0), runs, scale, across)
    for place in places:
        place.set_visible(False)
    figure.tight_layout()
    kept = io.BytesIO()
    metadata = {"Date": None} if path.suffix.lower() == ".svg" else {}
    figure.savefig(kept, format=path.suffix[1:].lower(), dpi=120, metadata=metadata)
    pyplot.close(figure)
    write_atomic(path, kept.getvalue())


def _style(index: int) -> dict[str, Any]:
    return {"color": COLORS[index % len(COLORS)], "linestyle": STYLES[index % len(STYLES)]}


def _strength(place: Any, runs: Sequence[Curves], scale: str, across: str) -> None:
    factor = 100.0 if scale == "solved" else 1.0
    unit = 1.0 if across == "rows" else 60.0
    for index, run in enumerate(runs):
        there = [one for one in run.measured if one.scale == scale]
        at = [getattr(one, across) / unit for one in there]
        place.plot(at, [factor * one.value for one in there], label=one_line(run.name, 40), lw=1.6, **_style(index))
        sure = [(x, one.low, one.high) for x, one in zip(at, there, strict=True) if one.low is not None]
        low, high = ([factor * float(one[i] or 0.0) for one in sure] for i in (1, 2))
        place.fill_between([x for x, *_ in sure], low, high, color=COLORS[index % len(COLORS)], alpha=0.15, lw=0)
    title = f"{words(scale)}{', %' if scale == 'solved' else ''}"
    _finish(place, one_line(title, 60), "rows made" if across == "rows" else "minutes of training", len(runs) > 1)


def _finish(place: Any, title: str, across: str, legend: bool) -> None:
    place.set_title(title, fontsize=9)
    place.set_xlabel(across, fontsize=8)
    place.tick_params(labelsize=7)
    place.grid(alpha=0.3)
    if legend:
        place.legend(fontsize=7)
