"""Games of very large texts: what cannot be read is refused after a bounded part, and games are loaded once."""

from __future__ import annotations

import pytest

from az.engine.errors import WrongRequest
from az.engine.game import load_game
from az.engine.notation import game_text, read_games, write_games
from az.engine.notation.game_text import MOST_TEXT, MOST_WORDS
from az.engine.notation.pdn_tokens import tokens_of


def up_to(piece: str, size: int = MOST_TEXT) -> str:
    return piece * (size // len(piece))


@pytest.mark.parametrize("piece", ["( ", "$1 ", "1. ", "; a\n", '[Event "x"]\n', "11-15 ", "24 "])
def test_a_game_of_millions_of_words_is_refused(piece: str):
    with pytest.raises(WrongRequest, match=f"the game has more than {MOST_WORDS} words"):
        read_games(up_to(piece), load_game("checkers"), "pdn")


@pytest.mark.parametrize(
    ("piece", "says"),
    [
        ("1-0 ", "more than 100000 results without a game"),
        ("x", "too long for a move"),
        ("11-", "too long|not a legal move"),
        ("{", "has no '}'"),
        ("(;GM[Othello]", "breaks off"),
        ('[Event "x" ', "belongs to no header"),
    ],
)
def test_other_large_texts_are_refused_in_a_sentence(piece: str, says: str):
    with pytest.raises(WrongRequest, match=says):
        read_games(
            "1. 11-15 *\n" * (piece == "1-0 ") + up_to(piece, MOST_TEXT - 20),
            None,
            "ggf" if piece[1:2] == ";" else "pdn",
        )


def test_the_first_wrong_game_is_told_before_the_rest_is_looked_at():
    with pytest.raises(WrongRequest, match="line 1, move 1: '1-32'"):
        read_games("1. 1-32 *\n\n{ a comment without its end", load_game("checkers"))
    tokens = tokens_of("1. 11-15 {")
    assert [next(tokens).text, next(tokens).text] == ["1.", "11-15"]


@pytest.mark.parametrize(
    ("form", "piece"), [("pdn", '[Event "x"]\n\n1. 11-15 *\n\n'), ("ggf", "(;GM[Othello]TY[8]B[d3];)\n")]
)
def test_a_game_is_loaded_once_for_a_whole_text(monkeypatch, form: str, piece: str):
    asked = list[str]()
    monkeypatch.setattr(game_text, "load_game", lambda name: asked.append(name) or load_game(name))
    games = read_games(piece * 50, None, form)
    assert (len(games), len(asked)) == (50, 1)
    again = write_games(games, form)
    assert len(asked) == 2
    assert read_games(again) == games
