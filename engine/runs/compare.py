"""Several runs side by side: where their configurations differ, and how strong they were at equal rows and time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from az.engine.runs.folders import Config, config_of
from az.engine.runs.log import read_log
from az.engine.runs.strength import Measured, last_before, measured, scales_of
from az.engine.runs.summary import Summary, summarize

UNTOLD = ("az_version",)


@dataclass(frozen=True)
class Told:
    """What is known of one run."""

    path: Path
    summary: Summary
    config: Config
    measured: list[Measured]


def told_of(run: Path) -> Told:
    """Read a run. Raises Refused where its configuration cannot be read."""
    config = config_of(run)
    summary = summarize(run, config=config)
    lines, _ = read_log(run / "log.jsonl")
    return Told(run, summary, config, measured(lines, summary.positions))


def differences(configs: Sequence[Config]) -> dict[str, list[Any]]:
    """Every key whose values differ, in the files' order; None where a file has no such key."""
    keys = dict.fromkeys(key for config in configs for key in config if key not in UNTOLD)
    found = {key: [config.get(key) for config in configs] for key in keys}
    return {key: values for key, values in found.items() if any(_unlike(value, values[0]) for value in values)}


def _unlike(a: Any, b: Any) -> bool:
    return a != b or isinstance(a, bool) != isinstance(b, bool)


def equal(runs: Sequence[Told]) -> list[dict[str, Any]]:
    """For every scale that all runs were measured on, and for rows and seconds: the most that all of them have had, and
    the newest measurement of each at or before that.
    """
    found: list[dict[str, Any]] = []
    for scale in scales_of(one for run in runs for one in run.measured):
        if not all(any(one.scale == scale for one in run.measured) for run in runs):
            continue
        for across in ("rows", "seconds"):
            most = min(max(getattr(one, across) for one in run.measured if one.scale == scale) for run in runs)
            each = [last_before(run.measured, scale, across, most) for run in runs]
            told = [None if one is None else one.to_json() for one in each]
            found.append({"scale": scale, "across": across, "at": most, "runs": told})
    return found
