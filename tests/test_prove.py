"""Exact results near the end of a game, against solvers that are not ours and against the whole tree."""

from __future__ import annotations

import csv
import random
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from command_line import ROOT

from az.engine.conformance.laws import check_game
from az.engine.game import DRAW, LOSS, ONGOING, WIN, load_game
from az.engine.inference.evaluator import HashEvaluator, UniformEvaluator
from az.engine.search.invariants import random_states
from az.engine.search.many import search_many
from az.engine.search.params import UNKNOWN, SearchParams
from az.engine.search.prove import FAR, make_prover, prove_position
from az.engine.search.tree_search import TreeSearch

TICTACTOE, CONNECT4, OTHELLO6 = load_game("tictactoe"), load_game("connect4"), load_game("othello6")
ORACLES = ROOT / "tests" / "oracles"


def proven(game, prover, state, most):
    """(value, results of the legal actions)"""
    value = prove_position[game.dtype](prover, state.copy(), most, game.apply, game.legal, game.outcome)
    return value, {int(a): int(prover.result[a]) for a in np.flatnonzero(game.mask(state))}


def solved_rows(phase):
    with (ORACLES / "connect4_scored.csv").open() as file:
        return [row for row in csv.DictReader(file, delimiter=";") if row["phase"] == phase]


def kept(scores, value):
    """What `prove_moves` promises of the moves of a position whose moves have these values."""
    return {
        action: value if score == value else LOSS if score == LOSS or value == DRAW else UNKNOWN
        for action, score in scores.items()
    }


@pytest.mark.nojit
def test_every_position_of_tictactoe():
    @cache
    def value(position):
        state = TICTACTOE.parse_position(position)
        if (end := int(TICTACTOE.outcome(state))) != ONGOING:
            return end
        return max(values(position).values())

    @cache
    def values(position):
        state = TICTACTOE.parse_position(position)
        after = {int(a): TICTACTOE.play(state, (int(a),)) for a in np.flatnonzero(TICTACTOE.mask(state))}
        return {action: -value(TICTACTOE.position_text(one)) for action, one in after.items()}

    prover, rng, seen = make_prover(TICTACTOE), random.Random(1), set()
    for _ in range(60):
        seen |= {TICTACTOE.position_text(state) for state in random_states(TICTACTOE, rng)}
    for position in sorted(seen):
        found, moves = proven(TICTACTOE, prover, TICTACTOE.parse_position(position), 100_000)
        assert found == value(position)
        for action, result in moves.items():
            assert result in (kept(values(position), found)[action], UNKNOWN if found == WIN else result)
    assert len(seen) > 150


def test_solved_positions_of_connect_four():
    prover, solved = make_prover(CONNECT4), 0
    rows = solved_rows("middle") + solved_rows("end")
    for row in rows[::4]:
        state = CONNECT4.parse_position(row["moves"])
        value, moves = proven(CONNECT4, prover, state, 20_000)
        if value == UNKNOWN:
            continue
        solved += 1
        scores = {int(text[0]) - 1: int(np.sign(int(text[2:]))) for text in row["scores"].split()}
        assert value == max(scores.values())
        for action, result in moves.items():
            assert result in (UNKNOWN, scores[action])
            assert result != UNKNOWN or value == WIN or scores[action] != LOSS
    assert solved > len(rows[::4]) // 2


def test_solved_positions_of_othello():
    prover, solved = make_prover(OTHELLO6), 0
    with (ORACLES / "othello6_scored.csv").open() as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    for row in rows[::2]:
        state = OTHELLO6.new_state()
        for move in row["moves"].split():
            state = OTHELLO6.play(state, OTHELLO6.parse_move(state, move))
            while list(moves := OTHELLO6.moves(state)) == ["pass"]:  # the file leaves passes out
                state = OTHELLO6.play(state, moves["pass"])
        value, moves = proven(OTHELLO6, prover, state, 20_000)
        if value == UNKNOWN:
            continue
        solved += 1
        assert value == np.sign(int(row["best_score"]))
        for text in row["scores"].split():
            move, _, score = text.partition(":")
            assert moves[OTHELLO6.parse_move(state, move)[0]] in (UNKNOWN, np.sign(int(score)))
    assert solved > len(rows[::2]) // 4


@pytest.mark.nojit
def test_a_proof_is_the_same_whatever_was_proven_before():
    rng, fresh, used = random.Random(2), [], make_prover(CONNECT4)
    states = [state for _ in range(3) for state in random_states(CONNECT4, rng)][::3]
    for state in states:
        fresh.append((proven(CONNECT4, made := make_prover(CONNECT4), state, 300), int(made.numbers[1])))
    again = [(proven(CONNECT4, used, state, 300), int(used.numbers[1])) for state in states]
    assert fresh == again
    assert {value for (value, _), _ in fresh} >= {UNKNOWN, WIN}


@pytest.mark.parametrize("algorithm", ["puct", "gumbel"])
def test_a_search_keeps_what_is_proven(algorithm):
    rng = random.Random(3)
    states = [state for _ in range(12) for state in random_states(CONNECT4, rng) if state[3] >= 22]
    states += [CONNECT4.parse_position(row["moves"]) for row in solved_rows("end") if row["best_outcome"] == "0"][:20]
    params = SearchParams(simulations=64, algorithm=algorithm)
    prover, values = make_prover(CONNECT4), set()
    for state, found in zip(states, search_many(CONNECT4, HashEvaluator(CONNECT4), np.stack(states), params,
                                                range(len(states))), strict=True):  # fmt: skip
        if found.root_proven == UNKNOWN:
            continue
        value, _ = proven(CONNECT4, prover, state, 2_000_000)
        assert found.root_proven == found.value == value
        values.add(value)
        after = CONNECT4.play(state, (found.best,))
        end = int(CONNECT4.outcome(after))
        assert -value == (proven(CONNECT4, prover, after, 2_000_000)[0] if end == ONGOING else end)
    assert values == {LOSS, DRAW, WIN}


def test_a_proven_win_or_draw_needs_no_more_walks_and_a_loss_resists():
    rng, made = random.Random(5), {}
    states = [state for _ in range(40) for state in random_states(CONNECT4, rng) if state[3] >= 24]
    for state in states:
        tree = TreeSearch(CONNECT4, UniformEvaluator(CONNECT4), SearchParams(simulations=400))
        found = tree.search(state)
        if tree.batch.trees.node["proof_plies"][0, 0] == FAR:  # by the exact search, not by walks
            made.setdefault(found.root_proven, []).append(found.simulations)
    assert max(made[WIN] + made[DRAW]) < 400
    assert set(made[LOSS]) == {400}


def test_a_key_that_leaves_out_what_matters_breaks_a_law():
    assert 0 < CONNECT4.key_words < CONNECT4.state_size
    assert check_game(CONNECT4, 2, 0) == []
    broken = check_game(replace(CONNECT4, key_words=2), 2, 0)  # without the stones of player 1
    assert len(broken) == 1
    assert "'key'" in broken[0]
