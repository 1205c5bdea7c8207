"""Runs the faults of list.csv under tools that watch a training loop, and prints one table.

    python benchmarks/faults/suite.py                                  # every tool, all loops, the open part
    python benchmarks/faults/suite.py --tool nothing --loops mlp vae   # some
    python benchmarks/faults/suite.py --check                          # does the list agree with a bare run?

Needs torch and numpy; the FlightRecorder needs az, the guard of the package index `pip install stabilityguard`.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import torch

from faultbench.loops import LOOPS
from faultbench.measure import cost, false_alarms
from faultbench.pairs import Pair, held_out, pairs
from faultbench.probe import disagreements
from faultbench.run import run_pair
from faultbench.score import COLUMNS, Summary, by_column, marks_of
from faultbench.tools import TOOLS

SHOWN = {"undamaged": "before damage"}


def chosen(arguments: argparse.Namespace) -> list[Pair]:
    """The pairs to run: the open part, or with --held-out the other one."""
    kept = held_out()
    part = [pair for pair in pairs() if (pair.name in kept) == arguments.held_out]
    return [pair for pair in part if pair.loop in arguments.loops]


def summary_of(tool: str, arguments: argparse.Namespace, part: list[Pair]) -> Summary:
    """Run one tool over everything that was asked for."""
    found, kind = Summary(tool, clean_steps=arguments.clean), TOOLS[tool]
    for pair in part:
        found.rows.append(marks_of(pair, run_pair(pair, kind())))
    for name in arguments.loops:
        if arguments.clean:
            found.false_alarms[name] = false_alarms(name, kind(), arguments.clean)
        if arguments.rounds:
            found.cost[name] = cost(name, kind(), arguments.rounds)
    return found


def table(summaries: list[Summary]) -> str:
    """One line a tool, as Markdown."""
    lines = ["| tool | " + " | ".join(SHOWN.get(name, name) for name in COLUMNS) + " | false alarms | cost |"]
    lines += ["|" + "---|" * (len(COLUMNS) + 3)]
    for one in summaries:
        shares = ["{}/{}".format(*one.share(column)) for column in COLUMNS]
        ratios = sorted(one.cost.values())
        price = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} – {ratios[-1]:.2f})" if ratios else "-"
        lines.append("| " + " | ".join([one.tool, *shares, str(one.alarms()), price]) + " |")
    return "\n".join(lines)


def wrong(summary: Summary) -> str:
    """The pairs that a tool has wrong, by column."""
    lines = [f"{summary.tool}:"]
    for column in (column for column in COLUMNS if summary.share(column)[0]):  # what it never says is in the table
        names = by_column(summary.rows, column)
        lines += [f"  {SHOWN.get(column, column)}: {' '.join(names)}"] if names else []
    lines += [f"  error in {row.pair}: {row.outcome.error}" for row in summary.rows if row.outcome.error]
    lines += [f"  {n} false alarms in {name}" for name, n in summary.false_alarms.items() if n]
    slowest = max(summary.rows, key=lambda row: row.outcome.seconds, default=None)
    return "\n".join([*lines, *([f"  slowest: {slowest.outcome.seconds:.1f} s, {slowest.pair}"] if slowest else [])])


def machine() -> str:
    """Processor, torch, Python and date, to print over the table."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else [f"model name: {platform.processor()}"]
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")] or ["unknown"]
    versions = f"torch {torch.__version__}, Python {platform.python_version()}, one thread"
    return f"{len(names)} × {names[0]}, {versions}, {time.strftime('%Y-%m-%d')}"


def as_json(summaries: list[Summary], part: list[Pair]) -> dict[str, Any]:
    """Everything, as JSON types."""
    found: dict[str, Any] = {"machine": machine(), "pairs": len(part)}
    for one in summaries:
        rows = [
            {"pair": row.pair, **row.marks, "seconds": row.outcome.seconds, "error": row.outcome.error,
             "said": row.outcome.report.text if row.outcome.report else None}
            for row in one.rows
        ]  # fmt: skip
        counts = {"clean_steps": one.clean_steps, "false_alarms": one.false_alarms, "cost": one.cost}
        found[one.tool] = {"rows": rows, **counts}
    return found


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tool", action="append", choices=list(TOOLS), help="may be given several times")
    parser.add_argument("--loops", nargs="+", choices=list(LOOPS), default=list(LOOPS), metavar="LOOP")
    parser.add_argument("--clean", type=int, default=1000, help="clean steps of each loop for false alarms")
    parser.add_argument("--rounds", type=int, default=20, help="rounds of 5 steps for the cost")
    parser.add_argument("--held-out", action="store_true", help="run the part that is held out instead of the open one")
    parser.add_argument("--wrong", action="store_true", help="list the pairs that are wrong, by column")
    parser.add_argument("--check", action="store_true", help="compare the list with a bare run, without any tool")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    return parser.parse_args(arguments)


def main() -> None:
    """Run and print."""
    arguments = parsed(None)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=UserWarning)
    part = chosen(arguments)
    if arguments.check:
        found = {pair.name: disagreements(pair) for pair in part}
        print("\n".join(f"{name}: {', '.join(texts)}" for name, texts in found.items() if texts))
        raise SystemExit(any(found.values()))
    summaries: list[Summary] = []
    for tool in arguments.tool or TOOLS:
        begun = time.perf_counter()
        try:
            summaries.append(summary_of(tool, arguments, part))
        except ImportError as error:
            print(f"{tool}: left out, {error}", file=sys.stderr)
        print(f"{tool}: {time.perf_counter() - begun:.0f} s", file=sys.stderr)
    if arguments.json:
        print(json.dumps(as_json(summaries, part), indent=1))
    lines = [f"{len(part)} pairs; {machine()}\n", table(summaries)]
    lines += ["", *map(wrong, summaries)] if arguments.wrong else []
    print("\n".join(lines), file=sys.stderr if arguments.json else sys.stdout)


if __name__ == "__main__":
    main()
