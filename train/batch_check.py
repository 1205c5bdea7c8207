"""Every batch before the step touches it: what was checked when its file came in may have gone bad in memory since."""

from __future__ import annotations

import numpy as np
from numba import types

from az.engine.jit import kernel
from az.train.replay import Batch

SUM_TOLERANCE = 2e-3  # of a policy that was checked in float32 to 1e-3 on entry
FAULTS = {  # cause (az.train.health.causes) and field
    1: ("batch-not-finite", "policy"),
    2: ("target-on-illegal", "policy"),
    3: ("target-not-a-distribution", "policy"),
    4: ("empty-mask", "mask"),
    5: ("value-out-of-range", "value"),
    6: ("plane-out-of-range", "planes"),
}


def check_batch(batch: Batch) -> list[tuple[int, str, str]]:
    """(row of the batch, cause, field) of every bad row; one pass over the batch, no copies."""
    found = np.zeros(len(batch.value), np.int8)
    judge_batch(batch.planes, batch.policy, batch.mask, batch.value, found)
    return [(int(row), *FAULTS[int(found[row])]) for row in np.flatnonzero(found)]


@kernel(
    types.void(
        types.float32[:, :, :, ::1],
        types.float32[:, ::1],
        types.boolean[:, ::1],
        types.float32[::1],
        types.int8[::1],
    )
)
def judge_batch(planes, policy, mask, value, found):
    for row in range(len(value)):
        total, illegal, low, options = 0.0, 0.0, 0.0, 0
        for action in range(policy.shape[1]):
            p = policy[row, action]
            total += p
            low = min(low, p)
            if mask[row, action]:
                options += 1
            else:
                illegal += abs(p)
        fault = 0
        for c in range(planes.shape[1]):
            for y in range(planes.shape[2]):
                for x in range(planes.shape[3]):
                    if not (abs(planes[row, c, y, x]) <= 1.0):
                        fault = 6
        if not (abs(value[row]) <= 1.0):
            fault = 5
        if not (abs(total - 1.0) < 2e-3) or low < 0.0:
            fault = 3
        if illegal > 0.0:
            fault = 2
        if options == 0:
            fault = 4
        if not (abs(total) < 1e30):  # NaN or an infinity: no other word says more
            fault = 1
        found[row] = fault
