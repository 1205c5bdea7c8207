"""Draw what throughput.py measured: `python benchmarks/plot_throughput.py IN.json OUT.svg` (needs matplotlib)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

LINES = (("raw", "onnxruntime alone", "--"), ("nocache", "search, cache off", "-"), ("cache", "search", "-"))


def main() -> None:
    """Three panels side by side, one an axis."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "az"  # the same figures give the same file
    from matplotlib import pyplot

    found: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    axes = list(dict.fromkeys(point["axis"] for point in found["points"]))
    figure, panels = pyplot.subplots(1, len(axes), figsize=(11, 3.4), sharey=True)
    for panel, axis in zip(panels, axes, strict=True):
        points = [point for point in found["points"] if point["axis"] == axis]
        for key, label, style in LINES:
            panel.plot(
                [p["at"] for p in points], [p[f"{key}_share"] for p in points], style, marker="o", ms=3, label=label
            )
        panel.set_xlabel(axis)
        panel.grid(alpha=0.3)
        if axis != "cores":
            panel.set_xscale("log", base=2)
        panel.set_xticks([p["at"] for p in points], [str(p["at"]) for p in points])
    panels[0].set_ylim(bottom=0)  # of all three, once all lines are drawn
    panels[0].set_ylabel("÷ onnxruntime alone, all cores")
    panels[0].legend(fontsize=8)
    figure.suptitle(f"{found['game']}, {found['precision']}", fontsize=10)
    figure.tight_layout()
    figure.savefig(sys.argv[2], metadata={"Date": None})


if __name__ == "__main__":
    main()
