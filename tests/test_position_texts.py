"""Positions and moves as people and other programs write them: PDN FEN with ranges, finished games, near misses."""

from __future__ import annotations

import numpy as np
import pytest

from az.engine.errors import WrongRequest
from az.engine.game import load_game

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
