"""The scoreboard: solved positions, ratings, calibration, and the command."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from run_tools import run_az

from az.engine.errors import Refused
from az.engine.game import load_game
from az.engine.inference.evaluator import UniformEvaluator
from az.engine.players import make_player
from az.engine.score.ladder import climb
from az.engine.score.positions import HEADER, SolvedPosition, read_positions, shipped, write_positions
from az.engine.score.ratings import ratings
from az.engine.score.solved import Answer, answers, by_phase, calibration, unlearned
from az.engine.search.params import SearchParams

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


def test_what_ships_is_solved_in_every_phase():
    positions = shipped(CONNECT4)
    assert {one.phase for one in positions} == {"begin", "middle", "end"}
    assert len(positions) >= 300
    given = answers(CONNECT4, UniformEvaluator(CONNECT4), positions[::20], SearchParams(simulations=8))
    assert len(given) == len(positions[::20])


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
