"""The faults of tests/foreign_faults.py under az's flight recorder and under what people use today.

    python benchmarks/health_others.py [--json]

Every fault hits one step of a loop that is not ours (tests/foreign_loops.py); four steps follow. Measured of each guard
(benchmarks/health_loops.py), bit by bit where states are compared:

    detected   it spoke at the step of the fault, and at no step before it
    late       it spoke, but only at one of the four steps after it
    undamaged  detected, and weights, buffers and optimizer are as they were before the step
    no trace   detected, and so is everything else: averages, schedulers, scalers, gradients, random states
    operation  it names the operation that made the bad number, forward or backward (faults that have one)
    rows       it names the rows of the batch, exactly (faults that lie in rows)
    line       it leads to the line of the loop (faults that lie in a line)
    replayed   it ran the step again and says rightly whether the fault comes back to the bit
    finite     four steps later all weights, buffers and optimizer states are finite, and it was silent
    recovered  four steps later all is as in a control that never saw the faulty step, to the bit

`alarms` are steps of honest loops (four loops, 60 steps each) at which it spoke. Not every one is a false alarm: while
a gradient scaler looks for its scale, steps are skipped, and rightly. A guard that raises there keeps the scaler from
lowering its scale and raises again at the next step.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from foreign_faults import ATTENTION, CONV, RECURRENT, Fault
from foreign_loops import AttentionLoop, ConvLoop, Loop, RecurrentLoop, line, same
from health_loops import GUARDS, Guard, Told, same_operation

AFTER, CONTROL_STEPS = 4, 60
MARKS = {
    "detected": "d", "late": "w", "undamaged": "u", "no trace": "n", "operation": "o", "rows": "#", "line": "l",
    "replayed": "r", "finite": "f", "recovered": "R",
}  # fmt: skip
KINDS = {"attention": ATTENTION, "conv": CONV, "recurrent": RECURRENT}
CONTROLS = {
    "masks of -inf": lambda: AttentionLoop("clip"),
    "a scaler's calibration": lambda: ConvLoop(half=torch.float16, scale=2.0**40),
    "calibration, a batch written in place": lambda: ConvLoop("in place", half=torch.float16, scale=2.0**60),
    "truncated through time": lambda: RecurrentLoop("lstm", optimizer=torch.optim.RMSprop),
}


def bare(fault: Fault) -> Loop:
    """The loop without guards of its own."""
    loop = fault.make()
    loop.knobs -= {"guard", "skip"}
    return loop


def measured(name: str, fault: Fault, guard_of: type[Guard]) -> dict[str, Any]:
    """One fault under one guard; None where a measure does not apply to the fault."""
    at = int(np.random.default_rng(list(name.encode())).integers(3, 12)) if fault.at < 0 else fault.at
    guard = guard_of(fault.make())
    loop = guard.loop
    early = [number for number in range(at) if guard.step(loop.batch(number)) is not None]
    bad = loop.batch(at)
    undo = fault.inject(loop, bad)
    before = loop.everything()
    told = guard.step(bad)
    after = loop.everything()
    if undo:
        undo()
    late = [number for number in range(at + 1, at + 1 + AFTER) if guard.step(loop.batch(number)) is not None]
    ended, control = loop.everything(), bare(fault)
    for number in (*range(at), *range(at + 1, at + 1 + AFTER)):
        control.step(control.batch(number))
    return {
        "step": at,
        "detected": told is not None and not early,
        "late": told is None and bool(late),
        "undamaged": told is not None and alike(before[:2], after[:2]),  # the model's and the optimizer's
        "no trace": told is not None and alike(before, after),
        **named(fault, told),
        "replayed": told is not None and told.replay == fault.replay,
        "finite": not late and finite(ended[:2]),
        "recovered": alike(ended, control.everything()),
        "said": told.text.partition("\n")[0] if told else None,
    }


def named(fault: Fault, told: Told | None) -> dict[str, bool | None]:
    """What the guard's words name; None where the fault has no such thing."""
    ops = (fault.op,) if isinstance(fault.op, str) else fault.op
    return {
        "operation": None if ops is None else told is not None and any(same_operation(told.op, op) for op in ops),
        "rows": None if not fault.rows else told is not None and told.rows == fault.rows,
        "line": None if fault.source is None else told is not None and told.line == line(fault.source),
    }


def alike(a: Any, b: Any) -> bool:
    """`same`, also where one has something that the other has not, such as a gradient."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(alike(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(alike, a, b))
    return same(a, b)


def finite(tree: Any, name: str = "") -> bool:
    """Whether all numbers are; a mask (the loops' only one is named `causal`) may hold infinities."""
    if isinstance(tree, torch.Tensor):
        return name.endswith("causal") or bool(torch.isfinite(tree).all())
    if isinstance(tree, dict):
        return all(finite(value, str(key)) for key, value in tree.items())
    return all(map(finite, tree)) if isinstance(tree, list | tuple) else True


def alarms(guard_of: type[Guard]) -> dict[str, int]:
    """Steps of honest loops at which the guard spoke."""
    result = {}
    for name, make in CONTROLS.items():
        guard = guard_of(make())
        result[name] = sum(guard.step(guard.loop.batch(number)) is not None for number in range(CONTROL_STEPS))
    return result


# -- as a table -------------------------------------------------------------------------------------------------------


def totals(results: dict[str, dict[str, dict[str, Any]]]) -> list[str]:
    """A line a measure, a column a guard: how many of the faults that it applies to."""
    lines = [f"| | {' | '.join(GUARDS)} |", "|---" * (len(GUARDS) + 1) + "|"]
    for measure in MARKS:
        cells = []
        for guard in GUARDS:
            values = [one[guard][measure] for one in results.values() if one[guard][measure] is not None]
            cells.append(f"{sum(values)} of {len(values)}")
        lines.append(f"| {measure} | {' | '.join(cells)} |")
    return lines


def each(results: dict[str, dict[str, dict[str, Any]]]) -> list[str]:
    """A line a fault, a column a guard: the marks of the measures that hold; `·` where one does not apply."""
    lines = ["", ", ".join(f"{mark} {measure}" for measure, mark in MARKS.items()), ""]
    lines += [f"| | {' | '.join(GUARDS)} |", "|---" * (len(GUARDS) + 1) + "|"]
    for fault, by_guard in results.items():
        cells = []
        for guard in GUARDS:
            marks = [(mark, by_guard[guard][measure]) for measure, mark in MARKS.items()]
            cells.append("".join("·" if held is None else mark if held else "-" for mark, held in marks))
        lines.append(f"| {fault} | {' | '.join(f'`{cell}`' for cell in cells)} |")
    return lines


def main() -> None:
    """All faults under all guards, then the honest loops."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    results = {
        f"{kind}: {name}": {guard: measured(name, fault, guard_of) for guard, guard_of in GUARDS.items()}
        for kind, faults in KINDS.items()
        for name, fault in faults.items()
    }
    spoken = {guard: alarms(guard_of) for guard, guard_of in GUARDS.items()}
    if asked.json:
        print(json.dumps({"torch": torch.__version__, "faults": results, "alarms": spoken}))
        return
    steps = CONTROL_STEPS * len(CONTROLS)
    quiet = [f"{sum(by_loop.values())} of {steps}" for by_loop in spoken.values()]
    print("\n".join([*totals(results), f"| alarms | {' | '.join(quiet)} |", *each(results)]))


if __name__ == "__main__":
    main()
