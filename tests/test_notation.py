"""Games as text: PDN, GGF, strings of columns, saved games and lists of moves, read and written back equal."""

from __future__ import annotations

import random
import re
from contextlib import suppress

import pytest

from az.engine.errors import AzError, WrongRequest
from az.engine.game import ONGOING, load_game
from az.engine.notation import FORMATS, GameText, Move, format_of, read_game_file, read_games, write_games
from az.engine.notation.game_text import result_of

GAMES = ("checkers", "connect4", "othello", "othello6", "tictactoe")
# Facts: a game of 1841 (Moorhead against Wyllie), which White won; the first game of NBoard's page on its protocol.
OLD_GAME = """[Event "Manchester 1841"]
[Black "Moorhead, W."]
[White "Wyllie, J."]
[Result "0-1"]
1. 11-15 24-20 2. 8-11 28-24 3. 9-13 22-18 4. 15x22 25x18 5. 4-8 26-22 6. 10-14 18x9 7. 5x14 22-18 8. 1-5 18x9 9. 5x14
29-25 10. 11-15 24-19 11. 15x24 25-22 12. 24-28 22-18 13. 6-9 27-24 14. 8-11 24-19 15. 7-10 20-16 16. 11x20 18-15
17. 2-6 15-11 18. 12-16 19x12 19. 10-15 11-8 20. 15-18 21-17 21. 13x22 30-26 22. 18x27 26x17x10x1 0-1
"""
NBOARD = (
    "(;GM[Othello]PC[NBoard]PB[a]PW[b]RE[?]TI[15:00]TY[8]BO[8 ---------------------------O*------*O"
    "--------------------------- *]B[F5]W[F6/0.5/1.25]B[D3//3]W[C5]B[E6]W[F7]B[E7]W[F4];)"
)


def random_game(name: str, seed: int, most: int = 40, beside: bool = True) -> GameText:
    """Random moves from the start, with comments, marks, clocks and variations where `beside`."""
    draw, rules = random.Random(seed), load_game(name)
    game = GameText(name, headers={"Event": 'A "quoted" \\ name', "Round": f"{seed}"} if beside else {})
    if beside and draw.random() < 0.5:
        game.comments = ["before the first move"]
    line, state = random_line(rules, rules.new_state(), draw, most, 2 if beside else -1)
    game.moves, game.result = line, result_of(rules, state)
    if game.result == "*" and beside:
        game.result = draw.choice(["1-0", "0-1", "1/2-1/2", "*"])
    return game


def random_line(rules, state, draw, most, deep):
    line = list[Move]()
    while rules.outcome(state) == ONGOING and len(line) < most:
        text, actions = draw.choice(list(rules.moves(state).items()))
        move = Move(text, actions)
        if deep >= 0 and draw.random() < 0.3:
            move.comments = draw.choice([["good"], ["one", "two } and {"], []])
            move.nags = draw.choice([[], [1], [6, 14]])
            move.clock = draw.choice([None, 3725.0, 0.5, 59.999])
            move.value = draw.choice([None, -0.25, 3.0])
        if deep > 0 and draw.random() < 0.2:
            move.variations = [random_line(rules, state, draw, 4, deep - 1)[0] for _ in range(draw.randint(1, 2))]
            move.variation_comments = [draw.choice(["", "instead"]) for _ in move.variations]
        line.append(move)
        state = rules.play(state, actions)
    return line, state


@pytest.mark.parametrize("name", GAMES)
def test_generated_games_with_all_that_may_stand_beside_a_move_come_back_equal(name):
    games = [random_game(name, seed) for seed in range(8)]
    assert any(move.variations for game in games for move in game.moves)
    text = write_games(games, "pdn")
    assert read_games(text) == games
    assert format_of(text) == "pdn"
    assert max(len(line) for line in text.splitlines()) < 200


@pytest.mark.parametrize("name", GAMES)
@pytest.mark.parametrize("form", [None, "saved", "moves"])
def test_bare_games_come_back_equal_in_every_form(name, form):
    for seed in range(4):
        game = random_game(name, seed, most=300, beside=False)
        assert read_games(write_games([game], form), load_game(name)) == [game]


def test_games_from_other_positions_come_back_equal():
    rules = load_game("checkers")
    draw = random.Random(5)
    for _ in range(5):
        state = random_line(rules, rules.new_state(), draw, 21, -1)[1]
        game = GameText("checkers", start=rules.position_text(state))
        game.moves = random_line(rules, game.start_state(), draw, 20, 1)[0]
        assert read_games(write_games([game])) == [game]


