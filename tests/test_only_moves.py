"""Where a player has one move only there is nothing to judge: a walk goes on, and the network is asked after it."""

from __future__ import annotations

import random

import numpy as np
import pytest
from test_batch import check_trees
from test_search import CONFIGS, compare, searched
from toy_games import AGAIN_GAME, TableEvaluator, again_rules, history_game

from az.engine.game import ONGOING, load_game
from az.engine.inference.evaluator import HashEvaluator
from az.engine.rng import stream
from az.engine.search.batch import BatchSearch
from az.engine.search.invariants import random_states
from az.engine.search.params import UNKNOWN, SearchParams
from az.engine.search.restrict import Pruner, Restriction

PLIES = 24


def _legal(state, mask):
    """After a first 0 the next 5 plies have one move, after a first 1 the next 20, after a 2 none has."""
    forced = 0
    if state[1] > 0:
        forced = 5 if state[2] == 0 else 20 if state[2] == 1 else 0
    for action in range(3):
        mask[action] = state[1] < 24 and (state[1] > forced or state[1] == 0 or action == state[1] % 2)


def _outcome(state):
    if state[1] < 24:
        return ONGOING
    total = 0
    for ply in range(24):
        total += (ply + 2) * (state[2 + ply] + 1)
    first = total % 3 - 1
    return first if state[0] == 0 else -first


def _encode(state, planes):
    for ply in range(24):
        planes[0, 0, ply] = (state[2 + ply] + 1) / 3.0 if ply < state[1] else 0.0


rules = type(again_rules)(np.int64)
CORRIDOR = history_game(
    "corridor", PLIES, rules, start=AGAIN_GAME.start, apply=AGAIN_GAME.apply,
    legal=rules.legal(_legal), outcome=rules.outcome(_outcome), encode=rules.encode(_encode),
)  # fmt: skip


class Asked(TableEvaluator):
    """Remembers the positions that it was asked about."""

    def __init__(self, table):
        super().__init__(CORRIDOR, table)
        self.histories: list[str] = []

    def evaluate(self, planes, logits, values):
        self.histories += ["".join(str(round(float(x) * 3) - 1) for x in plane[0, 0] if x > 0) for plane in planes]
        super().evaluate(planes, logits, values)


TABLE = {"": ((0.6, 0.3, 0.1), 0.0), "0": ((1 / 3, 1 / 3, 1 / 3), -0.5), "1": ((1 / 3, 1 / 3, 1 / 3), 0.5)}


def plain(**changes):
    return SearchParams(root_temperature=1.0, **changes)


@pytest.mark.nojit
@pytest.mark.parametrize("algorithm", ["puct", "gumbel"])
def test_the_network_is_asked_after_the_only_moves(algorithm):
    """Five of them: the position after the sixth ply. Twenty: no further than 16 in one walk."""
    evaluator = Asked(TABLE)
    searched(CORRIDOR, evaluator, plain(simulations=2, algorithm=algorithm, gumbel_considered=2))
    assert evaluator.histories == ["", "010101", "1" + "10" * 8]


@pytest.mark.nojit
def test_every_node_on_the_way_has_the_value():
    """It is worth -1/2 to player 0, who moves at every even ply."""
    trees = searched(CORRIDOR, Asked(TABLE), plain(simulations=1)).trees
    assert int(trees.nodes_used[0]) == 7
    for node in range(1, 7):
        worth = -0.5 if trees.node["player"][0, node] == 0 else 0.5
        assert trees.node["visits"][0, node] == 1
        assert trees.node["value_sum"][0, node] == trees.node["raw_value"][0, node] == worth
        assert trees.node["num_edges"][0, node] == (1 if node < 6 else 3)


@pytest.mark.nojit
def test_an_end_of_the_game_on_the_way_is_proven():
    """The last plies of a long corridor: the root, one move before it, is proven by its first walk."""
    state = CORRIDOR.new_state()
    for action in [1, *(ply % 2 for ply in range(1, 21)), 0, 0]:
        CORRIDOR.apply(state, action)
    found = searched(CORRIDOR, Asked(TABLE), plain(simulations=30, prove=0), state).result(0)
    assert found.root_proven != UNKNOWN


