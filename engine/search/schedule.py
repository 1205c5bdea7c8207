"""The visits that sequential halving wants, simulation by simulation: Karnin et al. 2013; Danihelka et al. 2022."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray


def _wanted_visits(considered: int, simulations: int) -> list[int]:
    """For each simulation, how often the edge that it takes has been visited before."""
    if considered <= 1:
        return list(range(simulations))
    phases = math.ceil(math.log2(considered))
    visits = [0] * considered
    wanted: list[int] = []
    left = considered
    while len(wanted) < simulations:
        for _ in range(max(1, simulations // (phases * left))):
            wanted.extend(visits[:left])
            visits[:left] = [count + 1 for count in visits[:left]]
        left = max(2, left // 2)
    return wanted[:simulations]


@cache
def schedule(most_considered: int, simulations: int) -> NDArray[np.int32]:
    """[most_considered + 1, simulations]: row m is the schedule with m moves considered."""
    table = np.zeros((most_considered + 1, max(1, simulations)), np.int32)
    for considered in range(1, most_considered + 1):
        table[considered, :simulations] = _wanted_visits(considered, simulations)
    return table


def schedules(most_considered: int, simulations: list[int]) -> NDArray[np.int32]:
    """[len(simulations), most_considered + 1, longest]: one schedule for each count; its end is repeated."""
    tables = [schedule(most_considered, count) for count in simulations]
    longest = max(table.shape[1] for table in tables)
    padded = [np.pad(table, ((0, 0), (0, longest - table.shape[1])), mode="edge") for table in tables]
    return np.ascontiguousarray(np.stack(padded))