def test_a_game_of_1841():
    game = read_games(OLD_GAME)[0]
    assert (len(game.moves), game.result, game.notes) == (44, "0-1", [])
    assert list(game.headers) == ["Event", "Black", "White"]
    assert game.moves[-1].text == "26x17x10x1"
    assert read_games(write_games([game])) == [game]


SLOPPY = [  # position, text, the moves in full, what the notes say
    (None, "1.11-15 23-19 2.8-11", "11-15 23-19 8-11", ""),
    (None, "1 11-15 23-19 2 8-11", "11-15 23-19 8-11", ""),
    (None, "1115 2319", "11-15 23-19", ""),
    (None, "09-13! 22 - 18?? 1-0", "9-13 22-18", ""),
    (None, "11-15, 23-19", "11-15 23-19", ""),
    (None, "11-15 22-18 15-22", "11-15 22-18 15x22", ""),  # '-' for a capture
    (None, "11-15 22-18 15:22", "11-15 22-18 15x22", ""),
    (None, "1. 11-15 1... 23-19 (1... 22-18 15x22) 2. 8-11*", "11-15 23-19 8-11", ""),
    ("W:W26:B22,14", "26-10", "26x17x10", ""),
    ("W:W26:B22,14", "26x17", "26x17x10", "read as 26x17x10"),
    ("W:W26:B22,14", "26x17 17x10", "26x17x10", "26x17 17x10 read as 26x17x10"),
    ("W:W30:B26,18,10,25,17,9,1", "30x7", "30x21x14x7", "fits 30x21x14x7 and 30x23x14x7"),
    ("W:WK22,32:B17,9,10,18", "22x22", "22x13x6x15x22", ""),  # a circle, either way round: the same position
    (None, '/FEN "W:W26:B22,14"/ 26x10', "26x17x10", ""),
]


@pytest.mark.parametrize(("position", "text", "moves", "note"), SLOPPY, ids=[text for _, text, _, _ in SLOPPY])
def test_sloppy_moves_are_read_and_what_was_guessed_is_said(position, text, moves, note):
    game = read_games((f'[FEN "{position}"]\n' if position else "") + text)[0]
    assert game.texts() == moves.split()
    assert note in game.notes[0] if note else game.notes == [], game.notes
    again = read_games(write_games([game]))[0]
    assert again == game
    assert again.notes == []


def test_the_moves_after_an_ambiguous_one_tell_which_it_was():
    rules = load_game("checkers")
    state = rules.parse_position("W:W30,32:B26,18,10,25,17,9,1")
    for way in ("30x21x14x7", "30x23x14x7"):
        after = rules.play(state, rules.moves(state)[way])
        other = "30x23x14x7" if way == "30x21x14x7" else "30x21x14x7"
        others = rules.moves(rules.play(state, rules.moves(state)[other]))
        reply = next(text for text in rules.moves(after) if text not in others)
        game = read_games(f'[FEN "W:W30,32:B26,18,10,25,17,9,1"]\n30x7 {reply}')[0]
        assert game.texts() == [way, reply]
        assert "fit that one only" in game.notes[0]
        assert game.notes[0].startswith("line 2, '30x7'")


def test_comments_clocks_and_marks_are_found_where_they_belong():
    text = "{first} 1. 11-15! $14 {[%clk 1:02:03.5] good [%eval -0.25]} 23-19 ; to the end\n(1... 22-18?! {or so}) *"
    game = read_games(text)[0]
    move, reply = game.moves
    assert game.comments == ["first"]
    assert (move.nags, move.clock, move.value, move.comments) == ([1, 14], 3723.5, -0.25, ["good"])
    assert reply.comments == ["to the end"]
    assert [(one.text, one.nags, one.comments) for one in reply.variations[0]] == [("22-18", [6], ["or so"])]


def test_many_games_and_their_results():
    text = '11-15 23-19 1-0\n9-13 *\n[Event "x"]\n12-16 0-1 {after}\n[Event "y"]\n[Result "1-1"]\n\n10-14 21-17'
    games = read_games(text)
    assert [game.result for game in games] == ["1-0", "*", "0-1", "1/2-1/2"]
    assert [len(game.moves) for game in games] == [2, 1, 1, 2]


def test_what_is_odd_about_a_game_is_in_its_notes():
    game = read_games('[GameType "20"]\n[Event "a"]\n[Event "b"]\n[Result "1-0"]\n11-15 (9-14 1-2) 0-1')[0]
    assert game.result == "0-1"
    assert game.headers == {"Event": "b"}
    assert len(game.notes) == 4
    assert any("1-2" in note and "variation" in note for note in game.notes)
    assert [move.text for move in game.moves[0].variations[0]] == ["9-14"]


