"""One fault of one loop under one tool: what it says, what it leaves, and whether training goes on."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

from faultbench.copies import all_finite, same_bits, state_of
from faultbench.loops import LOOPS
from faultbench.pairs import Pair
from faultbench.probe import places
from faultbench.tools import Report, Tool
from faultbench.triggers import calm, prepare, strike

LATE, AFTER, KEPT = 5, 10, 4  # steps within which a fault must be reported, steps made after it, copies kept before it


@dataclass
class Outcome:
    """What happened. step and row: of the strike. early: steps before it in which the tool reported something."""

    step: int
    row: int
    report: Report | None = None
    first: int | None = None  # the step that the first report is of
    seconds: float = 0.0  # of the step that was reported
    undamaged: bool = False
    recovered: bool = False
    early: list[int] = field(default_factory=list)
    error: str = ""  # an exception that the tool let through


def run_pair(pair: Pair, tool: Tool) -> Outcome:
    """Run a pair: steps before the strike, the strike, 10 steps after it."""
    loop = LOOPS[pair.loop](pair.seed, pair.fault)
    prepare(loop, pair.trigger)
    found = Outcome(*places(pair, loop.rows))
    tool.begin(loop)
    try:
        _run(pair, tool, found)
    except Exception as error:
        found.error = f"{type(error).__name__}: {error}"
    finally:
        tool.end()
    return found


def _run(pair: Pair, tool: Tool, found: Outcome) -> None:
    loop, copies, told = tool.loop, [], None
    rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in loop.optimizers]
    for number in range(found.step + 1 + AFTER):
        batch = loop.batch(number)
        calm(loop, rates)
        if number == found.step:
            strike(loop, batch, pair.trigger, found.row)
        if found.step - KEPT < number <= found.step:
            copies.append(state_of(loop))
        begun = time.perf_counter()
        told = tool.step(batch)
        spent = time.perf_counter() - begun
        if told is not None and number < found.step:
            found.early.append(number)
        elif told is not None and found.report is None and number <= found.step + LATE:
            found.report, found.first, found.seconds = told, number, spent
            found.undamaged = _is_one_of(state_of(loop), copies)
    found.recovered = told is None and math.isfinite(tool.loss) and all_finite(state_of(loop))


def _is_one_of(state: dict[str, Any], copies: list[dict[str, Any]]) -> bool:
    """Whether this is, to the bit, the state that the struck step found or that of one of the steps before it."""
    return any(same_bits(state, copy) for copy in copies)
