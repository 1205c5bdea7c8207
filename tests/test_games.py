"""Rules and texts of each game, against known positions and the oracles' lists of legal moves."""

from __future__ import annotations

import csv
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import az.engine.games
from az.engine.errors import Refused, WrongRequest
from az.engine.game import DRAW, LOSS, ONGOING, WIN, game_names, load_game

ORACLES = Path(__file__).resolve().parent / "oracles"
CONNECT4, CHECKERS = load_game("connect4"), load_game("checkers")
OTHELLO, OTHELLO6 = load_game("othello"), load_game("othello6")


def rows(name):
    return list(csv.DictReader((ORACLES / name).read_text(encoding="utf-8").splitlines(), delimiter=";"))


def play(game, state, *texts):
    for text in texts:
        state = game.play(state, game.parse_move(state, text))
    return state


def scored_moves(row):
    return {score.split(":")[0] for score in row["scores"].split()}


@pytest.mark.nojit
@pytest.mark.parametrize("name", game_names())
def test_wrong_move_lists_the_legal_ones(name):
    game = load_game(name)
    with pytest.raises(WrongRequest, match="legal: "):
        game.parse_move(game.new_state(), "nonsense")


# connect four


@pytest.mark.nojit
@pytest.mark.parametrize(
    ("played", "outcome"),
    [("", ONGOING), ("1122334", LOSS), ("121212", ONGOING), ("1212121", LOSS), ("12233434414", LOSS)],
)
def test_connect4_outcomes(played, outcome):
    assert CONNECT4.outcome(CONNECT4.parse_position(played)) == outcome


@pytest.mark.nojit
def test_connect4_lines_do_not_run_round_the_edge():
    """Four stones at equal distances, wherever and whatever the distance."""
    for distance in range(1, 17):
        for first in range(49 - 3 * distance):
            bits = range(first, first + 4 * distance, distance)
            if all(bit % 7 < 6 for bit in bits):
                state = CONNECT4.new_state()
                state[0], state[1] = 1, sum(1 << bit for bit in bits)
                assert (CONNECT4.outcome(state) == LOSS) == has_four(CONNECT4.planes(state)[1])


@pytest.mark.nojit
def test_connect4_full_board_is_a_draw():
    """The outcome of every full or won board agrees with lines counted square by square."""
    for seed in range(20):
        state, rng = CONNECT4.new_state(), random.Random(seed)
        while moves := CONNECT4.moves(state):
            state = CONNECT4.play(state, moves[rng.choice(sorted(moves))])
        won = has_four(CONNECT4.planes(state)[1])
        assert not has_four(CONNECT4.planes(state)[0])
        assert CONNECT4.outcome(state) == (LOSS if won else DRAW)
        assert won or state[3] == 42
    draw = CONNECT4.parse_position("441365675334466335442232661515577771217122")
    assert CONNECT4.outcome(draw) == DRAW


def has_four(plane):
    for row in range(6):
        for column in range(7):
            for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
                line = [(row + i * down, column + i * right) for i in range(4)]
                if all(0 <= r < 6 and 0 <= c < 7 and plane[r, c] for r, c in line):
                    return True
    return False


@pytest.mark.nojit
def test_connect4_text():
    state = CONNECT4.parse_position(" 4453 ")
    assert CONNECT4.position_text(state) == "4453"
    assert CONNECT4.render(state).splitlines()[-3:] == [". . . O . . .", ". . O X X . .", "1 2 3 4 5 6 7"]
    assert CONNECT4.planes(state)[0, 5].tolist() == [0, 0, 0, 1, 1, 0, 0]
    with pytest.raises(WrongRequest, match="move 7 "):
        CONNECT4.parse_position("1111111")


def test_connect4_oracle_moves():
    for row in rows("connect4_scored.csv"):
        assert set(CONNECT4.moves(CONNECT4.parse_position(row["moves"]))) == scored_moves(row)


# othello


def test_othello_oracle_moves():
    for row in rows("othello_scored.csv"):
        text = row["board_X_black_O_white_then_side"]
        state = OTHELLO.parse_position(text)
        assert set(OTHELLO.moves(state)) == scored_moves(row)
        assert OTHELLO.position_text(state) == text
    for row in rows("othello6_scored.csv"):
        state = play(OTHELLO6, OTHELLO6.new_state(), *row["moves"].split())
        assert set(OTHELLO6.moves(state)) == scored_moves(row)


