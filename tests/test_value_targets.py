"""What the value learns: lambda-returns over the rows of a game."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from az.engine.records.format import Records
from az.train.value_targets import value_targets

pytestmark = pytest.mark.nojit


def records(movers: list[int], outcomes: list[float], roots: list[float], games: list[int]) -> Records:
    """Rows without policies, a ply apart."""
    count = len(movers)
    return Records(
        states=np.array(movers, np.int64)[:, None],
        policy_offsets=np.zeros(count + 1, np.int64),
        policy_actions=np.zeros(0, np.int32),
        policy_probs=np.zeros(0, np.float32),
        outcomes=np.array(outcomes, np.float32),
        root_values=np.array(roots, np.float32),
        games=np.array(games, np.int64),
        plies=np.arange(count, dtype=np.int32),
        models=np.zeros(count, np.int32),
        header={},
        path=Path("x"),
    )


def test_lambda_1_is_the_result_itself():
    made = records([0, 1, 0], [1, -1, 1], [0.1, 0.2, 0.3], [5, 5, 5])
    assert value_targets(made, 1.0) is made.outcomes


def test_opinions_of_later_rows_count_with_the_sign_of_their_player():
    made = records([0, 1, 1, 0], [1, -1, -1, 1], [0.1, -0.2, -0.4, 0.6], [5, 5, 5, 5])
    last, after_own = 1.0, -(0.5 * 0.6 + 0.5 * 1.0)  # the row before the last is the other player's
    same = 0.5 * -0.4 + 0.5 * after_own  # the same player twice: no change of sign
    assert value_targets(made, 0.5).tolist() == pytest.approx([-(0.5 * -0.2 + 0.5 * same), same, after_own, last])


def test_a_proof_begins_the_return_again_and_games_do_not_mix():
    made = records([0, 1, 0, 0], [-1, 1, -1, 0], [0.5, -1.0, 0.9, 0.2], [5, 5, 5, 6])
    # The second row is a proven loss, whatever mistake let its player win the game in the end.
    found = value_targets(made, 0.5)
    assert found.tolist() == pytest.approx([0.5 * 1.0 + 0.5 * 1.0, -1.0, -1.0, 0.0])
