"""PUCT against numbers worked out by hand, and against a slow reading of the same search."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from reference_search import ReferenceSearch
from toy_games import AGAIN_GAME, TableEvaluator

from az.engine.game import game_names, load_game
from az.engine.inference.evaluator import HashEvaluator, UniformEvaluator
from az.engine.rng import stream
from az.engine.search.batch import BatchSearch
from az.engine.search.invariants import random_states
from az.engine.search.many import search_many
from az.engine.search.params import UNKNOWN, SearchParams

TICTACTOE, CONNECT4 = load_game("tictactoe"), load_game("connect4")
THIRD = (1 / 3, 1 / 3, 1 / 3)
PLAIN = SearchParams(root_temperature=1.0, c_puct=1.0, fpu_reduction=0.0, solve=False)


def bandit(root_value, *arms):
    """The whole game below action a is worth arms[a] to player 0, whoever moves."""
    table = {str(a): (THIRD, arm) for a, arm in enumerate(arms)}
    return TableEvaluator(AGAIN_GAME, {"": ((0.5, 0.3, 0.2), root_value), **table})


def searched(game, evaluator, params, state=None, key=1):
    """A finished BatchSearch of one position."""
    search = BatchSearch(game, params, 1)
    search.place(0, game.new_state() if state is None else state, stream(key))
    search.begin_as_asked(0)
    search.run(evaluator, np.zeros(1, np.int64))
    return search


# by hand


@pytest.mark.nojit
def test_one_step_bandit():
    """Priors .5 .3 .2, arms worth 0, 1/2, -1/2 to the root's player, c = 1, root value 0.

    score(a) = q(a) + prior(a) · sqrt(N) / (1 + n(a)); N = 1 + walks so far; an unvisited arm has the root's mean.
    Actions 0 and 1 hand the move over (the child's value is negated), action 2 does not.

    walk  sqrt(N)  mean   score 0             score 1              score 2              takes
     1    1        0      0 + .5              0 + .3               0 + .2               0
     2    1.414    0      0 + .707/2 = .354   0 + .424             0 + .283             1
     3    1.732    .167   0 + .866/2 = .433   .5 + .520/2 = .760   .167 + .346 = .513   1
     4    2        .25    0 + 1/2   = .5      .5 + .6/3   = .7     .25 + .4    = .65    1
     5    2.236    .3     0 + 1.118/2 = .559  .5 + .671/4 = .668   .3 + .447   = .747   2
     6    2.449    .167   0 + 1.225/2 = .612  .5 + .735/4 = .684   -.5 + .490/2 = -.255 1
     7    2.646    .214   0 + 1.323/2 = .661  .5 + .794/5 = .659   -.5 + .529/2 = -.235 0
     8    2.828    .188   0 + 1.414/3 = .471  .5 + .849/5 = .670   -.5 + .566/2 = -.217 1
    """
    expected = [(1, 0, 0), (1, 1, 0), (1, 2, 0), (1, 3, 0), (1, 3, 1), (1, 4, 1), (2, 4, 1), (2, 5, 1)]
    for walks, visits in enumerate(expected, 1):
        search = searched(AGAIN_GAME, bandit(0.0, 0.0, 0.5, -0.5), replace(PLAIN, simulations=walks))
        found = search.result(0)
        assert tuple(found.visits) == visits
        assert found.value == pytest.approx((visits[1] - visits[2]) / 2 / (1 + walks))
        assert found.policy == pytest.approx(np.array(visits) / walks)
        assert found.priors == pytest.approx([0.5, 0.3, 0.2])
        if walks == len(expected):
            assert found.values == pytest.approx([0, 0.5, -0.5])
            assert found.best == 1


@pytest.mark.nojit
@pytest.mark.parametrize(
    ("reduction", "expected"),
    [
        # arms 1/4, 1/2, -1/2, root value 0; walk 2 (N = 2, mean 1/8): arm 0 has .25 + .354 = .604 either way;
        # walk 3 (N = 3, mean .167): arm 0 .25 + .866/3 = .539, arm 1 .167 + .520 = .686
        (0.0, [(1, 0, 0), (2, 0, 0), (2, 1, 0), (2, 2, 0), (2, 2, 1)]),
        # reduced by 1/2 · sqrt(.5) = .354: arm 1 has .686 - .354 = .333 in walk 3; mean .1875, .434 < .5 in walk 4;
        # mean .2, .2 - .354 + .3 · 2.236 = .517 > .25 + .5 · 2.236 / 5 = .474 in walk 5
        (0.5, [(1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 0, 0), (4, 1, 0)]),
    ],
)
def test_first_play_urgency(reduction, expected):
    for walks, visits in enumerate(expected, 1):
        params = replace(PLAIN, fpu_reduction=reduction, simulations=walks)
        found = searched(AGAIN_GAME, bandit(0.0, 0.25, 0.5, -0.5), params).result(0)
        assert tuple(found.visits) == visits


@pytest.mark.nojit
def test_first_play_urgency_is_never_below_a_loss():
    """Mean -1 less any reduction is still -1. Every arm is worth -1, c = 2, so the second terms decide:

    walk 2 (sqrt 2): .707 .849 .566; walk 3 (sqrt 3): .866 .520 .693; walk 4 (sqrt 4): .667 .6 .8.
    """
    params = replace(PLAIN, fpu_reduction=2.0, c_puct=2.0, simulations=4)
    assert tuple(searched(AGAIN_GAME, bandit(-1.0, -1.0, -1.0, -1.0), params).result(0).visits) == (2, 1, 1)


@pytest.mark.nojit
def test_no_simulations_is_the_network_alone():
    found = searched(AGAIN_GAME, bandit(0.25, 0.0, 1.0, 1.0), replace(PLAIN, simulations=0)).result(0)
    assert (found.best, found.value, found.simulations) == (0, 0.25, 0)
    assert found.policy == pytest.approx([0.5, 0.3, 0.2])
    assert found.values == pytest.approx([0.25] * 3)


@pytest.mark.nojit
@pytest.mark.parametrize("algorithm", ["puct", "gumbel"])
@pytest.mark.parametrize("start", ["", "0", "2", "01", "20"])
def test_values_keep_their_sign_whoever_moves(algorithm, start):
    """Everything is worth +1/2 to player 0: in every node of the tree the mean is ±1/2 by who moves there."""
    evaluator = TableEvaluator(AGAIN_GAME, {"": ((0.2, 0.3, 0.5), 0.5)})
    params = replace(PLAIN, algorithm=algorithm, simulations=10)
    trees = searched(AGAIN_GAME, evaluator, params, AGAIN_GAME.parse_position(start)).trees
    used = int(trees.nodes_used[0])
    assert used == 11
    assert (trees.node["proven"][0, :used] == UNKNOWN).all()  # nothing but the evaluator's values so far
    players = trees.node["player"][0, :used]
    assert set(players.tolist()) == {0, 1}
    assert trees.node["value_sum"][0, :used] / trees.node["visits"][0, :used] == pytest.approx(
        np.where(players == 0, 0.5, -0.5)
    )
    for e in range(int(trees.edges_used[0])):  # an edge is seen by the node that it leaves
        if trees.edge["child"][0, e] >= 0:
            parent = trees.node["parent"][0, trees.edge["child"][0, e]]
            expected = 0.5 if trees.node["player"][0, parent] == 0 else -0.5
            assert trees.edge["edge_value"][0, e] / trees.edge["edge_visits"][0, e] == pytest.approx(expected)


def exact(game, state):
    """Minimax of a small game for the player to move."""
    outcome = int(game.outcome(state))
    if outcome != 2:
        return outcome
    values = []
    for action in np.flatnonzero(game.mask(state)).tolist():
        after = game.play(state, (action,))
        values.append(exact(game, after) * (1 if after[0] == state[0] else -1))
    return max(values)


@pytest.mark.parametrize("algorithm", ["puct", "gumbel"])
def test_a_game_with_double_moves_is_solved(algorithm):
    rng = random.Random(2)
    states = [s for _ in range(12) for s in random_states(AGAIN_GAME, rng)]
    worth = [exact(AGAIN_GAME, s) for s in states]
    assert {-1, 0, 1} == set(worth)
    params = SearchParams(simulations=1500, algorithm=algorithm)
    found = search_many(AGAIN_GAME, UniformEvaluator(AGAIN_GAME), np.stack(states), params, range(999))
    for state, value, answer in zip(states, worth, found, strict=True):
        assert answer.root_proven in (value, UNKNOWN)  # Gumbel search looks again and again at what is a draw already
        assert algorithm == "gumbel" or answer.root_proven == value == answer.value
        after = AGAIN_GAME.play(state, (answer.best,))
        assert exact(AGAIN_GAME, after) * (1 if after[0] == state[0] else -1) == value


# noise


@pytest.mark.nojit
def test_root_temperature():
    """softmax(log p / T): T = 2 gives shares of sqrt(p); the priors that are reported do not change."""
    params = replace(PLAIN, root_temperature=2.0, simulations=1)
    search = searched(AGAIN_GAME, bandit(0.0, 0.0, 0.0, 0.0), params)
    roots = np.sqrt([0.5, 0.3, 0.2])
    assert search.roots.prior[0] == pytest.approx(roots / roots.sum(), abs=1e-6)
    assert search.result(0).priors == pytest.approx([0.5, 0.3, 0.2])


def root_priors(game, evaluator, params, trees=400):
    """[trees, k] the noisy priors of many roots in the start position."""
    search = BatchSearch(game, params, trees)
    for b in range(trees):
        search.place(b, game.new_state(), stream("noise", b))
        search.begin_as_asked(b)
    search.run(evaluator, np.arange(trees))
    return search.roots.prior[:, : search.trees.node["num_edges"][0, 0]]


@pytest.mark.nojit
def test_root_noise_is_mixed_into_the_priors():
    quiet = replace(PLAIN, simulations=0, noise_fraction=0.25)
    priors = root_priors(AGAIN_GAME, bandit(0.0, 0.0, 0.0, 0.0), quiet, 50)
    assert np.ptp(priors, axis=0).min() > 0.1
    assert priors.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert (priors >= 0.75 * np.array([0.5, 0.3, 0.2]) - 1e-6).all()
    assert (priors <= 0.75 * np.array([0.5, 0.3, 0.2]) + 0.25 + 1e-6).all()


@pytest.mark.parametrize("alpha", [0.5, 10.0, 1000.0])
def test_root_noise_is_dirichlet(alpha):
    """Nothing but noise: mean 1/9 and variance (1/9)(8/9) / (alpha + 1) of Dirichlet(alpha/9, … nine times)."""
    params = SearchParams(simulations=0, noise_fraction=1.0, noise_alpha=alpha)
    priors = root_priors(TICTACTOE, UniformEvaluator(TICTACTOE), params, 1500)
    variance = 8 / 81 / (alpha + 1)
    assert priors.mean(axis=0) == pytest.approx(1 / 9, abs=4.5 * np.sqrt(variance / 1500))
    assert priors.var() == pytest.approx(variance, rel=0.12)


@pytest.mark.nojit
@pytest.mark.parametrize("alpha", [1e-3, 1e-6])
def test_tiny_alpha_is_a_single_move_and_never_nan(alpha):
    params = SearchParams(simulations=0, noise_fraction=1.0, noise_alpha=alpha)
    priors = root_priors(TICTACTOE, UniformEvaluator(TICTACTOE), params, 60)
    assert np.isfinite(priors).all()
    assert priors.sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert (priors.max(axis=1) > 0.999).mean() > 0.95
    assert len(set(priors.argmax(axis=1).tolist())) == 9


# the slow reading


def positions(game, seed):
    """Three positions of a random game: early, in the middle, a few plies before its end."""
    states = list(random_states(game, random.Random(seed)))
    return [states[len(states) // 6], states[len(states) // 2], states[-min(4, len(states))]]


def compare(game, state, params, evaluator):
    """Every number of the search against the slow reading; returns whether the root was proven."""
    search = searched(game, evaluator, params, state)
    found = search.result(0)
    count = len(found.actions)
    slow = ReferenceSearch(
        game, evaluator, params, state, search.roots.prior[0, :count], search.roots.gumbel[0, :count]
    )
    edges = slow.root.edges
    assert found.actions.tolist() == [e.action for e in edges]
    assert found.visits.tolist() == [e.visits for e in edges]
    assert found.proven.tolist() == [UNKNOWN if e.proven is None else e.proven for e in edges]
    assert found.root_proven == (UNKNOWN if slow.root.proven is None else slow.root.proven)
    assert found.priors == pytest.approx([e.prior for e in edges], abs=1e-9)
    mean = slow.root.total / slow.root.visits
    assert search.trees.node["value_sum"][0, 0] / search.trees.node["visits"][0, 0] == pytest.approx(mean, abs=1e-9)
    assert search.trees.edge["edge_value"][0, :count] == pytest.approx([e.total for e in edges], abs=1e-9)
    assert found.policy == pytest.approx(slow.policy(), abs=1e-9)
    assert found.best == slow.best().action
    for i, edge in enumerate(edges):  # one level down
        if edge.child is not None and edge.child.edges:
            node = int(search.trees.edge["child"][0, i])
            first = int(search.trees.node["first_edge"][0, node])
            block = search.trees.edge["edge_visits"][0, first : first + len(edge.child.edges)]
            assert block.tolist() == [e.visits for e in edge.child.edges]
        if edge.child is not None and edge.child.proven in (-1, 1):
            assert search.trees.node["proof_plies"][0, search.trees.edge["child"][0, i]] == edge.child.plies
    return found.root_proven != UNKNOWN


CONFIGS = {
    "puct": SearchParams(prove=0),
    "puct noisy": SearchParams(noise_fraction=0.25, root_temperature=1.3, fpu_reduction=0.4, prove=0),
    "puct unsolved": SearchParams(solve=False, c_puct=0.7),
    "gumbel": SearchParams(algorithm="gumbel", prove=0),
    "gumbel noisy": SearchParams(algorithm="gumbel", gumbel_scale=1.0, gumbel_considered=4, prove=0),
    "gumbel unsolved": SearchParams(algorithm="gumbel", gumbel_scale=1.0, solve=False, c_visit=5.0, c_scale=0.3),
}


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("name", game_names())
def test_equals_the_slow_reading(name, kind):
    game, params = load_game(name), replace(CONFIGS[kind], simulations=60)
    states = [state for seed in (1, 2) for state in positions(game, seed)]
    proven = [compare(game, state, params, HashEvaluator(game)) for state in states]
    assert params.solve or not any(proven)


@pytest.mark.nojit
@pytest.mark.parametrize("kind", CONFIGS)
def test_equals_the_slow_reading_where_a_player_moves_twice(kind):
    rng = random.Random(5)
    params = replace(CONFIGS[kind], simulations=50)
    states = [state for _ in range(2) for state in random_states(AGAIN_GAME, rng)]
    proven = [compare(AGAIN_GAME, state, params, HashEvaluator(AGAIN_GAME)) for state in states]
    assert any(proven) == params.solve


@pytest.mark.nojit
@pytest.mark.parametrize("kind", CONFIGS)
def test_equals_the_slow_reading_without_the_compiler_too(kind):
    params = replace(CONFIGS[kind], simulations=24)
    proven = [compare(CONNECT4, state, params, HashEvaluator(CONNECT4)) for state in positions(CONNECT4, 3)[1:]]
    assert proven
    assert params.solve or not any(proven)
