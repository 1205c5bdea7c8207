"""The tools, by name."""

from __future__ import annotations

from faultbench.tools.anomaly import Anomaly
from faultbench.tools.base import Report, Tool
from faultbench.tools.guards import FiniteLoss, SkipGradients
from faultbench.tools.recorder import Recorder
from faultbench.tools.stability_guard import StabilityGuard

__all__ = ["TOOLS", "Report", "Tool"]
TOOLS: dict[str, type[Tool]] = {
    kind.name: kind for kind in (Tool, Anomaly, FiniteLoss, SkipGradients, StabilityGuard, Recorder)
}
