"""The check of a batch before a step: every bad number is met, its row and its cause are named."""

import math

import numpy as np
import pytest

from az.engine.game import load_game
from az.train.batch_check import check_batch
from az.train.bench import fixed_batch

pytestmark = pytest.mark.nojit
GAME = load_game("connect4")


def spoil_plane(batch, row, value):
    batch.planes[row, -1, -1, -1] = value


def spoil_value(batch, row, value):
    batch.value[row] = value


def spoil_policy(batch, row, value):
    batch.policy[row, np.flatnonzero(batch.mask[row])[-1]] = value


def spoil_illegal(batch, row, value):
    batch.mask[row, 3] = False
    batch.policy[row] /= 1.0 - batch.policy[row, 3]
    batch.policy[row, 3] = value


def spoil_mask(batch, row, _):
    batch.mask[row] = False
    batch.policy[row] = [1.0, *np.zeros(GAME.num_actions - 1)]


CASES = [
    *((spoil_plane, bad, "plane-out-of-range") for bad in (math.nan, math.inf, -math.inf, 1.001, -1.001)),
    *((spoil_value, bad, "value-out-of-range") for bad in (math.nan, math.inf, -math.inf, 1.001, -1.001)),
    *((spoil_policy, bad, "batch-not-finite") for bad in (math.nan, math.inf, -math.inf)),
    *((spoil_policy, bad, "target-not-a-distribution") for bad in (2.0, -0.01)),
    *((spoil_illegal, bad, "batch-not-finite") for bad in (math.nan, math.inf)),
    (spoil_illegal, 1e-4, "target-on-illegal"),
    (spoil_mask, 0.0, "empty-mask"),
]


@pytest.mark.parametrize("rows", [1, 13, 64])
@pytest.mark.parametrize(("spoil", "value", "cause"), CASES)
def test_a_bad_row_is_named(rows, spoil, value, cause):
    batch = fixed_batch(GAME, rows)
    assert check_batch(batch) == []
    bad = sorted({0, rows // 2, rows - 1})
    for row in bad:
        spoil(batch, row, value)
    assert [(row, named) for row, named, _ in check_batch(batch)] == [(row, cause) for row in bad]


def test_a_row_without_a_move_is_named():
    batch = fixed_batch(GAME, 9)
    batch.mask[4] = False
    batch.policy[4] = 0.0
    batch.planes[:] = 1.0  # the ends of the range are in it
    batch.value[:] = -1.0
    assert check_batch(batch) == [(4, "empty-mask", "mask")]


def test_no_rows_are_no_fault():
    assert check_batch(fixed_batch(GAME, 0)) == []
