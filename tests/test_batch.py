"""B trees together equal B alone; several leaves in flight; what is true of every tree after every search."""

from __future__ import annotations

import random
from dataclasses import fields, replace

import numpy as np
import pytest

from az.engine.game import DRAW, WIN, game_names, load_game
from az.engine.inference.evaluator import HashEvaluator
from az.engine.rng import stream
from az.engine.search import batch as batch_module
from az.engine.search.batch import BatchSearch
from az.engine.search.cache import make_cache
from az.engine.search.invariants import random_states
from az.engine.search.many import search_many
from az.engine.search.params import UNKNOWN, SearchParams
from az.engine.search.tree import make_trees

TICTACTOE, CONNECT4 = load_game("tictactoe"), load_game("connect4")

KINDS = {
    "puct": SearchParams(simulations=50, noise_fraction=0.25),
    "puct leaves": SearchParams(simulations=50, leaves=4),
    "gumbel": SearchParams(simulations=50, algorithm="gumbel", gumbel_scale=1.0, gumbel_considered=5),
    "gumbel leaves": SearchParams(simulations=50, algorithm="gumbel", leaves=8, solve=False),
    "walks alone": SearchParams(simulations=50, prove=0),
}


def some_states(game, number, seed):
    """Positions of every stage, so that neighbours have other masks and other numbers of moves."""
    rng = random.Random(seed)
    found = []
    while len(found) < 4 * number:
        found += list(random_states(game, rng))
    return np.stack(rng.sample(found, number))


def assert_equal(one, other):
    for field in fields(one):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        assert np.array_equal(mine, theirs), field.name


def finished(game, params, states, keys):
    search = BatchSearch(game, params, len(states))
    for b, state in enumerate(states):
        search.place(b, state, stream(keys[b]))
        search.begin_as_asked(b)
    search.run(HashEvaluator(game), np.arange(len(states)))
    return search


def by_proof(search, b, node):
    """Whether the exact search may have marked the edges of this node, of which no walk knows why."""
    return node == 0 and search.params.prove > 0 and search.trees.node["proven"][b, 0] != UNKNOWN


def check_trees(search, b):
    """The invariants of a finished tree."""
    trees = search.trees
    nodes, edges = int(trees.nodes_used[b]), int(trees.edges_used[b])
    assert (trees.node["inflight"][b, :nodes] == 0).all()
    assert (trees.edge["edge_inflight"][b, :edges] == 0).all()
    owner = np.full(edges, -1)
    children = 0
    for node in range(nodes):
        first, count = int(trees.node["first_edge"][b, node]), int(trees.node["num_edges"][b, node])
        block = slice(first, first + count)
        assert first + count <= edges
        assert (owner[block] == -1).all(), "two nodes share an edge"
        owner[block] = node
        assert abs(trees.node["value_sum"][b, node]) <= trees.node["visits"][b, node] + 1e-9
        visits = int(trees.edge["edge_visits"][b, block].sum())
        if count:
            own = 0 if node and count == 1 else 1  # an only move is followed: the first walk did not end here
            if trees.node["proven"][b, node] == UNKNOWN:
                assert trees.node["visits"][b, node] == own + visits
            assert trees.node["visits"][b, node] >= own + visits  # more where a proven node was met again
            assert trees.edge["prior"][b, block].sum() == pytest.approx(1, abs=1e-5)
            assert (np.diff(trees.edge["action"][b, block]) > 0).all()
            assert abs(trees.node["raw_value"][b, node]) <= 1
        else:
            assert trees.node["proven"][b, node] in (-1, 0, 1), "a leaf that nobody judged"
            assert trees.node["visits"][b, node] >= 1
        for e in range(first, first + count):
            child = int(trees.edge["child"][b, e])
            assert abs(trees.edge["edge_value"][b, e]) <= trees.edge["edge_visits"][b, e] + 1e-9
            if child < 0:
                assert trees.edge["edge_visits"][b, e] == 0
                assert trees.edge["edge_proven"][b, e] == UNKNOWN or by_proof(search, b, node)
                continue
            children += 1
            assert (trees.node["parent"][b, child], trees.node["parent_edge"][b, child]) == (node, e)
            assert trees.node["visits"][b, child] == trees.edge["edge_visits"][b, e] >= 1
            sign = 1 if trees.node["player"][b, child] == trees.node["player"][b, node] else -1
            if search.params.solve:
                known = trees.node["proven"][b, child]
                if known != UNKNOWN or not by_proof(search, b, node):
                    assert trees.edge["edge_proven"][b, e] == (UNKNOWN if known == UNKNOWN else sign * known)
    assert (owner >= 0).all(), "an edge that no node owns"
    assert children == nodes - 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", game_names())
def test_together_equals_alone_and_trees_are_sound(name, kind):
    game, params = load_game(name), KINDS[kind]
    states = some_states(game, 8, 11)
    assert len({int(game.mask(state).sum()) for state in states}) > 1
    keys = [100 + i for i in range(len(states))]
    together = finished(game, params, states, keys)
    reused = BatchSearch(game, params, 1)  # alone, in a tree that has held others before
    for b, (state, key) in enumerate(zip(states, keys, strict=True)):
        check_trees(together, b)
        found = together.result(b)
        assert found.simulations == found.visits.sum()
        assert found.simulations == params.simulations or (found.root_proven in (DRAW, WIN) and params.prove)
        reused.place(0, state, stream(key))
        reused.begin_as_asked(0)
        reused.run(HashEvaluator(game), np.zeros(1, np.int64))
        assert_equal(found, reused.result(0))


