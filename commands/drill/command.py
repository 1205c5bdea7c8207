"""The command `az drill`: every fault, every control, and a table of what came of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any

from az.commands.drill import faults_in_files as drill_files
from az.commands.drill import faults_in_loops as drill_loops
from az.commands.drill import faults_in_steps as drill_steps
from az.commands.drill.runs import Drill, FaultResult, temporary
from az.engine.errors import WrongRequest

IN_RUNS = {fault.id: fault for fault in (*drill_files.FAULTS, *drill_steps.FAULTS)}
ELSEWHERE: dict[str, tuple[str, Callable[[Drill, int], FaultResult]]] = {
    "D14": ("no L2, averages that stand still", drill_loops.omissions),
    "D15": ("one row on a map of one cell", lambda _, seed: drill_loops.one_value(seed)),
    "D16": ("a NaN row, skip and go on", lambda _, seed: drill_loops.skipped(seed)),
    "D18": ("residual gain 1.5 without decay", drill_loops.drift),
    "D28": ("a variance near 0 folded at export", lambda _, seed: drill_loops.folded(seed)),
}
CONTROLS: dict[str, tuple[str, Callable[[Drill, int], list[str]]]] = {  # what was said though all was well
    "clean steps": ("a run without a fault", drill_loops.clean_steps),
    "scaler": ("a gradient scaler finds its scale", lambda _, __: drill_loops.scaler_calibration()),
    "masked logits": ("-inf logits under a correct mask", lambda _, __: drill_loops.masked_logits()),
    "missing field": ("a declared missing value", lambda _, __: drill_loops.missing_values()),
    "honest jump": ("another learning rate, other rows", lambda _, __: drill_loops.honest_jump()),
    "only draws": ("a run whose every game is a draw", lambda drill, _: drill_loops.only_draws(drill)),
}
HEAD = f"{'fault':<6}{'seed':<5}{'detected':<10}{'in time':<9}{'cause':<7}{'equal':<7}{'s':<7}what was said"
NAMES = sorted([*IN_RUNS, *ELSEWHERE])


def words_of(name: str) -> str:
    """What the fault is."""
    return IN_RUNS[name].words if name in IN_RUNS else ELSEWHERE[name][0]


def drill_command(
    seeds: int, only: list[str], controls: bool, clean_steps: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Run every fault with seeds 0 to seeds - 1 and the controls once. Raises WrongRequest for an unknown fault."""
    unknown = [name for name in only if name not in NAMES]
    if unknown:
        raise WrongRequest(f"there is no fault '{unknown[0]}': the drill has {', '.join(NAMES)}.")
    say(HEAD)
    begun = time.perf_counter()
    rows: list[FaultResult] = []
    found: list[dict[str, Any]] = []
    with temporary() as root:
        drill = Drill(root)
        for name in only or NAMES:
            for seed in range(seeds):
                row = quiet(lambda name=name, seed=seed: one(drill, name, seed))
                rows.append(row)
                say(line(row))
        for name, (_, train_with) in CONTROLS.items() if controls else ():
            said = quiet(lambda train_with=train_with: train_with(drill, clean_steps))
            found.append({"id": name, "warned": bool(said), "said": said})
            say(f"{name:<14} {f'WARNED {len(said)}: {said[0]}' if said else 'silent'}")
    return {
        "faults": [row.to_json() for row in rows],
        "controls": found,
        "seconds": time.perf_counter() - begun,
    }


def quiet(work: Callable[[], Any]) -> Any:
    """What runs print is not the drill's."""
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        return work()


def one(drill: Drill, name: str, seed: int) -> FaultResult:
    """One fault with one seed; a run that breaks is a row that says so."""
    try:
        return _run_of(drill, name, seed)
    except Exception as error:
        return FaultResult(name, seed, False, False, False, None, None, diagnosis=f"{type(error).__name__}: {error}")


def _run_of(drill: Drill, name: str, seed: int) -> FaultResult:
    return drill.row(IN_RUNS[name], seed) if name in IN_RUNS else ELSEWHERE[name][1](drill, seed)


def line(row: FaultResult) -> str:
    """One fault as a line of the table."""
    marks = [_mark(row.detected), _mark(row.before_damage), _mark(row.cause_exact), _mark(row.recovery_equal)]
    widths = (10, 9, 7, 7)
    text = "".join(f"{mark:<{width}}" for mark, width in zip(marks, widths, strict=True))
    seconds = f"{row.seconds:.2f}" if row.seconds is not None else "-"
    place = " ".join(part for part in (row.place, f"rows {row.rows}" if row.rows else "") if part)
    said = f"{row.diagnosis}; {place}" if place else row.diagnosis
    return f"{row.id:<6}{row.seed:<5}{text}{seconds:<7}{words_of(row.id)}: {said or 'NOTHING'}"


def _mark(value: bool | None) -> str:
    return "-" if value is None else "yes" if value else "NO"


def summary(values: dict[str, Any]) -> str:
    """The last lines: how many of how many."""
    rows = values["faults"]
    count = len(rows)
    judged = [row for row in rows if row["recovery_equal"] is not None]
    silent = [control for control in values["controls"] if not control["warned"]]
    return (
        f"{sum(r['detected'] for r in rows)} of {count} detected,"
        f" {sum(r['before_damage'] for r in rows)} before damage, {sum(r['cause_exact'] for r in rows)} exact;"
        f" {sum(r['recovery_equal'] for r in judged)} of {len(judged)} recovered to the control run's bits;"
        f" {len(silent)} of {len(values['controls'])} controls silent; {values['seconds']:.0f} s"
    )


def answer(values: dict[str, Any]) -> bool:
    """Whether all is as it must be."""
    fine = all(
        row["detected"] and row["before_damage"] and row["cause_exact"] and row["recovery_equal"] is not False
        for row in values["faults"]
    )
    return fine and not any(control["warned"] for control in values["controls"])
