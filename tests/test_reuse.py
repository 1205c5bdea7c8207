"""Keeping the tree: what is kept equals what was there, and a search of one game follows its moves."""

from __future__ import annotations

import random
import time
from dataclasses import replace

import numpy as np
import pytest
from test_batch import assert_equal, check_trees, some_states
from test_search import searched

from az.engine.game import game_names, load_game
from az.engine.inference.evaluator import HashEvaluator, UniformEvaluator
from az.engine.rng import stream
from az.engine.search.batch import BatchSearch
from az.engine.search.invariants import random_states
from az.engine.search.params import SearchParams
from az.engine.search.tree_search import TreeSearch

TICTACTOE, CONNECT4 = load_game("tictactoe"), load_game("connect4")
PARAMS = SearchParams(simulations=80, prove=0)
NODE_FACTS = ("player", "visits", "value_sum", "raw_value", "proven", "proof_plies", "inflight", "num_edges")
EDGE_FACTS = ("action", "prior", "logit", "edge_visits", "edge_value", "edge_inflight", "edge_proven")


def picture(trees, b, node):
    """A subtree as nested tuples, without the numbers of its nodes and edges."""
    first = int(trees.node["first_edge"][b, node])
    edges = []
    for e in range(first, first + int(trees.node["num_edges"][b, node])):
        child = int(trees.edge["child"][b, e])
        facts = tuple(trees.edge[name][b, e].item() for name in EDGE_FACTS)
        edges.append((facts, picture(trees, b, child) if child >= 0 else None))
    return tuple(trees.node[name][b, node].item() for name in NODE_FACTS), tuple(edges)


@pytest.mark.parametrize("leaves", [1, 4])
@pytest.mark.parametrize("name", game_names())
def test_the_kept_tree_is_the_old_subtree(name, leaves):
    game = load_game(name)
    kept = 0
    for state in some_states(game, 3, 9):
        search = searched(game, HashEvaluator(game), replace(PARAMS, leaves=leaves), state)
        visits = search.result(0).visits
        for index in np.argsort(-visits, kind="stable")[:2].tolist():
            search = searched(game, HashEvaluator(game), replace(PARAMS, leaves=leaves), state)
            child = int(search.trees.edge["child"][0, search.trees.node["first_edge"][0, 0] + index])
            if search.trees.node["num_edges"][0, child] == 0:
                continue
            action = int(search.result(0).actions[index])
            expected = picture(search.trees, 0, child)
            search.advance(0, index, reuse=True)
            assert picture(search.trees, 0, 0) == expected
            assert (search.trees.node["parent"][0, 0], search.trees.node["parent_edge"][0, 0]) == (-1, -1)
            assert search.roots.state[0].tolist() == game.play(state, (action,)).tolist()
            check_trees(search, 0)
            before = int(search.trees.edge["edge_visits"][0, : search.trees.node["num_edges"][0, 0]].sum())
            search.begin_as_asked(0)
            search.run(HashEvaluator(game), np.zeros(1, np.int64))
            found = search.result(0)
            assert found.simulations == PARAMS.simulations
            assert found.visits.sum() == before + PARAMS.simulations
            check_trees(search, 0)
            kept += 1
    assert kept >= 4


@pytest.mark.nojit
def test_a_small_kept_tree_is_the_old_subtree():
    params = replace(PARAMS, simulations=30)
    for index in range(3):
        search = searched(TICTACTOE, HashEvaluator(TICTACTOE), params)
        chosen = int(np.argsort(-search.result(0).visits, kind="stable")[index])
        expected = picture(search.trees, 0, int(search.trees.edge["child"][0, chosen]))
        search.advance(0, chosen, reuse=True)
        assert picture(search.trees, 0, 0) == expected
        check_trees(search, 0)


@pytest.mark.nojit
def test_searching_on_equals_having_searched_longer():
    """One walk more from a kept root is the walk that a longer search of the same tree makes."""
    state = CONNECT4.parse_position("4453")
    for more in (5, 20):
        search = searched(CONNECT4, HashEvaluator(CONNECT4), replace(PARAMS, simulations=30), state)
        search.begin(0, more)
        search.run(HashEvaluator(CONNECT4), np.zeros(1, np.int64))
        longer = searched(CONNECT4, HashEvaluator(CONNECT4), replace(PARAMS, simulations=30 + more), state)
        assert picture(search.trees, 0, 0) == picture(longer.trees, 0, 0)


@pytest.mark.nojit
def test_without_reuse_the_next_search_starts_afresh():
    search = searched(CONNECT4, HashEvaluator(CONNECT4), replace(PARAMS, simulations=20))
    index = int(np.argmax(search.result(0).visits))
    search.advance(0, index, reuse=False)
    assert search.trees.nodes_used[0] == search.trees.edges_used[0] == 0
    search.begin_as_asked(0)
    search.run(HashEvaluator(CONNECT4), np.zeros(1, np.int64))
    state = search.roots.state[0].copy()
    fresh = searched(CONNECT4, HashEvaluator(CONNECT4), replace(PARAMS, simulations=20), state)
    assert_equal(search.result(0), fresh.result(0))