@pytest.mark.nojit
def test_othello_start():
    state = OTHELLO.new_state()
    assert OTHELLO.position_text(state) == "-" * 27 + "OX" + "-" * 6 + "XO" + "-" * 27 + " X"
    assert set(OTHELLO.moves(state)) == {"d3", "c4", "f5", "e6"}
    assert OTHELLO6.position_text(OTHELLO6.new_state()) == "-" * 14 + "OX" + "-" * 4 + "XO" + "-" * 14 + " X"


@pytest.mark.nojit
def test_othello_turns_discs_in_every_direction_at_once_and_not_round_the_edge():
    state = OTHELLO6.parse_position("X-X-X- -OOO-- XO-OX- -OOO-- X-X-X- ------ X".replace(" ", "", 5))
    after = play(OTHELLO6, state, "c3")
    assert OTHELLO6.position_text(after) == "X-X-X- -XXX-- XXXXX- -XXX-- X-X-X- ------ O".replace(" ", "", 5)
    for game, n in ((OTHELLO, 8), (OTHELLO6, 6)):
        edge = "O" * (n - 1) + "-"  # White along the top row, Black at the start of the second: no line joins them
        state = game.parse_position(edge + "X" + "-" * (n * n - n - 1) + " X")
        assert set(game.moves(state)) <= {"pass"}


@pytest.mark.nojit
def test_othello_pass_and_end():
    blank = "-" * 30
    to_pass = OTHELLO6.parse_position("XXO--- ".strip() + blank + " O")
    assert set(OTHELLO6.moves(to_pass)) == {"pass"}
    assert OTHELLO6.outcome(to_pass) == ONGOING
    after = play(OTHELLO6, to_pass, "PASS")
    assert set(OTHELLO6.moves(after)) == {"d1"}
    for side, text in ((WIN, " O"), (LOSS, " X")):
        assert OTHELLO6.outcome(OTHELLO6.parse_position("OO-X--" + blank + text)) == side
    assert OTHELLO6.outcome(OTHELLO6.parse_position("OO-XX-" + blank + " X")) == DRAW


@pytest.mark.nojit
def test_othello_against_a_slow_reading_of_the_rules():
    for game, n, seed in ((OTHELLO, 8, 1), (OTHELLO6, 6, 2), (OTHELLO6, 6, 3)):
        state, rng = game.new_state(), random.Random(seed)
        while moves := game.moves(state):
            assert moves == slow_moves(game.planes(state), n) or set(moves) == {"pass"}
            own, other = game.planes(state).sum(axis=(1, 2))
            state = game.play(state, moves[rng.choice(sorted(moves))])
        own, other = game.planes(state).sum(axis=(1, 2))
        assert game.outcome(state) == np.sign(own - other)


def slow_moves(planes, n):
    own, other = planes
    found = {}
    for row, column in np.ndindex(n, n):
        if own[row, column] or other[row, column]:
            continue
        for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)):
            r, c, crossed = row + down, column + right, 0
            while 0 <= r < n and 0 <= c < n and other[r, c]:
                r, c, crossed = r + down, c + right, crossed + 1
            if crossed and 0 <= r < n and 0 <= c < n and own[r, c]:
                found["abcdefgh"[column] + str(row + 1)] = (n * row + column,)
    return found


@pytest.mark.nojit
@pytest.mark.parametrize("text", ["", "X", "-" * 64, "-" * 64 + " Q", "-" * 63 + "? X", "-" * 36 + " X"])
def test_othello_wrong_position(text):
    with pytest.raises(WrongRequest, match="row by row"):
        OTHELLO.parse_position(text)


# checkers


def test_checkers_oracle_moves():
    for row in rows("checkers_4pieces.csv"):
        moves = CHECKERS.moves(CHECKERS.parse_position(row["fen"]))
        assert len(moves) == int(row["legal_moves"]), row
        assert any("x" in text for text in moves) == bool(int(row["capture_pending"])), row
    for row in rows("checkers_wins.csv"):
        state = CHECKERS.parse_position(row["fen"])
        assert len(CHECKERS.moves(state)) == int(row["legal_moves"]), row
        for text in (row["winning_moves"] + " " + (row["undecided_moves"] or "")).split():
            CHECKERS.parse_move(state, text)


