"""What can be wrong with one row of self-play: every check, and the cause that the doctor explains it by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import types

from az.engine.game import Game
from az.engine.jit import state_kernel
from az.engine.records.format import SUM_TOLERANCE, Records


@dataclass(frozen=True)
class RowFault:
    """What is wrong with one row."""

    row: int
    field: str
    reason: str
    cause: str  # an id of az.train.health.causes


CHECKS = (  # (field, reason, cause); a kernel writes the place in this list
    ("", "", ""),  # nothing
    ("state", "the player to move is neither 0 nor 1", "plane-out-of-range"),
    ("state", "no legal move: an empty mask", "empty-mask"),
    ("policy", "the target has mass on an action that is not legal, or misses a legal one", "target-on-illegal"),
    ("policy", "the target holds a number that is not finite", "batch-not-finite"),
    ("policy", "the target is negative or does not sum to 1", "target-not-a-distribution"),
    ("planes", "an input plane is not finite or outside [-1, +1]", "plane-out-of-range"),
    ("outcome", "the value target is not finite or outside [-1, +1]", "value-out-of-range"),
    ("root_value", "the root's value is not finite or outside [-1, +1]", "value-out-of-range"),
    ("row", "changed after it was written", "checksum"),
    ("policy", "the policy's offsets run backwards", "unreadable"),
)
(
    _, MOVER, NO_MOVE, ILLEGAL_TARGET, TARGET_NOT_FINITE, NOT_A_DISTRIBUTION, PLANE_RANGE, OUTCOME_RANGE, ROOT_RANGE,
    CHANGED, BACKWARDS,
) = range(len(CHECKS))  # fmt: skip


def row_fault(row: int, check: int, field: str | None = None) -> RowFault:
    """The fault of that check. field: where it is not the check's own."""
    own, reason, cause = CHECKS[check]
    return RowFault(row, own if field is None else field, reason, cause)


@state_kernel(
    lambda t: types.void(
        t.states,
        types.int64[::1],
        types.int32[::1],
        types.float32[::1],
        types.float32[::1],
        types.float32[::1],
        types.boolean[::1],
        types.float32[:, :, ::1],
        types.int8[::1],
        t.pointer("legal"),
        t.pointer("encode"),
    )
)
def judge_rows(states, offsets, actions, probs, outcomes, root_values, mask, planes, faults, legal, encode):
    """Write the first fault of each row (its place in CHECKS, 0 = none) into faults [R]."""
    for row in range(states.shape[0]):
        faults[row] = 0
        player = states[row, 0]
        if player != 0 and player != 1:
            faults[row] = MOVER
            continue
        legal(states[row], mask)
        options = 0
        for action in range(mask.shape[0]):
            options += 1 if mask[action] else 0
        if options == 0:
            faults[row] = NO_MOVE
            continue
        first, last = offsets[row], offsets[row + 1]
        total, fault = 0.0, 0
        if last - first != options:
            fault = ILLEGAL_TARGET
        for i in range(first, last):
            if actions[i] < 0 or actions[i] >= mask.shape[0] or not mask[actions[i]]:
                fault = ILLEGAL_TARGET
            if i > first and actions[i] <= actions[i - 1]:
                fault = ILLEGAL_TARGET
            if not (abs(probs[i]) < 1e30):
                fault = TARGET_NOT_FINITE
            if probs[i] < 0.0:
                fault = NOT_A_DISTRIBUTION
            total += probs[i]
        if fault == 0 and not (abs(total - 1.0) < SUM_TOLERANCE):
            fault = NOT_A_DISTRIBUTION
        if not (abs(outcomes[row]) <= 1.0):
            fault = OUTCOME_RANGE
        if not (abs(root_values[row]) <= 1.0):
            fault = ROOT_RANGE
        encode(states[row], planes)
        for c in range(planes.shape[0]):
            for y in range(planes.shape[1]):
                for x in range(planes.shape[2]):
                    if not (abs(planes[c, y, x]) <= 1.0):
                        fault = PLANE_RANGE
        faults[row] = fault


def check_records(game: Game, records: Records) -> list[RowFault]:
    """Every row on entry: finite, target on the simplex and on legal moves only, value and planes in range."""
    offsets = records.policy_offsets
    if np.any(np.diff(offsets) < 0):
        return [row_fault(int(np.argmax(np.diff(offsets) < 0)), BACKWARDS)]
    faults = np.zeros(len(records), np.int8)
    judge_rows[game.dtype](
        np.ascontiguousarray(records.states),
        offsets,
        records.policy_actions,
        records.policy_probs,
        records.outcomes,
        records.root_values,
        np.zeros(game.num_actions, np.bool_),
        np.zeros(game.planes_shape, np.float32),
        faults,
        game.legal,
        game.encode,
    )
    return [row_fault(int(row), int(faults[row])) for row in np.flatnonzero(faults)]