def test_headers_as_people_write_them():
    game = read_games('[Event "The "Big" one"]\n[ White "a\\\\b \\"c\\"" ]\n[Round ""]\n11-15')[0]
    assert game.headers == {"Event": 'The "Big" one', "White": 'a\\b "c"', "Round": ""}
    assert read_games(write_games([game])) == [game]
    with pytest.raises(WrongRequest, match="line 2"):
        read_games('[Event "a"]\n[Site "b]\n[Round "c"]\n11-15')


def test_ggf_as_the_program_nboard_writes_it():
    game = read_games(NBOARD)[0]
    assert (game.game, game.texts()) == ("othello", ["f5", "f6", "d3", "c5", "e6", "f7", "e7", "f4"])
    assert game.headers == {"PC": "NBoard", "PB": "a", "PW": "b", "TI": "15:00"}
    assert (game.moves[1].value, game.moves[1].clock, game.moves[2].value, game.moves[2].clock) == (0.5, 1.25, None, 3)
    text = write_games([game])
    assert format_of(text) == "ggf"
    assert read_games(text) == [game]


@pytest.mark.parametrize("name", ["othello", "othello6"])
def test_whole_games_in_ggf_with_passes_results_and_times(name):
    passes = 0
    for seed in range(6):
        game = random_game(name, seed, 300, beside=False)
        passes += "pass" in game.texts()
        for move in game.moves[::3]:
            move.clock, move.value = 1.5, -2.0
        assert game.result != "*"
        text = write_games([game], "ggf")
        assert read_games(text) == [game]
        implied = re.sub(r"[BW]\[PA[^\]]*\]", "", text)
        read = read_games(implied)[0]
        assert read.texts() == game.texts()
        assert len(read.notes) == game.texts().count("pass")
    assert passes


def test_transcripts_of_othello_without_spaces():
    game = read_games("F5d6C3d3C4", load_game("othello"))[0]
    assert game.texts() == ["f5", "d6", "c3", "d3", "c4"]


def test_strings_of_columns():
    games = read_games("4453\n44455554221 2\n\n")
    assert [(len(game.moves), game.headers) for game in games] == [(4, {}), (11, {"Score": "2"})]
    assert read_games(write_games(games, "columns")) == games
    won = read_games("1212121")[0]
    assert (won.result, read_games(write_games([won], "columns"))) == ("1-0", [won])
    with pytest.raises(WrongRequest, match="line 2, move 7"):
        read_games("44\n1111111")


def test_a_saved_game_with_a_resignation():
    text = "game: tictactoe\ndate: 2026-01-01\nX: person\nstart:\nmoves:\n  1. 5 1\nresult: O resigns: X wins.\n"
    game = read_games(text)[0]
    assert game.texts() == ["5", "1"]
    assert read_games(write_games([game], "saved")) == [game]


@pytest.mark.parametrize("result", ["O (o) resigns: X (x) wins.", "something else", "unfinished", ""])
def test_the_words_of_a_saved_result_come_back_in_every_form(result):
    text = f"game: tictactoe\nX: person\nstart:\nmoves:\n  1. 5 1\nresult: {result}\n"
    game = read_games(text)[0]
    for form in ("saved", "pdn"):
        again = read_games(write_games([game], form))
        assert (again, again[0].notes) == ([game], [])


def test_the_headers_of_pdn_itself_have_one_name_in_any_case():
    game = read_games('[game "connect4"]\n[RESULT "1-0"]\n[Result "0-1"]\n1. 4 4')[0]
    assert (game.game, game.headers, game.result) == ("connect4", {}, "0-1")
    assert "stands twice" in game.notes[0]
    with pytest.raises(WrongRequest, match="cannot be called result"):
        write_games([GameText("connect4", headers={"result": "c"})], "pdn")


@pytest.mark.parametrize("form", ["saved", "moves"])
@pytest.mark.parametrize("beside", [{"clock": 5.0}, {"value": 0.0}])
def test_a_clock_or_a_value_is_never_dropped_in_silence(form, beside):
    with pytest.raises(WrongRequest, match="write"):
        write_games([GameText("connect4", [Move("4", (3,), **beside)])], form)


def test_a_result_does_not_make_a_list_of_moves_a_game_of_checkers():
    with pytest.raises(WrongRequest, match="which game"):
        read_games("1. 4 4 2. 5 5 1-0")
    assert read_games("1. 4 4 2. 5 5 1-0", load_game("connect4"))[0].texts() == list("4455")
    assert read_games("1. 11-15 1-0")[0].game == "checkers"


