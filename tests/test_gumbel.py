"""Gumbel search: the schedule of sequential halving, the choice at the root, in the tree, and the improved policy."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from reference_search import ReferenceSearch
from test_search import THIRD, searched
from toy_games import AGAIN_GAME, TableEvaluator

from az.engine.game import load_game
from az.engine.inference.evaluator import HashEvaluator, UniformEvaluator
from az.engine.rng import stream
from az.engine.search.batch import BatchSearch
from az.engine.search.params import SearchParams
from az.engine.search.schedule import schedule, schedules

TICTACTOE, CONNECT4 = load_game("tictactoe"), load_game("connect4")
GUMBEL = SearchParams(algorithm="gumbel", solve=False)


def final_visits(considered, simulations):
    """Visits per move, when the schedule's wish is always the least index that has been visited so often."""
    visits = [0] * considered
    for wanted in schedule(considered, simulations)[considered, :simulations]:
        visits[visits.index(wanted)] += 1
    return visits


@pytest.mark.nojit
@pytest.mark.parametrize(
    ("considered", "simulations", "expected"),
    [
        # log2 4 = 2 phases; 16 / (2·4) = 2 visits to each of 4, then 16 / (2·2) = 4 to each of 2
        (4, 16, [6, 6, 2, 2]),
        # log2 16 = 4 phases; 32/64 -> 1 to 16; 32/32 = 1 to 8; 32/16 = 2 to 4 = 8: all 32 are spent
        (16, 32, [4] * 4 + [2] * 4 + [1] * 8),
        # 64/64 = 1 to 16, 64/32 = 2 to 8, 64/16 = 4 to 4, 64/8 = 8 to 2
        (16, 64, [15, 15, 7, 7] + [3] * 4 + [1] * 8),
        # ceil(log2 3) = 2 phases; 12/6 = 2 to 3; then 12/4 = 3 to max(2, 3 // 2) = 2
        (3, 12, [5, 5, 2]),
        # 2 to 3 (6), 2 phases: 10/6 -> 1 to 3; 10/4 -> 2 to 2; again 2 to 2 until the budget ends after 3 more
        (3, 10, [5, 4, 1]),
        (2, 7, [4, 3]),
        (1, 5, [5]),
        (8, 5, [1, 1, 1, 1, 1, 0, 0, 0]),
    ],
)
def test_sequential_halving(considered, simulations, expected):
    assert final_visits(considered, simulations) == expected


@pytest.mark.nojit
def test_schedule_in_order():
    """m = 4, n = 16: two rounds of four, four rounds of two."""
    assert schedule(4, 16)[4].tolist() == [0] * 4 + [1] * 4 + [2] * 2 + [3] * 2 + [4] * 2 + [5] * 2
    assert schedule(4, 16)[1].tolist() == list(range(16))


@pytest.mark.nojit
def test_schedule_equals_the_slow_reading():
    for considered in range(1, 40):
        for simulations in (1, 2, 7, 16, 50, 200):
            row = schedule(40, simulations)[considered, :simulations].tolist()
            assert row == ReferenceSearch.halving(considered, simulations)
            assert len(row) == simulations


@pytest.mark.nojit
def test_schedules_of_two_budgets_lie_in_one_table():
    table = schedules(4, [4, 16])
    assert table.shape == (2, 5, 16)
    assert table[0, 4].tolist() == [0] * 16
    assert table[1].tolist() == schedule(4, 16).tolist()


@pytest.mark.nojit
def test_root_visits_follow_the_schedule():
    """Nine equal moves, m = 4, n = 16: the four with the greatest Gumbel draws get 6, 6, 2, 2 visits in some order.

    All values are 0, so that sigma adds the same to each and the draws alone decide who is halved away.
    """
    params = replace(GUMBEL, simulations=16, gumbel_considered=4, gumbel_scale=1.0)
    for key in range(6):
        search = searched(CONNECT4, UniformEvaluator(CONNECT4), params, key=key)
        order = np.argsort(-search.roots.gumbel[0, :7])
        found = search.result(0)
        assert found.visits[order].tolist() == [6, 6, 2, 2, 0, 0, 0]
        assert found.best == found.actions[order[0]]
        assert len(set(search.roots.gumbel[0, :7].tolist())) == 7


@pytest.mark.nojit
def test_without_noise_the_priors_choose_who_is_considered():
    params = replace(GUMBEL, simulations=8, gumbel_considered=2)
    evaluator = TableEvaluator(AGAIN_GAME, {"": ((0.2, 0.5, 0.3), 0.0)})
    assert tuple(searched(AGAIN_GAME, evaluator, params).result(0).visits) == (0, 4, 4)


@pytest.mark.nojit
def test_values_beat_priors_in_the_last_phase():
    """m = 3, n = 12: 2, 2, 2 visits, then 3 more for the best two: arms 1 and 2 are worth more by sigma = 26 · q."""
    arms = {"": ((0.6, 0.2, 0.2), 0.0), "0": (THIRD, -0.5), "1": (THIRD, 0.5), "2": (THIRD, 0.25)}
    found = searched(AGAIN_GAME, TableEvaluator(AGAIN_GAME, arms), replace(GUMBEL, simulations=12)).result(0)
    assert tuple(found.visits) == (2, 5, 5)
    assert found.best == 1


