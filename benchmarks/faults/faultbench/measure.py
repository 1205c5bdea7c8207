"""What a tool does to a loop without a fault: reports in clean steps, and what a step costs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from faultbench.loops import LOOPS, Batch
from faultbench.tools import Tool

WARM, BLOCK, SEED = 200, 5, 1  # steps before timing (some tools adapt to the loop), steps of a block, the loops' seed


def false_alarms(name: str, tool: Tool, steps: int) -> int:
    """Reports in clean steps of a loop."""
    tool.begin(LOOPS[name](SEED))
    try:
        return sum(tool.step(tool.loop.batch(number)) is not None for number in range(steps))
    finally:
        tool.end()


def cost(name: str, tool: Tool, rounds: int) -> float:
    """Time of a step under the tool / that of the bare loop: median of rounds that alternate in blocks of 5 steps."""
    bare, watched = Tool(), tool
    for one in (bare, watched):
        one.begin(LOOPS[name](SEED))
    ratios: list[float] = []
    try:
        for one in (bare, watched):
            block(one.step, [one.loop.batch(number) for number in range(WARM)])
        for number in range(rounds):
            batches = [bare.loop.batch(WARM + number * BLOCK + i) for i in range(BLOCK)]
            order = (bare, watched) if number % 2 else (watched, bare)
            spent = {id(one): block(one.step, [dict(batch) for batch in batches]) for one in order}
            ratios.append(spent[id(watched)] / spent[id(bare)])
    finally:
        tool.end()
    return statistics.median(ratios)


def block(step: Callable[[Batch], object], batches: list[Batch]) -> float:
    """Seconds of a few steps."""
    begun = time.perf_counter()
    for batch in batches:
        step(batch)
    return time.perf_counter() - begun
