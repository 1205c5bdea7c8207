"""The scoreboard: solved positions, ratings, calibration, and the command."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from command_line import ROOT
from run_tools import run_az

from az.engine.errors import Refused
from az.engine.game import DRAW, LOSS, Game, State, load_game
from az.engine.inference.evaluator import UniformEvaluator
from az.engine.players import make_player
from az.engine.score import solved
from az.engine.score.ladder import climb
from az.engine.score.positions import HEADER, SolvedPosition, read_positions, shipped, write_positions
from az.engine.score.ratings import ratings
from az.engine.score.solved import Answer, answers, by_phase, calibration, unlearned
from az.engine.search.params import UNKNOWN, SearchParams
from az.engine.search.prove import make_prover, prove_position

CONNECT4, TICTACTOE = load_game("connect4"), load_game("tictactoe")


def test_positions_are_read_as_they_were_written(tmp_path: Path):
    made = [
        SolvedPosition("begin", CONNECT4.parse_position("44"), 1, {3: 5.0, 0: -2.0}),
        SolvedPosition("end", CONNECT4.parse_position("1212"), None, {}),
    ]
    write_positions(tmp_path / "p.csv", CONNECT4, made)
    found = read_positions(tmp_path / "p.csv", CONNECT4)
    assert [(one.phase, one.value, one.scores) for one in found] == [(o.phase, o.value, o.scores) for o in made]
    assert all(np.array_equal(a.state, b.state) for a, b in zip(found, made, strict=True))


def test_the_value_is_judged_where_positions_were_not_chosen_by_their_moves():
    state = CONNECT4.new_state()
    chosen, free = SolvedPosition("begin", state, 1, {3: 4.0, 2: 0.0}), SolvedPosition("begin", state, -1, {})
    given = [Answer(3, -1.0), Answer(3, -0.5)]
    found = by_phase([chosen, free], given)["all"]
    assert (found.thrown.count, found.thrown.of) == (0, 1)
    assert (found.value_wrong.count, found.value_wrong.of) == (0, 1)
    assert found.value_error == pytest.approx(0.25)
    assert by_phase([chosen], given[:1])["all"].value_error == pytest.approx(4.0)
    assert [(one.count, one.true) for one in calibration([chosen, free], given)] == [(1, -1.0)]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("begin;44;1", "3 fields"),
        ("begin;48;1;1:0", "48"),
        ("begin;1212121;1;1:0", "the game is over"),
        ("begin;44;2;1:0", "the value is '2'"),
        ("begin;44;1;9:0", "'9' is not a legal move"),
        ("begin;44;1;1:x", "'x' is not the score"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, told: str):
    (tmp_path / "p.csv").write_text(f"{HEADER}\n{line}\n")
    with pytest.raises(Refused, match="line 2") as refused:
        read_positions(tmp_path / "p.csv", CONNECT4)
    assert told in str(refused.value)


def test_figures_by_phase():
    state = CONNECT4.new_state()
    positions = [
        SolvedPosition("begin", state, 1, {3: 4.0, 2: 0.0, 0: -3.0}),
        SolvedPosition("begin", state, 1, {3: 4.0, 2: 0.0}),
        SolvedPosition("end", state, 0, {3: 0.0, 2: -1.0}),
        SolvedPosition("end", state, None, {}),
    ]
    given = [Answer(3, 0.9), Answer(2, -0.9), Answer(3, 0.5), Answer(5, 0.0)]
    found = by_phase(positions, given)
    counts = {name: (part.thrown.count, part.thrown.of, part.value_wrong.count) for name, part in found.items()}
    assert counts == {"begin": (1, 2, 1), "end": (0, 1, 0), "all": (1, 3, 1)}
    assert found["end"].value_error == pytest.approx(0.25)
    assert [(part.count, part.true) for part in calibration(positions, given)] == [(1, 1.0), (1, 0.0), (1, 1.0)]


def test_unlearning_is_a_sign_test_on_what_changed():
    right, wrong = [True] * 30, [True] * 20 + [False] * 10
    assert unlearned(right, wrong) == pytest.approx(2**-10)
    assert unlearned(wrong, right) == unlearned(right, right) == 1.0
    assert unlearned([True, False] * 5, [False, True] * 5) == 1.0


def test_ratings_of_two_players_are_the_logistic_ones():
    found = ratings(["a", "b"], {(1, 0): (75.0, 100)})
    share = 75.5 / 101
    assert found[0].elo == 0.0
    assert found[1].elo == pytest.approx(400 * math.log10(share / (1 - share)))
    assert found[1].low < found[1].elo < found[1].high
    assert found[1].high - found[1].elo == pytest.approx(
        400 / math.log(10) * 1.96 / math.sqrt(101 * share * (1 - share)), 1e-3
    )


def test_ratings_join_players_who_never_met():
    found = ratings(["a", "b", "c"], {(1, 0): (75.0, 100), (2, 1): (75.0, 100)})
    assert found[2].elo == pytest.approx(2 * found[1].elo)
    assert found[2].high - found[2].low > found[1].high - found[1].low
    finite = ratings(["a", "b"], {(1, 0): (50.0, 50)})
    assert 400 < finite[1].elo < 1200


def test_a_ladder_puts_a_perfect_player_above_random():
    rungs = [make_player("random", TICTACTOE), make_player("minimax:9", TICTACTOE)]
    found = climb(rungs, [make_player("rollouts:200", TICTACTOE)], 20, 1, lambda *_: None)
    assert [one.name for one in found.ratings] == ["random", "minimax:9", "rollouts:200"]
    assert found.ratings[1].low > 0
    assert found.ratings[2].elo > 0
    assert [(match.a, match.b) for match in found.matches] == [
        ("random", "minimax:9"), ("rollouts:200", "random"), ("rollouts:200", "minimax:9"),
    ]  # fmt: skip


PHASES = {
    "connect4": ("begin", "middle", "end"),
    "othello6": ("20-empty", "16-empty", "12-empty"),
    "othello": ("18-empty", "14-empty", "10-empty"),
    "checkers": ("wins", "4-pieces", "3-pieces"),
}


@pytest.mark.parametrize("name", PHASES)
def test_what_ships_is_solved_in_every_phase(name: str):
    game = load_game(name)
    positions = shipped(game)
    assert tuple(dict.fromkeys(one.phase for one in positions)) == PHASES[name]
    judged = [one for one in positions if one.scores]
    assert 300 <= len(judged) <= 600
    assert len({game.position_text(one.state) for one in judged}) == len(judged)
    assert all(one.value is not None for one in positions)
    for one in judged:
        legal = set(map(int, np.flatnonzero(game.mask(one.state))))
        assert set(one.scores) == legal or (one.phase == "wins" and set(one.scores) < legal)
        assert one.value == np.sign(one.best) >= 0, "lost"
        assert np.sign(min(one.scores.values())) < one.value, "no move gives the result away"
    given = answers(game, UniformEvaluator(game), positions[::20], SearchParams(simulations=8))
    assert len(given) == len(positions[::20])


@pytest.mark.parametrize(("name", "step", "fewest"), [("othello6", 6, 20), ("othello", 6, 10), ("checkers", 1, 3)])
def test_what_ships_is_what_the_exact_search_of_az_proves(name: str, step: int, fewest: int):
    game, known = load_game(name), 0
    prover = make_prover(game)
    for one in [one for one in shipped(game) if one.phase not in ("3-pieces", "4-pieces")][::step]:
        value = prove_position[game.dtype](prover, one.state.copy(), 20_000, game.apply, game.legal, game.outcome)
        if value == UNKNOWN:
            continue
        known += 1
        assert value == one.value
        for action, score in one.scores.items():
            unequal = one.phase == "wins" and score == 0  # such a move does not win, that is all
            assert prover.result[action] in ((UNKNOWN, DRAW, LOSS) if unequal else (UNKNOWN, np.sign(score)))
    assert known >= fewest


def oracle_states(game: Game) -> list[State]:
    """The positions of the oracles; those of Othello on 6 by 6 squares after the passes that the file may leave out."""
    found: list[State] = []
    for path in sorted((ROOT / "tests" / "oracles").glob(f"{game.name}_*.csv")):
        for row in csv.DictReader(path.read_text("utf-8").splitlines(), delimiter=";"):
            if game.name != "othello6":
                keys = ("moves", "fen", "board_X_black_O_white_then_side")
                found.append(game.parse_position(next(row[key] for key in keys if key in row)))
                continue
            state = game.new_state()
            for move in row["moves"].replace("pass", "").split():
                state = game.play(state, game.parse_move(state, move))
                while list(moves := game.moves(state)) == ["pass"]:
                    state = game.play(state, moves["pass"])
            found.append(state)
    return found


@pytest.mark.parametrize("name", ["othello6", "othello", "checkers"])
def test_what_ships_is_none_of_the_oracles(name: str):
    game = load_game(name)
    oracles = {game.position_text(state) for state in oracle_states(game)}
    assert len(oracles) > 100
    assert not oracles & {game.position_text(one.state) for one in shipped(game)}


def test_the_command_measures_a_model(tmp_path: Path):
    done = run_az(tmp_path, "score", "tictactoe", "--sims", "0,16", "--games", 4, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["game"] == "tictactoe"
    assert found["ladder"]["ratings"][0]["name"] == "random"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["connect4", "--sims", "x"], "--sims"),
        (["connect4", "--sims", "0,-4"], "--sims"),
        (["connect4", "--games", "-1"], "--games"),
        (["nowhere"], "nowhere"),
        (["connect4", "--positions", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_wrong_requests_are_one_sentence(tmp_path: Path, words: list[str], told: str):
    done = run_az(tmp_path, "score", *words)
    assert done.returncode in (1, 2)
    assert len(done.stderr.strip().splitlines()) == 1
    assert told in done.stderr


def test_many_simulations_are_told_of_more_often(monkeypatch: pytest.MonkeyPatch):
    game = CONNECT4
    known, params = shipped(game)[:10], SearchParams(simulations=8)
    whole, told = answers(game, UniformEvaluator(game), known, params), list[int]()
    monkeypatch.setattr(solved, "SIMULATIONS", 4 * params.simulations)
    assert answers(game, UniformEvaluator(game), known, params, told.append) == whole
    assert told == [4, 8, 10]
