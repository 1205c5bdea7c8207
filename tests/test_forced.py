"""Forced wins by proof-number search: against the whole tree, solved positions, and proofs that are not ours."""

from __future__ import annotations

import csv
import random

import numpy as np
import pytest
from command_line import ROOT

from az.engine.game import LOSS, ONGOING, WIN, load_game
from az.engine.inference.evaluator import UniformEvaluator
from az.engine.search.forced import NODES, make_nodes
from az.engine.search.invariants import random_states
from az.engine.search.params import SearchParams
from az.engine.search.prove import make_prover, prove_position, prove_win_of
from az.engine.search.tree_search import TreeSearch

TICTACTOE, CONNECT4, CHECKERS = load_game("tictactoe"), load_game("connect4"), load_game("checkers")
ORACLES = ROOT / "tests" / "oracles"


def prover_for(game, nodes=NODES):
    """Also for games in which az does not look for forced wins."""
    return make_prover(game)._replace(nodes=make_nodes(nodes))


def forced(game, prover, state, most):
    """(plies, the actions that win)"""
    plies = prove_win_of[game.dtype](prover, state.copy(), most, game.apply, game.legal, game.outcome)
    return plies, {int(action) for action in np.flatnonzero(prover.result == WIN)}


def exact(game, prover, state):
    if (end := int(game.outcome(state))) != ONGOING:
        return end
    return int(prove_position[game.dtype](prover, state.copy(), 10_000_000, game.apply, game.legal, game.outcome))


@pytest.mark.nojit
def test_every_win_of_tictactoe_is_found_and_no_other():
    rng, prover, wins = random.Random(1), prover_for(TICTACTOE), 0
    states = {TICTACTOE.position_text(s): s for _ in range(40) for s in random_states(TICTACTOE, rng)}
    for state in states.values():
        plies, actions = forced(TICTACTOE, prover, state, 100_000)
        assert (plies > 0) == (exact(TICTACTOE, prover, state) == WIN)
        assert plies % 2 == (plies > 0)
        for action in actions:
            assert exact(TICTACTOE, prover, TICTACTOE.play(state, (action,))) == LOSS
        wins += plies > 0
    assert wins > 40


def test_wins_of_connect_four_are_wins_of_the_solver():
    prover, found, won = prover_for(CONNECT4), 0, 0
    with (ORACLES / "connect4_scored.csv").open() as file:
        rows = [row for row in csv.DictReader(file, delimiter=";") if row["phase"] != "begin"]
    for row in rows[::3]:
        state = CONNECT4.parse_position(row["moves"])
        scores = {int(text[0]) - 1: int(text[2:]) for text in row["scores"].split()}
        plies, actions = forced(CONNECT4, prover, state, 20_000)
        assert all(scores[action] > 0 for action in actions)
        assert (plies > 0) == bool(actions)
        found, won = found + (plies > 0), won + (max(scores.values()) > 0)
    assert found > won // 4


def test_what_is_proven_of_checkers_is_won_by_the_oracle_too():
    prover, found = make_prover(CHECKERS), 0
    with (ORACLES / "checkers_wins.csv").open() as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    for row in rows:
        state = CHECKERS.parse_position(row["fen"])
        _, actions = forced(CHECKERS, prover, state, 20_000)
        texts = {text for text, hops in CHECKERS.moves(state).items() if hops[0] in actions}
        decided = set(CHECKERS.moves(state)) - set(row["undecided_moves"].split())
        firsts = {CHECKERS.moves(state)[text][0] for text in row["winning_moves"].split()}
        assert all(CHECKERS.moves(state)[text][0] in firsts for text in texts & decided)
        found += bool(actions)
    assert found > 60  # the others are proven in the oracle by a database of endings


def test_endings_that_are_not_won_are_not_proven():
    prover, found, won = make_prover(CHECKERS), 0, 0
    with (ORACLES / "checkers_4pieces.csv").open() as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    for row in rows[::4]:
        plies, _ = forced(CHECKERS, prover, CHECKERS.parse_position(row["fen"]), 5_000)
        assert plies == 0 or row["value_for_side_to_move"] == "win"
        found, won = found + (plies > 0), won + (row["value_for_side_to_move"] == "win")
    assert found > won // 4


def test_the_scratch_may_be_small_or_used():
    state = CHECKERS.parse_position("W:W12,16,26:BK3,9")
    fresh = forced(CHECKERS, make_prover(CHECKERS), state, 50_000)
    used = make_prover(CHECKERS)
    assert forced(CHECKERS, used, CHECKERS.new_state(), 3_000) == (0, set())
    assert forced(CHECKERS, used, state, 50_000) == fresh
    assert fresh[0] > 0
    assert forced(CHECKERS, prover_for(CHECKERS, 8), state, 50_000) == (0, set())
    assert forced(CHECKERS, used, state, 1) == (0, set())


def test_a_search_that_knows_nothing_plays_a_win_to_its_end():
    """Whatever the other side does, the proven win does not get lost on the way."""
    rng, done = random.Random(4), 0
    with (ORACLES / "checkers_wins.csv").open() as file:
        fens = [row["fen"] for row in csv.DictReader(file, delimiter=";")]
    params = SearchParams(simulations=200)
    for fen in fens[::16]:
        state = CHECKERS.parse_position(fen)
        winner = state[0]
        if TreeSearch(CHECKERS, UniformEvaluator(CHECKERS), params).search(state).root_proven != WIN:
            continue
        while CHECKERS.outcome(state) == ONGOING:
            if state[0] == winner:
                action = TreeSearch(CHECKERS, UniformEvaluator(CHECKERS), params).search(state).best
            else:
                action = int(rng.choice(np.flatnonzero(CHECKERS.mask(state))))
            state = CHECKERS.play(state, (action,))
        assert CHECKERS.outcome(state) == (WIN if state[0] == winner else LOSS)
        done += 1
    assert done >= 5