@pytest.mark.nojit
def test_only_so_much_is_kept():
    """Three searches of one position, 4 · 10 visits at most are kept."""
    for extra, kept in ((0, True), (200, False)):
        search = searched(CONNECT4, HashEvaluator(CONNECT4), replace(PARAMS, simulations=10))
        search.begin(0, extra)
        search.run(HashEvaluator(CONNECT4), np.zeros(1, np.int64))
        visits = search.result(0).visits
        search.advance(0, int(np.argmax(visits)), reuse=True)
        assert (visits.max() > 40) != kept
        assert bool(search.trees.nodes_used[0]) == kept


@pytest.mark.nojit
def test_a_move_that_was_never_tried_keeps_nothing():
    search = searched(CONNECT4, UniformEvaluator(CONNECT4), replace(PARAMS, simulations=2))
    untried = int(np.argmin(search.result(0).visits))
    search.advance(0, untried, reuse=True)
    assert search.trees.nodes_used[0] == 0


def test_neighbours_are_not_touched():
    states = some_states(CONNECT4, 3, 2)
    search = BatchSearch(CONNECT4, PARAMS, 3)
    for b, state in enumerate(states):
        search.place(b, state, stream(b))
        search.begin_as_asked(b)
    search.run(HashEvaluator(CONNECT4), np.arange(3))
    expected = [picture(search.trees, b, 0) for b in (0, 2)]
    search.advance(1, int(np.argmax(search.result(1).visits)), reuse=True)
    assert [picture(search.trees, b, 0) for b in (0, 2)] == expected


# one tree that follows a game


@pytest.mark.parametrize("name", game_names())
def test_tree_search_follows_the_moves(name):
    game = load_game(name)
    tree = TreeSearch(game, HashEvaluator(game), replace(PARAMS, simulations=400))
    state = game.new_state()
    found = tree.search(state)
    line = found.pv[:2]
    assert len(line) == 2
    state = game.play(state, line)
    first = int(tree.batch.trees.node["first_edge"][0, 0])
    child = int(tree.batch.trees.edge["child"][0, first + found.actions.tolist().index(line[0])])
    edges = int(tree.batch.trees.node["first_edge"][0, child])
    while tree.batch.trees.edge["action"][0, edges] != line[1]:
        edges += 1
    known = int(tree.batch.trees.edge["edge_visits"][0, edges])
    found = tree.search(state)
    assert known > 1
    known -= len(found.actions) > 1  # the network's own judgement of it, which an only move does not get
    assert found.visits.sum() == known + 400
    assert found.simulations == 400
    assert np.array_equal(tree.batch.roots.state[0], state)
    assert tree.search(state).visits.sum() == known + 800  # the same position again: it adds


@pytest.mark.nojit
def test_tree_search_starts_afresh_where_nothing_follows():
    tree = TreeSearch(CONNECT4, HashEvaluator(CONNECT4), replace(PARAMS, simulations=20))
    tree.search(CONNECT4.parse_position("4453"))
    other = CONNECT4.parse_position("1")
    found = tree.search(other)
    fresh = TreeSearch(CONNECT4, HashEvaluator(CONNECT4), replace(PARAMS, simulations=20)).search(other)
    assert_equal(found, fresh)


@pytest.mark.nojit
def test_a_gumbel_tree_search_says_the_same_twice():
    """Sequential halving counts visits from nought: an old tree would turn it into visits for everyone."""
    params = SearchParams(simulations=24, algorithm="gumbel", gumbel_considered=4)
    tree = TreeSearch(CONNECT4, HashEvaluator(CONNECT4), params)
    first = tree.search(CONNECT4.new_state())
    assert (first.visits == 0).sum() == 3
    assert_equal(first, tree.search(CONNECT4.new_state()))
    with pytest.raises(ValueError, match="in advance"):
        tree.search(CONNECT4.new_state(), simulations=25)


@pytest.mark.parametrize("leaves", [1, 8])
def test_a_search_by_the_clock_ends_and_keeps_its_tree(leaves):
    tree = TreeSearch(CONNECT4, UniformEvaluator(CONNECT4), SearchParams(simulations=4, leaves=leaves))
    state = CONNECT4.new_state()
    began = time.monotonic()
    found = tree.search(state, seconds=0.3)
    assert 0.3 <= time.monotonic() - began < 10.0
    assert found.simulations == found.visits.sum() >= 64
    check_trees(tree.batch, 0)
    known = int(found.visits.max())
    assert known > 4 * 4  # more than a tree of searches of 4 simulations would keep
    found = tree.search(CONNECT4.play(state, (found.best,)), simulations=0)
    assert found.visits.sum() == known - 1


def test_a_search_by_the_clock_stops_when_the_position_is_proven():
    tree = TreeSearch(TICTACTOE, UniformEvaluator(TICTACTOE), SearchParams(prove=0))
    began = time.monotonic()
    found = tree.search(TICTACTOE.parse_position("1425"), seconds=30.0)
    assert time.monotonic() - began < 5
    assert (found.root_proven, found.best) == (1, 2)


def test_a_whole_game_in_one_tree_is_sound():
    rng = random.Random(4)
    tree = TreeSearch(CONNECT4, HashEvaluator(CONNECT4), replace(PARAMS, simulations=80))
    for state in random_states(CONNECT4, rng):
        found = tree.search(state)
        assert np.array_equal(found.actions, np.flatnonzero(CONNECT4.mask(state)))
        check_trees(tree.batch, 0)
