"""Wins and losses: found at once on every game, proven exactly, and a lie about the sign is noticed."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from toy_games import AGAIN_GAME, LIAR

from az.engine.game import ONGOING, game_names, load_game
from az.engine.inference.evaluator import HashEvaluator, UniformEvaluator
from az.engine.search.invariants import check_search, sharp_positions
from az.engine.search.many import search_many
from az.engine.search.params import UNKNOWN, SearchParams

ORACLES = Path(__file__).resolve().parent / "oracles"
TICTACTOE, CONNECT4, CHECKERS = load_game("tictactoe"), load_game("connect4"), load_game("checkers")


def rows(name):
    return list(csv.DictReader((ORACLES / name).read_text(encoding="utf-8").splitlines(), delimiter=";"))


@pytest.mark.parametrize("leaves", [1, 4])
@pytest.mark.parametrize("name", game_names())
def test_win_in_one_and_no_loss_in_one(name, leaves):
    assert check_search(load_game(name), 20, 3, leaves) == []


@pytest.mark.parametrize("name", game_names())
def test_there_are_sharp_positions(name):
    """The law above is about something."""
    wins, threats = sharp_positions(load_game(name), 20, 3)
    assert len(wins) >= 5
    assert len(threats) >= 1 or name.startswith(("othello", "gomoku"))  # few random games of these get so far


@pytest.mark.nojit
def test_small_games_obey():
    assert check_search(AGAIN_GAME, 2, 1) == []
    assert check_search(TICTACTOE, 1, 1) == []


@pytest.mark.nojit
def test_a_wrong_sign_is_noticed():
    """Sharp positions by the true rules, a search by rules that call every win a loss: both laws break, with both."""
    broken = check_search(LIAR, 2, 3, judged_by=TICTACTOE)
    for algorithm in ("puct", "gumbel"):
        for law in ("misses a win in one", "loses at once"):
            assert any(algorithm in text and law in text for text in broken)


# proofs


@cache
def exact(state):
    """(value, plies) of a tic-tac-toe position under best play: the fewest plies to a win, the most to a loss."""
    state = np.array(state)
    outcome = int(TICTACTOE.outcome(state))
    if outcome != ONGOING:
        return outcome, 0
    answers = []
    for action in np.flatnonzero(TICTACTOE.mask(state)).tolist():
        value, plies = exact(tuple(TICTACTOE.play(state, (action,)).tolist()))
        answers.append((-value, plies + 1))
    best = max(value for value, _ in answers)
    ends = [plies for value, plies in answers if value == best]
    return best, min(ends) if best == 1 else max(ends)


@cache
def every_position():
    """All unfinished positions of tic-tac-toe."""
    found, waiting = {}, [TICTACTOE.new_state()]
    while waiting:
        state = waiting.pop()
        if tuple(state.tolist()) in found or TICTACTOE.outcome(state) != ONGOING:
            continue
        found[tuple(state.tolist())] = state
        waiting += [TICTACTOE.play(state, (a,)) for a in np.flatnonzero(TICTACTOE.mask(state)).tolist()]
    return np.stack(list(found.values()))


@pytest.mark.parametrize("leaves", [1, 5])
@pytest.mark.parametrize("algorithm", ["puct", "gumbel"])
@pytest.mark.parametrize("simulations", [10, 60, 300])
def test_proofs_never_contradict_minimax(algorithm, simulations, leaves):
    states = every_position()
    assert len(states) == 4520
    states = states[:: 1 + simulations // 10]
    params = SearchParams(simulations=simulations, algorithm=algorithm, leaves=leaves)
    proven = 0
    for state, found in zip(
        states, search_many(TICTACTOE, HashEvaluator(TICTACTOE), states, params, range(len(states))), strict=True
    ):
        value = exact(tuple(state.tolist()))[0]
        assert found.root_proven in (UNKNOWN, value)
        proven += found.root_proven == value
        for action, known in zip(found.actions.tolist(), found.proven.tolist(), strict=True):
            if known != UNKNOWN:
                assert known == -exact(tuple(TICTACTOE.play(state, (action,)).tolist()))[0]
        if found.root_proven != UNKNOWN:
            after = tuple(TICTACTOE.play(state, (found.best,)).tolist())
            assert -exact(after)[0] == value == found.value
    assert proven > len(states) / 5


def test_enough_simulations_prove_every_result():
    """Wins, draws and losses: with PUCT the proof is complete, whoever is to move."""
    states = np.stack([s for s in every_position() if (s[1:] == 0).sum() <= 5])
    params = SearchParams(simulations=1500)
    seen = set()
    for state, found in zip(
        states[::5],
        search_many(TICTACTOE, UniformEvaluator(TICTACTOE), states[::5], params, range(len(states))),
        strict=True,
    ):
        assert found.root_proven == exact(tuple(state.tolist()))[0]
        seen.add(found.root_proven)
    assert seen == {-1, 0, 1}


def test_of_lost_moves_the_longest_is_played():
    """Once everything is proven lost, the search plays on for as long as it knows how to."""
    lost = [s for s in every_position() if exact(tuple(s.tolist()))[0] == -1]
    states = np.stack(lost)
    params = SearchParams(simulations=1500)
    found = search_many(TICTACTOE, UniformEvaluator(TICTACTOE), states, params, range(len(states)))
    longest = 0
    for state, answer in zip(states, found, strict=True):
        assert answer.root_proven == -1
        plies = 1 + exact(tuple(TICTACTOE.play(state, (answer.best,)).tolist()))[1]
        longest += plies == exact(tuple(state.tolist()))[1]
    assert longest / len(states) > 0.9  # the first proof that was found is not always the shortest win


@pytest.mark.nojit
@pytest.mark.parametrize("algorithm", ["puct", "gumbel"])
def test_the_nearest_known_win_is_played(algorithm):
    """X 1 5, O 2 3: X wins at once with 9; 4 and 7 win too, but later."""
    params = SearchParams(simulations=120, algorithm=algorithm)
    state = TICTACTOE.parse_position("1253")
    found = search_many(TICTACTOE, UniformEvaluator(TICTACTOE), state[None], params, [1])[0]
    assert found.best == 8
    assert found.pv[0] == 8


@pytest.mark.parametrize("algorithm", ["puct", "gumbel"])
def test_connect4_short_wins_are_proven(algorithm):
    """A solver's score s after p plies wins with the mover's stone number 22 - s: in 2 · (22 - s) - 1 - p' plies."""
    states, winning = [], []
    for row in rows("connect4_scored.csv"):
        scores = {int(c) - 1: int(s) for c, s in (entry.split(":") for entry in row["scores"].split())}
        played = len(row["moves"])
        stone = 22 - max(scores.values())  # of the mover, counted from the first
        if max(scores.values()) > 0 and stone - played // 2 <= 2:
            states.append(CONNECT4.parse_position(row["moves"]))
            winning.append({column for column, score in scores.items() if score > 0})
    assert len(states) >= 5
    params = SearchParams(simulations=2500, algorithm=algorithm, gumbel_considered=8)
    found = search_many(CONNECT4, UniformEvaluator(CONNECT4), np.stack(states), params, range(len(states)))
    for answer, wins in zip(found, winning, strict=True):
        assert answer.root_proven == 1 or algorithm == "gumbel"
        assert answer.best in wins
        for action, known in zip(answer.actions.tolist(), answer.proven.tolist(), strict=True):
            if known == 1:
                assert action in wins


def test_checkers_proofs_agree_with_exhaustive_search():
    """The oracle's lines may end in a won endgame, so not all are proven here; what is proven must agree."""
    cases = [row for row in rows("checkers_wins.csv") if int(row["proof_plies"]) <= 5][:60:2]
    states = [CHECKERS.parse_position(row["fen"]) for row in cases]
    params = SearchParams(simulations=1500)
    found = search_many(CHECKERS, UniformEvaluator(CHECKERS), np.stack(states), params, range(len(states)))
    proven = played = 0
    for row, state, answer in zip(cases, states, found, strict=True):
        moves = CHECKERS.moves(state)
        wins = {moves[move][0] for move in row["winning_moves"].split()}
        open_ones = {moves[move][0] for move in (row["undecided_moves"] or "").split() if move in moves}
        assert answer.root_proven in (1, UNKNOWN)
        for action, known in zip(answer.actions.tolist(), answer.proven.tolist(), strict=True):
            if known == 1:
                assert action in wins | open_ones
            assert known not in (-1, 0) or action not in wins
        proven += answer.root_proven == 1
        played += answer.best in wins | open_ones
    assert proven >= 6
    assert played >= 27  # of 30
