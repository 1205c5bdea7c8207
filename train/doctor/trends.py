"""What the log says of a run: the health metrics over its steps, as numbers, as text and as a drawing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from az.engine.runs.log import read_log as read_log
from az.engine.runs.strength import number as number
from az.train.health.early_warnings import METRICS

POINTS = 160  # of a curve in a page and in JSON
WIDTH = 32  # of a curve in the terminal
BLOCKS, PLAIN = "▁▂▃▄▅▆▇█", "._-=+*%#"  # the second for terminals that know no block elements
PLAIN_NUMBERS = {"total": "the loss", "grad_norm": "the gradient's norm before clipping"}


def steps(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines that tell of a step."""
    return [line for line in lines if line.get("kind") == "step" and number(line.get("step")) is not None]


def warnings(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines that are a warning in words."""
    return [line for line in lines if line.get("kind") == "warning" and isinstance(line.get("text"), str)]


def trends(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every health metric over the steps, in the order of METRICS; those never measured are left out."""
    found = []
    told = steps(lines)
    for metric in METRICS:
        values = [(line["step"], _inner(line, "signs").get(metric.name)) for line in told]
        made = _trend(metric.name, metric.words, values)
        if made is not None:
            found.append({**made, "threshold": metric.warn, "limit": metric.limit, "above": made["last"] > metric.warn})
    return found


def _inner(line: dict[str, Any], name: str) -> dict[str, Any]:
    found = line.get(name)
    return found if isinstance(found, dict) else {}


def plain_trends(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Loss and gradient norm, which have no threshold."""
    told = steps(lines)
    made = [_trend(name, words, [(s["step"], s.get(name)) for s in told]) for name, words in PLAIN_NUMBERS.items()]
    return [{**one, "threshold": None, "limit": None, "above": False} for one in made if one is not None]


def _trend(name: str, words: str, values: Sequence[tuple[int, Any]]) -> dict[str, Any] | None:
    points = [(int(step), good) for step, value in values if (good := number(value)) is not None]
    if not points:
        return None
    only = [value for _, value in points]
    return {
        "name": name,
        "words": words,
        "last": only[-1],
        "least": min(only),
        "greatest": max(only),
        "looks": len(only),
        "points": [list(point) for point in thinned(points)],
    }


def thinned(points: Sequence[tuple[int, float]], most: int = POINTS) -> list[tuple[int, float]]:
    """At most so many points; of every stretch the least and the greatest stay, so that no spike is lost."""
    if len(points) <= most:
        return list(points)
    kept = []
    for i in range(most // 2):
        part = points[i * len(points) // (most // 2) : (i + 1) * len(points) // (most // 2)]
        kept += sorted({min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])})
    return kept


def text_curve(trend: dict[str, Any], plain: bool = False, width: int = WIDTH) -> str:
    """The curve in one line, from its least to its greatest value."""
    blocks, values = PLAIN if plain else BLOCKS, [value for _, value in trend["points"]]
    if len(values) > width:
        parts = (values[i * len(values) // width : (i + 1) * len(values) // width] for i in range(width))
        values = [max(part) for part in parts]
    low, span = min(values), max(values) - min(values)
    return "".join(blocks[min(7, int(8 * (value - low) / span))] if span > 0 else blocks[0] for value in values)


def trend_lines(found: Sequence[dict[str, Any]], plain: bool = False) -> list[str]:
    """A table for the terminal: last value, range, threshold, curve."""
    lines = []
    for trend in found:
        warns = f"warns above {trend['threshold']:g}" if trend["threshold"] is not None else ""
        span = f"{trend['least']:.3g} to {trend['greatest']:.3g}"
        mark = "!" if trend["above"] else " "
        lines.append(
            f" {mark}{trend['name']:<17}{trend['last']:>10.4g}  {span:<20} {warns:<20} {text_curve(trend, plain)}"
        )
    return [line.rstrip() for line in lines]


def svg_curve(trend: dict[str, Any], width: int = 320, height: int = 92) -> str:
    """The curve with its threshold; a logarithmic scale where the numbers span more than two powers of ten."""
    points, threshold = [tuple(p) for p in trend["points"]], trend["threshold"]
    values = [value for _, value in points]
    near = threshold is not None and max(values) > threshold / 4  # else the line would flatten the curve to nothing
    shown = [*values, threshold] if near else values
    logs = min(shown) > 0 and max(shown) / min(shown) > 100

    def scaled(value: float) -> float:
        return math.log10(value) if logs else value

    low, high = min(map(scaled, shown)), max(map(scaled, shown))
    first, last = points[0][0], points[-1][0]

    def place(step: float, value: float) -> tuple[float, float]:
        across = (step - first) / max(1, last - first)
        up = (scaled(value) - low) / (high - low) if high > low else 0.5
        return 8 + across * (width - 16), height - 18 - up * (height - 30)

    way = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*p) for p in points))
    end = place(*points[-1])
    told = f"{trend['name']}: {trend['words']}; last {trend['last']:.4g}"
    parts = [f'<svg class="curve" viewBox="0 0 {width} {height}" role="img"><title>{escape(told)}</title>']
    if near and threshold is not None:
        y = place(first, threshold)[1]
        parts.append(f'<line class="threshold" x1="8" x2="{width - 8}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="mark" x="{width - 8}" y="{max(9.0, y - 3):.1f}">warns above {threshold:g}</text>')
    elif threshold is not None:
        parts.append(f'<text class="mark" x="{width - 8}" y="9">warns above {threshold:g} ↑</text>')
    parts.append(f'<polyline class="line" points="{way}"/>')
    parts.append(f'<circle class="end" cx="{end[0]:.1f}" cy="{end[1]:.1f}" r="2.6"/>')
    parts.append(f'<text class="axis" x="8" y="{height - 4}">step {first}{" · log scale" if logs else ""}</text>')
    parts.append(f'<text class="axis last" x="{width - 8}" y="{height - 4}">step {last}</text></svg>')
    return "".join(parts)
