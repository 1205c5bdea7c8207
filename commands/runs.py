"""`az runs`: the runs there are, several side by side, pictures of them, and their deletion. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from az.engine.errors import WrongRequest
from az.engine.printable import one_line
from az.engine.runs.compare import Told, differences, equal, told_of
from az.engine.runs.folders import RUNS, find_run, run_names
from az.engine.runs.remove import check_deletable, contents, delete
from az.engine.runs.strength import Measured, shown, words
from az.engine.runs.summary import Summary, summarize

MOST_NAMED = 5  # files of the user's that the question names


def list_runs() -> list[dict[str, Any]]:
    """The figures of every run under runs/."""
    return [summarize(RUNS / name).to_json() for name in run_names()]


def runs_text(found: Sequence[dict[str, Any]]) -> str:
    """The list for people."""
    if not found:
        return "There are no runs here; make one with `az train GAME`."
    rows = [("run", "game", "preset", "state", "steps", "time", "incidents", "strength")]
    for one in found:
        strength = [Measured(**part) for part in one["strength"]]
        best = "; ".join(f"{shown(part)} ({words(part.scale)})" for part in strength[:2]) or "not measured"
        told = (one["game"], one["preset"], one["state"], f"{one['steps']:,}", duration(one["seconds"]))
        rows.append((one["name"], *told, str(one["incidents"]), "cannot be read" if one["broken"] else best))
    return table(rows)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns side by side; the first row names them."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def duration(seconds: float) -> str:
    """1:02 h, 3.5 min, 12 s."""
    if seconds >= 3600:
        return f"{int(seconds // 3600)}:{int(seconds % 3600 // 60):02d} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


def found_runs(names: Sequence[str], least: int = 1) -> list[Path]:
    """The folders of these runs, each once. Raises WrongRequest."""
    found = list(dict.fromkeys(find_run(name) for name in names))
    if len(found) < least:
        raise WrongRequest(f"that needs {least} different runs: `az runs` lists those there are.")
    return found


def compare_runs(names: Sequence[str]) -> dict[str, Any]:
    """{"runs", "differences", "equal"} of two runs or more. Raises WrongRequest or Refused."""
    told = [told_of(path) for path in found_runs(names, 2)]
    return {
        "runs": [one.summary.to_json() for one in told],
        "differences": differences([one.config for one in told]),
        "equal": equal(told),
    }


def compare_text(found: dict[str, Any]) -> str:
    """The comparison for people."""
    names = [one["name"] for one in found["runs"]]
    rows = [("", *names)]
    rows += [(key, *map(_value, values)) for key, values in found["differences"].items()]
    rows = rows if len(rows) > 1 else [*rows, ("no setting differs", *("" for _ in names))]
    parts = [table(rows)]
    if found["equal"]:
        head = [("at equal", *names)]
        parts.append(table([*head, *(_equal_row(one) for one in found["equal"])]))
    else:
        parts.append("The runs were not all measured on one scale, so their strength cannot be compared.")
    return "\n\n".join(parts)


def _equal_row(one: dict[str, Any]) -> tuple[str, ...]:
    at = f"{one['at']:,.0f} rows" if one["across"] == "rows" else duration(one["at"])
    cells = [None if part is None else Measured(**part) for part in one["runs"]]
    told = ["–" if cell is None else f"{shown(cell)}, step {cell.step:,}" for cell in cells]
    return f"{at}: {words(one['scale'])}", *told


def _value(value: Any) -> str:
    return (
        "–" if value is None else "true" if value is True else "false" if value is False else one_line(str(value), 60)
    )


def plot_runs(names: Sequence[str], out: str) -> Path:
    """Draw the runs' curves into FILE.svg or FILE.png. Raises WrongRequest or Refused."""
    from az.train.doctor.curves import check_format
    from az.train.doctor.overview import Curves, draw_overview

    path = Path(out).expanduser()
    check_format(path)
    told: list[Told] = [told_of(run) for run in found_runs(names)]
    draw_overview([Curves.of(one.summary.name, one.path / "log.jsonl", one.measured) for one in told], path)
    return path


def delete_runs(names: Sequence[str], sure: Callable[[str], bool]) -> list[Path]:
    """Delete runs for which `sure(question)` is true; returns them. Raises WrongRequest before any is deleted where one
    goes on or is not there.
    """
    paths = found_runs(names)
    for path in paths:
        check_deletable(path)
    chosen = [path for path in paths if sure(_question(path))]
    for path in chosen:
        delete(path)
    return chosen


def _question(path: Path) -> str:
    size, strange = contents(path)
    about: Summary = summarize(path)
    also = ", ".join(one_line(name, 60) for name in strange[:MOST_NAMED])
    more = f", and with it what az did not put there: {also}{', …' if len(strange) > MOST_NAMED else ''}"
    return (
        f"Delete the run '{path}' ({about.game}, {about.steps:,} steps, {duration(about.seconds)},"
        f" {size / 1e6:,.1f} MB{more if strange else ''})?"
    )