@pytest.mark.nojit
@pytest.mark.parametrize("kind", KINDS)
def test_together_equals_alone(kind):
    states = some_states(TICTACTOE, 3, 4)
    params = replace(KINDS[kind], simulations=20)
    together = search_many(TICTACTOE, HashEvaluator(TICTACTOE), states, params, [5, 6, 7])
    for state, key, found in zip(states, (5, 6, 7), together, strict=True):
        assert_equal(found, search_many(TICTACTOE, HashEvaluator(TICTACTOE), state[None], params, [key])[0])


@pytest.mark.nojit
@pytest.mark.parametrize("kind", KINDS)
def test_trees_are_sound(kind):
    states = some_states(CONNECT4, 2, 8)
    search = finished(CONNECT4, replace(KINDS[kind], simulations=24), states, [1, 2])
    for b in range(len(states)):
        check_trees(search, b)


def test_more_positions_than_trees(monkeypatch):
    """search_many works in chunks; a chunk's size changes no answer."""
    states = some_states(CONNECT4, 11, 3)
    whole = search_many(CONNECT4, HashEvaluator(CONNECT4), states, KINDS["puct"], range(11))
    monkeypatch.setattr("az.engine.search.many.TREES_AT_ONCE", 4)
    for one, other in zip(
        whole, search_many(CONNECT4, HashEvaluator(CONNECT4), states, KINDS["puct"], range(11)), strict=True
    ):
        assert_equal(one, other)


def test_the_key_decides_the_noise():
    states = np.stack([CONNECT4.new_state()] * 3)
    one, same, other = search_many(CONNECT4, HashEvaluator(CONNECT4), states, KINDS["puct"], [7, 7, 8])
    assert_equal(one, same)
    assert one.visits.tolist() != other.visits.tolist()


class CountingEvaluator(HashEvaluator):
    """Remembers how many positions each call brought."""

    def __init__(self, game):
        super().__init__(game)
        self.rows = []

    def evaluate(self, planes, logits, values):
        self.rows.append(len(planes))
        super().evaluate(planes, logits, values)


def test_leaves_in_flight_share_an_evaluation():
    params = SearchParams(simulations=64, leaves=8)
    counting = CountingEvaluator(CONNECT4)
    search_many(CONNECT4, counting, CONNECT4.new_state()[None], params, [0])
    assert max(counting.rows) > 4
    assert len(counting.rows) < 25
    counting = CountingEvaluator(CONNECT4)
    search_many(CONNECT4, counting, CONNECT4.new_state()[None], replace(params, leaves=1), [0])
    assert set(counting.rows) == {1}


@pytest.mark.parametrize("kind", KINDS)
def test_growing_changes_nothing(kind, monkeypatch):
    """Trees that begin far too small, beside neighbours that grow at other times, give the same answers."""
    params = replace(KINDS[kind], simulations=120)
    states = some_states(CONNECT4, 5, 21)
    expected = search_many(CONNECT4, HashEvaluator(CONNECT4), states, params, range(5))
    sizes = []

    def tiny(num_trees, nodes, edges):
        if not sizes or nodes == sizes[0][0]:  # the first trees and their scratch
            sizes.append((nodes, edges))
            return make_trees(num_trees, 3, 9)
        sizes.append((nodes, edges))
        return make_trees(num_trees, nodes, edges)

    monkeypatch.setattr(batch_module, "make_trees", tiny)
    together = search_many(CONNECT4, HashEvaluator(CONNECT4), states, params, range(5))
    assert len(sizes) >= 5, "the trees never grew"
    for one, other in zip(expected, together, strict=True):
        assert_equal(one, other)


@pytest.mark.parametrize("leaves", [1, 4])
def test_a_warm_cache_with_little_room(leaves):
    """Every answer is known, so that one step walks far: the tree grows in time (with one leaf, to the same answer)."""
    params = SearchParams(simulations=150, leaves=leaves)
    search = BatchSearch(CONNECT4, params, 1)
    search.cache = make_cache(CONNECT4)
    visits = []
    for _ in range(3):
        search.trees, search.scratch = make_trees(1, 2, 9), make_trees(1, 2, 9)
        search.place(0, CONNECT4.new_state(), stream(1))
        search.begin_as_asked(0)
        search.run(HashEvaluator(CONNECT4), np.zeros(1, np.int64))
        check_trees(search, 0)
        visits.append(search.result(0).visits.tolist())
    assert search.cache.asked[1] >= 250
    assert leaves > 1 or visits[0] == visits[1] == visits[2]  # leaves in flight wait shorter with a cache


def test_a_tree_that_grows_does_not_disturb_its_neighbour(monkeypatch):
    """Several leaves in flight: a step is never broken off half-way because there was no more room."""
    params = SearchParams(simulations=40, leaves=4)
    states = some_states(CONNECT4, 2, 5)
    expected = search_many(CONNECT4, HashEvaluator(CONNECT4), states, params, range(2))
    for nodes in range(3, 44, 3):
        monkeypatch.setattr(batch_module, "make_trees", lambda n, *_, nodes=nodes: make_trees(n, nodes, 40 + nodes))
        search = BatchSearch(CONNECT4, params, 2)
        monkeypatch.undo()
        for b, state in enumerate(states):
            search.place(b, state, stream(b))
            search.begin_as_asked(b)
        search.run(HashEvaluator(CONNECT4), np.arange(2))
        for b in range(2):
            assert_equal(expected[b], search.result(b))