@pytest.mark.nojit
@pytest.mark.parametrize("kind", CONFIGS)
def test_equals_the_slow_reading(kind):
    rng = random.Random(4)
    params = type(CONFIGS[kind])(**{**CONFIGS[kind].__dict__, "simulations": 40})
    states = [state for _ in range(2) for state in random_states(CORRIDOR, rng)]
    proven = [compare(CORRIDOR, state, params, HashEvaluator(CORRIDOR)) for state in states]
    assert any(proven) == params.solve


@pytest.mark.nojit
@pytest.mark.parametrize("leaves", [1, 3])
def test_no_position_of_checkers_with_one_move_is_judged(leaves):
    """Every walk that came to such a node went on: it has as many visits as its edge."""
    game, seen = load_game("checkers"), 0
    for state in list(random_states(game, random.Random(8)))[:40:5]:
        search = searched(game, HashEvaluator(game), SearchParams(simulations=60, leaves=leaves, prove=0), state)
        check_trees(search, 0)
        nodes, edges = search.trees.node[0, : search.trees.nodes_used[0]], search.trees.edge[0]
        for node in nodes[1:]:
            if node["num_edges"] == 1 and node["proven"] == UNKNOWN:
                assert node["visits"] == edges["edge_visits"][node["first_edge"]]
                seen += 1
    assert seen > 50


def forced_replies(game, states):
    """(position, a hop, the hops that must follow, the moves then) where the opponent has no choice after that hop."""
    for state in states:
        for hop in np.flatnonzero(game.mask(state)).tolist():
            after, hops = game.play(state, (hop,)), []
            while game.outcome(after) == ONGOING and after[0] != state[0] and game.mask(after).sum() == 1:
                hops.append(int(np.flatnonzero(game.mask(after))[0]))
                after = game.play(after, (hops[-1],))
            if hops and game.outcome(after) == ONGOING and after[0] == state[0] and len(game.moves(after)) > 1:
                yield state, hop, hops, game.moves(after)


def child_of(trees, node, action):
    """The node after an action, None where no walk went."""
    first = int(trees.node["first_edge"][0, node])
    edges = range(first, first + int(trees.node["num_edges"][0, node]))
    found = [int(trees.edge["child"][0, e]) for e in edges if trees.edge["action"][0, e] == action]
    return found[0] if found and found[0] >= 0 else None


def test_a_restriction_holds_after_an_only_move():
    """The player at the root may not play a move at its next turn, which comes after a forced reply."""
    game = load_game("checkers")
    checked = 0
    for state, hop, hops, moves in forced_replies(game, list(random_states(game, random.Random(3)))[:60]):
        avoided, (first, *_) = next(iter(moves.items()))
        if first in {other for text, (other, *_) in moves.items() if text != avoided}:
            continue  # another move begins with the same hop
        search = BatchSearch(game, SearchParams(simulations=300, prove=0), 1)
        search.place(0, state, stream(0))
        search.begin_as_asked(0)
        pruner = Pruner(game, Restriction(avoid=frozenset([avoided]), until=3), state)
        while rows := search.gather(np.zeros(1, np.int64)):
            search.evaluate_and_expand(HashEvaluator(game), rows)
            for row in range(rows):
                pruner.prune(search.trees, 0, int(search.leaves.node[row]))
        node = 0
        for action in (hop, *hops):
            node = child_of(search.trees, node, action) if node is not None else None
        if node is not None and search.trees.node["num_edges"][0, node] > 0:
            begin = int(search.trees.node["first_edge"][0, node])
            count = int(search.trees.node["num_edges"][0, node])
            assert first not in search.trees.edge["action"][0, begin : begin + count]
            checked += 1
    assert checked >= 3