@pytest.mark.nojit
def test_checkers_texts():
    state = CHECKERS.new_state()
    assert CHECKERS.position_text(state).startswith("B:W21,22,23")
    assert set(CHECKERS.moves(state)) == {"9-13", "9-14", "10-14", "10-15", "11-15", "11-16", "12-16"}
    state = play(CHECKERS, state, "11-15", "22 - 18", "15X22", "25-18")
    assert state[0] == 0
    for text in ("B:W18,24,K30:B1,K5", "W:WK1:B2", "B:W:B4", "W:W32:BK29"):
        assert CHECKERS.position_text(CHECKERS.parse_position(text)) == text
    assert CHECKERS.position_text(CHECKERS.parse_position(" b:b1 , k5:w18,24,k30 .")) == "B:W18,24,K30:B1,K5"


@pytest.mark.nojit
@pytest.mark.parametrize(
    ("text", "culprit"),
    [
        ("", "side to move"),
        ("B:W1", "side to move"),
        ("R:W18:B1", "side to move"),
        ("B:W18:W1", "side to move"),
        ("B:W33:B1", "'33'"),
        ("B:W0:B1", "'0'"),
        ("B:WQ3:B1", "'Q3'"),
        ("B:W18,,19:B1", "''"),
        ("B:W18:B18", "square 18"),
        ("B:W18,K18:B1", "square 18"),
        ("B:W4:B1", "square 4"),
        ("B:W18:B29", "square 29"),
        ("B:W32:B1,2,3,4,5,6,7,8,9,10,11,12,13", "13 pieces"),
    ],
)
def test_checkers_wrong_position(text, culprit):
    with pytest.raises(WrongRequest) as caught:
        CHECKERS.parse_position(text)
    assert culprit in str(caught.value)
    assert "B:W18,24,K30:B1,K5" in str(caught.value)