WRONG = [
    ("11-15 23-19\n8-11 {x", None, "line 2"),
    ("11-15 (23-19", None, "line 1"),
    ("11-15 )", None, "line 1"),
    ("11-15 23-19\n\n2. 11-15", None, "line 3, move 3: '11-15'"),
    ('[Event "a"]\n[FEN "W:W99"]', None, "line 2"),
    ('[GameType "25"]\n11-15', None, "Russian"),
    ('[Game "nosuch"]\n1', None, "nosuch"),
    ('[Game "connect4"]\n4', "othello", "connect4"),
    ("(;GM[Othello]\nB[F5", None, "line 2"),
    ("(;GM[Othello]\nB[A1];)", None, "line 2, B"),
    ("(;GM[Othello]W[F5];)", None, "other player"),
    ("(;GM[Chess];)", None, "Chess"),
    ("(;GM[Othello]BO[10 --- *];)", None, "8x8 or 6x6"),
    ("4448", None, "line 1"),
    ("", None, "nothing to load"),
    ("hello", "connect4", "neither"),
    ("]", "checkers", "line 1"),
]


@pytest.mark.parametrize(("text", "game", "says"), WRONG, ids=[text[:20] for text, _, _ in WRONG])
def test_what_is_wrong_is_one_sentence_with_its_place(text, game, says):
    with pytest.raises(AzError) as caught:
        read_games(text, None if game is None else load_game(game))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith((".", "?"))


def test_random_damage_gives_a_game_or_a_sentence():
    draw = random.Random(9)
    whole = [
        write_games([random_game("checkers", 1)]),
        NBOARD,
        OLD_GAME,
        "44455554221 2\n4453",
        "game: x\nstart:\nmoves:\n",
    ]
    for _ in range(300):
        text = draw.choice(whole)
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(text))
            text = (
                text[:at]
                + draw.choice(["", "(", ")", "{", "}", "[", "]", '"', "\0", "1-0", "$", ";", "é"])
                + text[at + 1 :]
            )
        with suppress(AzError):
            assert read_games(text, form=draw.choice([None, None, *FORMATS]))


def test_files(tmp_path):
    path = tmp_path / "game.pdn"
    path.write_bytes('[White "Müller"]\n11-15'.encode("latin-1"))
    assert read_game_file(path)[0].headers == {"White": "Müller"}
    path.write_bytes(b"\xef\xbb\xbf11-15\r\n23-19\r\n")
    assert read_game_file(path)[0].texts() == ["11-15", "23-19"]
    path.write_bytes(b"PK\0\0")
    for wrong in (path, tmp_path, tmp_path / "none"):
        with pytest.raises(WrongRequest, match=wrong.name):
            read_game_file(wrong)


def test_what_a_form_cannot_hold_is_refused():
    game = random_game("connect4", 3)
    for form in ("columns", "moves", "saved", "ggf", "nosuch"):
        with pytest.raises(WrongRequest):
            write_games([game], form)
    with pytest.raises(WrongRequest, match="cannot be called"):
        write_games([GameText("checkers", headers={"a b": "c"})])


def test_a_header_that_ggf_would_change_is_kept_in_pdn():
    game = GameText("othello6", headers={"Round": "3"})
    assert read_games(write_games([game]), load_game("othello6")) == [game]
    assert write_games([game], "ggf").count("ROUND[3]") == 1


@pytest.mark.parametrize("comment", ["; a", "; {", "a ;", "(;GM[Othello]", "} ; {"])
def test_a_comment_with_signs_of_its_own_comes_back_equal(comment):
    game = random_game("checkers", 3)
    game.moves[0].comments.append(comment)
    game.headers["Event"] = "x"
    assert read_games(write_games([game])) == [game]


def test_a_published_game_replays_to_its_end():
    """Jordan against Tesheliet, Double Corner Dyke: its moves, from https://pdn.fmjd.org/examples.html."""
    moves = (
        "9-14 22-17 11-15 25-22 15-19 23x16 12x19 24x15 10x19 17x10 6x15 21-17 5-9 29-25 8-12 25-21 7-10 17-13 1-6"
        " 27-24 4-8 32-27 9-14 27-23 3-7 23x16 12x19 22-17 7-11 26-23 19x26 30x23 8-12 24-20 15-18 23-19 11-15 20-16"
        " 15x24 28x19 2-7 31-26 18-23 26-22 23-27 16-11 7x23 22-18"
    )
    found = read_games(f'[Result "1/2-1/2"]\n{moves} *')[0]
    assert found.texts() == moves.replace("7x23", "7x16x23").split()
    assert [note for note in found.notes if "7x23" not in note] == []
    assert found.result == "1/2-1/2"
