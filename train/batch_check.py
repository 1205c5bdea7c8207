"""Every batch before the step touches it: what was checked when its file came in may have gone bad in memory since."""

from __future__ import annotations

import math

import numpy as np
from numba import types

from az.engine.jit import kernel
from az.train.replay import Batch

CODES = {  # of `judge_batch`: cause (az.train.health.causes) and field
    1: ("batch-not-finite", "policy"),
    2: ("target-on-illegal", "policy"),
    3: ("target-not-a-distribution", "policy"),
    4: ("empty-mask", "mask"),
    5: ("value-out-of-range", "value"),
    6: ("plane-out-of-range", "planes"),
    7: ("value-out-of-range", "root_value"),
}


def check_batch(batch: Batch) -> list[tuple[int, str, str]]:
    """(row of the batch, cause, field) of every bad row; one pass over the batch, no copies."""
    found = np.zeros(len(batch.value), np.int8)
    judge_batch(
        batch.planes.reshape(len(batch.planes), math.prod(batch.planes.shape[1:])),
        batch.policy,
        batch.mask,
        batch.value,
        batch.value if batch.root_value is None else batch.root_value,
        found,
    )
    return [(int(row), *CODES[int(found[row])]) for row in np.flatnonzero(found)]


@kernel(
    types.void(
        types.float32[:, ::1],
        types.float32[:, ::1],
        types.boolean[:, ::1],
        types.float32[::1],
        types.float32[::1],
        types.int8[::1],
    ),
    fastmath={"reassoc"},  # sums eight at a time; NaN and infinities stay what they are
)
def judge_batch(planes, policy, mask, value, root_value, found):
    for row in range(len(value)):
        total, illegal, negative, options, outside = 0.0, 0, 0, 0, 0
        for action in range(policy.shape[1]):
            p, legal = policy[row, action], mask[row, action]
            total += p
            options += legal
            illegal += (p != 0.0) & (not legal)
            negative += p < 0.0
        for i in range(planes.shape[1]):
            outside += not (abs(planes[row, i]) <= 1.0)
        fault = 0
        if outside:
            fault = 6
        if not (abs(root_value[row]) <= 1.0):
            fault = 7
        if not (abs(value[row]) <= 1.0):
            fault = 5
        if not (abs(total - 1.0) < 2e-3) or negative:  # checked in float32 to 1e-3 on entry
            fault = 3
        if illegal:
            fault = 2
        if options == 0:
            fault = 4
        if not (abs(total) < 1e30):  # NaN or an infinity: no other word says more
            fault = 1
        found[row] = fault
