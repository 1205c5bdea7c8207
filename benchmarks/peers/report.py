"""What every peer program here prints: one JSON object, with versions, each repetition and their median."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any


def versions(*packages: str) -> dict[str, str]:
    """The releases that were measured, as installed."""
    return {"python": platform.python_version(), **{package: version(package) for package in packages}}


def median(runs: Sequence[float]) -> float:
    """To a tenth: more digits would only be noise."""
    return round(statistics.median(runs), 1)


def show(program: str, packages: Sequence[str], **figures: Any) -> None:
    """The one line on stdout."""
    print(json.dumps({"program": program, "versions": versions(*packages), **figures}))
