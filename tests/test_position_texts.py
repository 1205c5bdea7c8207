"""Positions and moves as people and other programs write them: PDN FEN with ranges, finished games, near misses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from az.engine.errors import WrongRequest
from az.engine.game import ONGOING, game_names, load_game

CHECKERS = load_game("checkers")

RANGES = [  # PDN 3.0, fen.rst: NumericSquareRange is KING? NUMSQUARE (HYPHEN NUMSQUARE)?; the same squares written out
    ("B:W21-32:B1-12", "B:W21,22,23,24,25,26,27,28,29,30,31,32:B1,2,3,4,5,6,7,8,9,10,11,12"),
    ("B:W21-32:B1-12.", "B:W21,22,23,24,25,26,27,28,29,30,31,32:B1,2,3,4,5,6,7,8,9,10,11,12"),
    ("W:W9,21-23,K30:B1-3,K19", "W:W9,21,22,23,K30:B1,2,3,K19"),
    ("W:WK5-7,30:B20", "W:WK5,K6,K7,30:B20"),
    ("W:W09-09,K30:B01,02", "W:W9,K30:B1,2"),
    ("W:B1-2:W9,K30", "W:W9,K30:B1,2"),
    ("W:W30:B", "W:W30:B"),
]
NO_RANGES = {
    "W:W12-9:B1": "'12-9' is not a range of squares from 1 to 32, the lower first",
    "W:W30-33:B1": "'30-33' is not a range",
    "W:W0-3:B20": "'0-3' is not a range",
    "W:W9-12,11:B1": "two pieces stand on square 11",
    "W:W9:B5-9": "two pieces stand on square 9",
    "W:W1-5:B20": "the man on square 1 stands on the last row: write K1",
    "W:W9:B28-30": "the man on square 29 stands on the last row: write K29",
    "W:W9-:B1": "'9-' is not a square",
    "W:W-9:B1": "'-9' is not a square",
    "W:W9-10-11:B1": "'9-10-11' is not a square",
    "W:WK5-K7:B20": "'K5-K7' is not a square",
    "W:WKK5:B20": "'KK5' is not a square",
    "W:W٣:B20": "'٣' is not a square",
    "W:W5-17:B20": "W has 13 pieces, 12 are the most",
}


@pytest.mark.nojit
@pytest.mark.parametrize(("ranges", "squares"), RANGES)
def test_checkers_positions_may_have_ranges(ranges, squares):
    read = CHECKERS.parse_position(ranges)
    assert np.array_equal(read, CHECKERS.parse_position(squares))
    assert CHECKERS.position_text(read) == squares.removesuffix(".")
    assert np.array_equal(CHECKERS.parse_position(RANGES[0][0]), CHECKERS.new_state())


@pytest.mark.nojit
@pytest.mark.parametrize("text", NO_RANGES)
def test_checkers_ranges_that_are_wrong_are_refused(text):
    with pytest.raises(WrongRequest) as caught:
        CHECKERS.parse_position(text)
    assert NO_RANGES[text] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.nojit
@pytest.mark.parametrize(("name", "text", "number"), [("connect4", "12121213", 8), ("tictactoe", "142536", 6)])
def test_a_move_after_a_win_is_told_that_the_game_is_over(name, text, number):
    with pytest.raises(WrongRequest, match=f"move {number} .* because the game is over; write"):
        load_game(name).parse_position(text)


@pytest.mark.nojit
@pytest.mark.parametrize(
    ("name", "typed", "meant"),
    [("checkers", "09-13", "9-13"), ("checkers", "1115", "11-15"), ("othello", "c5", "c4|f5")],
)
def test_a_move_that_is_nearly_right_is_guessed(name, typed, meant):
    game = load_game(name)
    with pytest.raises(WrongRequest, match=rf"legal: .*\. Did you mean ({meant})\?$"):
        game.parse_move(game.new_state(), typed)
    with pytest.raises(WrongRequest, match=r"legal: .*\.$"):
        game.parse_move(game.new_state(), "resignation" * 100_000)


@pytest.mark.nojit
def test_of_many_legal_moves_a_few_are_listed():
    game = load_game("hex")
    with pytest.raises(WrongRequest, match=r"legal: a1 b1 c1 … k11 \(121 moves\)\. Did you mean \w\d+\?$"):
        game.parse_move(game.new_state(), "f12")


PIECES = st.sampled_from(
    [*"WBK:,-.XO xo/", "12", "1-3", "K30", "W:W", ":B", "\n", "\x1b[2J", "\u202e", "٣", "9" * 5000]
)
TEXTS = st.lists(PIECES | st.text(max_size=3) | st.integers(0, 40).map(str), max_size=40).map("".join)


def one_sentence(error):
    text = str(error.value)
    return text.isprintable() and text[-1] in ".?" and len(text) < 1000


@pytest.mark.nojit
@pytest.mark.parametrize("name", game_names())
@settings(max_examples=20, deadline=None, derandomize=True)
@given(choices=st.lists(st.integers(0, 10**6), max_size=60), text=TEXTS, place=st.integers(0, 80))
def test_any_text_is_a_position_that_comes_back_or_one_sentence(name, choices, text, place):
    """Positions of drawn games come back, and so do those that a drawn text, or one put into such a position, says."""
    game = load_game(name)
    state = game.new_state()
    for choice in choices:
        if game.outcome(state) != ONGOING:
            break
        legal = list(game.moves(state).values())
        state = game.play(state, legal[choice % len(legal)])
    written = game.position_text(state)
    again = game.parse_position(written)
    assert game.position_text(again) == written
    assert game.moves(again).keys() == game.moves(state).keys()
    for typed in (text, written[:place] + text + written[place:], written[:place] + written[place + 1 :]):
        try:
            read = game.parse_position(typed)
        except WrongRequest:
            with pytest.raises(WrongRequest) as caught:
                game.parse_position(typed)
            assert one_sentence(caught)
        else:
            assert np.array_equal(game.parse_position(game.position_text(read)), read)
        if game.outcome(state) == ONGOING and typed.strip().lower() not in game.moves(state):
            with pytest.raises(WrongRequest) as caught:
                game.parse_move(state, f"?{typed}")
            assert one_sentence(caught)