@pytest.mark.nojit
def test_checkers_multiple_jump_is_one_move_of_hops():
    state = CHECKERS.parse_position("B:W6,14,K32:B1,K12")
    (text,) = CHECKERS.moves(state)
    hops = CHECKERS.parse_move(state, "1X10x17")
    assert text == "1x10x17"
    assert hops == CHECKERS.parse_move(state, "1-17")
    CHECKERS.apply(state, hops[0])
    assert state[0] == 0
    assert CHECKERS.mask(state).sum() == 1
    assert set(CHECKERS.moves(state)) == {"10x17"}
    board = CHECKERS.planes(state)[0]
    assert sorted(set(board.ravel().tolist())) == [-1, -0.5, 0, 0.25, 1]
    assert board[(31 - 9) % 4, (31 - 9) // 4] == 0.25
    CHECKERS.apply(state, hops[1])
    assert state[0] == 1


@pytest.mark.nojit
def test_checkers_king_in_the_middle_of_a_jump_has_its_own_value():
    state = CHECKERS.parse_position("W:WK1:B6,14")
    CHECKERS.apply(state, CHECKERS.parse_move(state, "1x17")[0])
    assert CHECKERS.planes(state)[0].max() == 0.75


@pytest.mark.nojit
def test_checkers_crowning_ends_the_move():
    state = CHECKERS.parse_position("B:W26,27:B22")
    assert set(CHECKERS.moves(state)) == {"22x31"}
    after = play(CHECKERS, state, "22x31")
    assert after[0] == 1
    assert CHECKERS.position_text(after) == "W:W27:BK31"


@pytest.mark.nojit
def test_checkers_circuit_both_ways_and_ambiguous_text():
    state = CHECKERS.parse_position("W:WK1:B6,7,14,15")
    circuits = {text for text in CHECKERS.moves(state) if text.startswith("1x") and text.endswith("x1")}
    assert circuits == set()
    state = CHECKERS.parse_position("W:WK2:B6,7,14,15")
    assert set(CHECKERS.moves(state)) == {"2x9x18x11x2", "2x11x18x9x2"}
    with pytest.raises(WrongRequest, match="fits several moves"):
        CHECKERS.parse_move(state, "2x2")
    after = play(CHECKERS, state, "2x9x18x11x2")
    assert CHECKERS.position_text(after) == "B:WK2:B"
    assert CHECKERS.outcome(after) == LOSS


@pytest.mark.nojit
def test_checkers_third_occurrence_draws():
    state = CHECKERS.parse_position("B:WK32:BK1")
    for number, text in enumerate(["1-5", "32-28", "5-1", "28-32"] * 2, 1):
        assert CHECKERS.outcome(state) == ONGOING
        state = play(CHECKERS, state, text)
        assert CHECKERS.planes(state)[2, 0, 0] == pytest.approx((1 + number // 4) / 3)
        assert CHECKERS.planes(state)[1, 0, 0] == pytest.approx(number / 80)
    assert CHECKERS.outcome(state) == DRAW
    assert not CHECKERS.mask(state).any()


@pytest.mark.nojit
def test_checkers_counter_and_occurrences_against_a_slow_reading():
    for seed, start in enumerate(["B:WK1,K3:BK30,K8", "W:WK10,20:BK30,4", "B:WK1,K5:BK2", "W:WK1,K32,K5:BK29,K4,K8"]):
        state, rng, counter = CHECKERS.parse_position(start), random.Random(seed), 0
        seen = [state[:4].tolist()]
        while CHECKERS.outcome(state) == ONGOING:
            choices = []
            for text, hops in CHECKERS.moves(state).items():
                after = CHECKERS.play(state, hops)
                steps = "-" in text and int(state[3]) >> int(text.split("-")[0]) - 1 & 1
                choices.append((after[:4].tolist() in seen, rng.random(), bool(steps), after))
            _, _, steps, state = min(
                choices[:8], key=lambda choice: choice[:2]
            )  # somewhere new, if there is such a move
            counter = counter + 1 if steps else 0
            seen = [*seen, state[:4].tolist()] if steps else [state[:4].tolist()]
            assert (state[5], state[6]) == (counter, seen.count(state[:4].tolist()))
        if CHECKERS.moves(CHECKERS.parse_position(CHECKERS.position_text(state))):
            assert CHECKERS.outcome(state) == DRAW
            assert counter == 80 or seen.count(state[:4].tolist()) == 3


@pytest.mark.nojit
def test_checkers_no_move_loses_even_where_the_game_would_be_drawn():
    state = CHECKERS.parse_position("B:W9,14:B5")
    state[5] = 80
    assert CHECKERS.outcome(state) == LOSS


@pytest.mark.nojit
def test_checkers_both_sides_see_their_men_below_moving_up():
    state = CHECKERS.new_state()
    black = CHECKERS.planes(state)
    mask = CHECKERS.mask(state)
    state[0] = 1
    assert np.array_equal(CHECKERS.planes(state), black)
    assert np.array_equal(CHECKERS.mask(state), mask)
    assert black[0, 0].tolist() == [-0.5] * 3 + [0, 0] + [0.5] * 3
    assert {int(action) // 32 for action in np.flatnonzero(mask)} == {0, 1}


RULES_OF_BOTH = """
from az.engine.game import load_game
print([len(load_game(name).moves(load_game(name).new_state())) for name in ("{}", "{}")], load_game("othello").mask(
    load_game("othello").new_state()).size)
"""


@pytest.mark.slow
def test_sizes_of_othello_are_not_confused_by_a_warm_cache():
    """The two games share their source lines: fresh processes, either one first."""
    for order in (("othello", "othello6"), ("othello6", "othello")):
        run = subprocess.run(
            [sys.executable, "-c", RULES_OF_BOTH.format(*order)], capture_output=True, text=True, check=True
        )
        assert run.stdout.strip() == "[4, 4] 65"


@pytest.mark.parametrize("text", ["def broken(:\n", "X = 1\n", "1 / 0\n"])
def test_a_broken_game_file_is_named(monkeypatch, tmp_path, text):
    (tmp_path / "unfinished.py").write_text(text)
    monkeypatch.setattr(az.engine.games, "__path__", [*az.engine.games.__path__, str(tmp_path)])
    monkeypatch.setattr("az.engine.game.game_names", lambda: ["unfinished"])
    with pytest.raises(Refused, match=r"'unfinished' cannot be loaded from engine/games/unfinished\.py"):
        load_game("unfinished")