@pytest.mark.nojit
def test_improved_policy_by_hand():
    """Two moves visited once each; the third takes v_mix.

    q = (1/2, -1/2), prior .5 and .3, raw value .1: the mean of the visited, weighted by prior, is
    (.5/2 - .3/2) / .8 = 1/8, so v_mix = (.1 + 2 · 1/8) / 3 = .11667. sigma(q) = (50 + 1) · .02 · q / 2 = .51 q.
    """
    arms = {"": ((0.5, 0.3, 0.2), 0.1), "0": (THIRD, 0.5), "1": (THIRD, -0.5)}
    params = replace(GUMBEL, simulations=2, gumbel_considered=3, c_scale=0.02)
    found = searched(AGAIN_GAME, TableEvaluator(AGAIN_GAME, arms), params).result(0)
    assert tuple(found.visits) == (1, 1, 0)
    weights = [0.5 * math.exp(0.51 * 0.5), 0.3 * math.exp(0.51 * -0.5), 0.2 * math.exp(0.51 * 0.35 / 3)]
    assert found.policy == pytest.approx(np.array(weights) / sum(weights), abs=1e-6)


@pytest.mark.nojit
def test_the_noise_is_not_in_the_improved_policy():
    """With c_scale 0 the improved policy is the prior, whatever the draws were."""
    params = replace(GUMBEL, simulations=6, gumbel_scale=1.0, c_scale=0.0)
    found = searched(AGAIN_GAME, TableEvaluator(AGAIN_GAME, {"": ((0.5, 0.3, 0.2), 0.1)}), params).result(0)
    assert found.policy == pytest.approx([0.5, 0.3, 0.2], abs=1e-6)


@pytest.mark.nojit
def test_choice_inside_the_tree_follows_the_improved_policy():
    """One considered move, so every walk goes through it: below, visits approach pi' by argmax(pi' - n / (1 + N)).

    Worth 0 everywhere, so pi' = the prior (.5 .3 .2). Scores, walk by walk (the first walk makes the node):
    N=0: .5  .3  .2  -> 0      N=1: 0   .3  .2  -> 1      N=2: .5-1/3=.167  .3-1/3<0  .2     -> 2
    N=3: .25 .05 -.05 -> 0     N=4: .1  .1  0 -> 0 or 1 (a tie: left out here)
    """
    table = {"": ((0.9, 0.05, 0.05), 0.0), "0": ((0.5, 0.3, 0.2), 0.0)}
    expected = {2: (1, 0, 0), 3: (1, 1, 0), 4: (1, 1, 1), 5: (2, 1, 1)}
    for walks, visits in expected.items():
        params = replace(GUMBEL, simulations=walks, gumbel_considered=1)
        search = searched(AGAIN_GAME, TableEvaluator(AGAIN_GAME, table), params)
        child = search.trees.edge["child"][0, search.trees.node["first_edge"][0, 0]]
        first = search.trees.node["first_edge"][0, child]
        assert tuple(search.trees.edge["edge_visits"][0, first : first + 3]) == visits


@pytest.mark.nojit
def test_the_move_of_self_play_is_drawn_by_the_gumbels():
    """Gumbel-top-1: with values that say nothing, the best move is distributed as the prior."""
    chances = (0.5, 0.3, 0.2)
    evaluator = TableEvaluator(AGAIN_GAME, {"": (chances, 0.0)})
    params = replace(GUMBEL, simulations=1, gumbel_scale=1.0)
    trees = 600
    search = BatchSearch(AGAIN_GAME, params, trees)
    for b in range(trees):
        search.place(b, AGAIN_GAME.new_state(), stream("draws", b))
        search.begin_as_asked(b)
    search.run(evaluator, np.arange(trees))
    counts = np.bincount([search.best(b) for b in range(trees)], minlength=3)
    assert counts / trees == pytest.approx(chances, abs=4 * math.sqrt(0.25 / trees))


@pytest.mark.nojit
def test_proven_losses_are_left_out():
    """X 1 2, O 5: O must take 3; the other moves are proven losses and have no share."""
    params = SearchParams(algorithm="gumbel", simulations=200)
    state = TICTACTOE.parse_position("152")
    found = searched(TICTACTOE, UniformEvaluator(TICTACTOE), params, state).result(0)
    assert found.best == 2
    lost = found.proven == -1
    assert lost.any()
    assert (found.policy[lost] == 0).all()
    assert found.policy.sum() == pytest.approx(1)


@pytest.mark.nojit
@pytest.mark.parametrize("algorithm", ["gumbel", "puct"])
def test_a_proven_win_takes_the_whole_policy(algorithm):
    params = SearchParams(algorithm=algorithm, simulations=40)
    found = searched(TICTACTOE, HashEvaluator(TICTACTOE), params, TICTACTOE.parse_position("1425")).result(0)
    assert (found.best, found.root_proven, found.value) == (2, 1, 1.0)
    assert found.policy.tolist() == [float(action == 2) for action in found.actions]


@pytest.mark.nojit
@pytest.mark.parametrize("algorithm", ["gumbel", "puct"])
def test_all_moves_lost_still_gives_a_policy(algorithm):
    """X 1 3 9, O 5 7, O to move: X threatens 2 and 6. A block lasts as long as anything else (3 plies, not fewer)."""
    params = SearchParams(algorithm=algorithm, simulations=400)
    state = TICTACTOE.parse_position("15973")
    found = searched(TICTACTOE, HashEvaluator(TICTACTOE), params, state).result(0)
    assert (found.root_proven, found.value) == (-1, -1.0)
    assert (found.proven == -1).all()
    assert (found.policy > 0).all()
    assert found.policy.sum() == pytest.approx(1)
