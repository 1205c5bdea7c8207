"""Games and positions from pasted text, saved files and records of self-play."""

from __future__ import annotations

import pytest
from command_line import run_az
from web_server import web_server

pytest.importorskip("starlette", reason="the extra `web` is not installed")
from az.engine.errors import AzError, Refused, WrongRequest
from az.engine.game import load_game
from az.engine.records.format import read_records
from az.engine.web import recorded
from az.engine.web.load import load_text, pdn, record_game, record_games
from az.engine.web.recorded import recorded_parts

PDN = """[Event "A game"]
[GameType "20"]
[Result "*"]

1. 11-15 {the usual} 23-19 2. 8-11 ; to the end of the line
22-17 (22-18 15x22 25x18) 3. 9-13! 17-14 $1 4. 10x17 21x14 *
"""


@pytest.mark.parametrize(
    ("game", "text", "moves"),
    [
        ("checkers", PDN, "11-15 23-19 8-11 22-17 9-13 17-14 10x17 21x14"),
        ("checkers", "11-15, 23-19", "11-15 23-19"),
        ("connect4", "4 4 3", "4 4 3"),
        ("connect4", "443", "4 4 3"),
        ("connect4", "1. 4 4 2. 3", "4 4 3"),
        ("tictactoe", "1.5 1\n2.9", "5 1 9"),
        ("othello6", "C2 b2", "c2 b2"),
    ],
)
def test_moves_are_found_in_a_text(game, text, moves):
    assert load_text(load_game(game), text).texts == moves.split()


def test_variations_are_left_out_however_deep():
    """In time that grows with the text: by taking the innermost out again and again, this one took minutes."""
    deep = "(" * 49_000 + "5" + ")" * 49_000
    line = load_text(load_game("connect4"), f"4 {deep} 4 (1 (2) 3) 3 2")
    assert line.texts == ["4", "4", "3", "2"]


@pytest.mark.parametrize("game", ["checkers", "othello6"])
def test_a_position_is_taken_as_one(game):
    rules = load_game(game)
    state = rules.new_state()
    for _ in range(3):
        state = rules.play(state, next(iter(rules.moves(state).values())))
    line = load_text(rules, rules.position_text(state))
    assert line.texts == []
    assert rules.position_text(line.last) == rules.position_text(state)


def test_pdn_with_a_start_position_and_what_is_written_reads_back():
    rules = load_game("checkers")
    line = load_text(rules, '[FEN "W:W31,32:BK1,2"]\n1. 31-27 1-6')
    assert line.texts == ["31-27", "1-6"]
    again = load_text(rules, pdn(line, "*"))
    assert again.texts == line.texts
    assert rules.position_text(again.states[0]) == rules.position_text(line.states[0])


def test_a_game_saved_by_the_terminal_is_loaded(tmp_path):
    saved = tmp_path / "game.txt"
    talk = run_az("play", "tictactoe", "--sims", "10", stdin=f"5\nsave {saved}\nquit\n")
    assert talk.code == 0
    line = load_text(load_game("tictactoe"), saved.read_text())
    assert line.texts[0] == "5"
    assert len(line.texts) == 2
    with pytest.raises(WrongRequest, match="a game of tictactoe"):
        load_text(load_game("connect4"), saved.read_text())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "hello",
        "<script>alert(1)</script>",
        "(" * 5000,
        "{" * 5000,
        "1. 11-15 11-15",
        '[FEN "x"]',
        "\0",
    ],
)
@pytest.mark.parametrize("game", ["checkers", "connect4", "othello6"])
def test_what_holds_no_game_is_a_sentence(game, text):
    with pytest.raises(AzError) as caught:
        load_text(load_game(game), text)
    assert str(caught.value).endswith((".", "?"))


@pytest.mark.parametrize(
    ("game", "fraction"),
    [("tictactoe", 1), ("tictactoe", 0.6), ("connect4", 0.6), ("checkers", 1), ("checkers", 0.7), ("gomoku9", 0.2)],
)
def test_a_record_of_self_play_gives_its_games(tmp_path, game, fraction):
    options = ("--games", 3, "--sims", 8, "--out", tmp_path, "--set", f"full_fraction={fraction}", "--json")
    answer = run_az("selfplay", game, *options)
    assert answer.code == 0, answer.err
    data = next(tmp_path.glob("*.npz")).read_bytes()
    rules = load_game(game)
    games = record_games(rules, data)["games"]
    assert sorted(one["k"] for one in games) == [0, 1, 2]
    for one in games:
        found = record_game(rules, data, one["k"])
        state, actions = rules.new_state(), 0
        for text in found["moves"]:
            hops = rules.moves(state)[text]
            state, actions = rules.play(state, hops), actions + len(hops)
        assert 0 < actions <= one["plies"]
        if game == "gomoku9":  # long gaps with many moves, but each stone stays where it was put
            assert found["note"] == ""
        if fraction == 1:  # all positions are recorded: only the last action is not told
            assert actions >= one["plies"] - 2
            assert found["note"] == ""
    with pytest.raises(WrongRequest, match="no game 99"):
        record_game(rules, data, 99)


def test_where_no_moves_are_found_a_new_part_begins_at_the_next_recorded_position(tmp_path, monkeypatch):
    options = ("--games", 1, "--sims", 8, "--out", tmp_path, "--set", "full_fraction=1", "--json")
    assert run_az("selfplay", "connect4", *options).code == 0
    rules = load_game("connect4")
    records = read_records(next(tmp_path.glob("*.npz")), rules)
    (whole,) = recorded_parts(rules, records, 0)
    monkeypatch.setattr(recorded, "MOST_AT_ONCE", 0)
    parts = recorded_parts(rules, records, 0)
    assert [part.before for part in parts] == list(range(len(whole.line.states)))
    for part, state in zip(parts, whole.line.states, strict=True):
        assert part.line.texts == []
        assert (part.line.last == state).all()


@pytest.mark.parametrize("data", [b"", b"PK", b"x" * 1000])
def test_what_is_no_record_is_refused_without_a_path(data):
    with pytest.raises(Refused) as caught:
        record_games(load_game("tictactoe"), data)
    assert "/" not in str(caught.value).replace("az/", "")


def test_a_game_of_a_file_is_what_the_board_begins_with(tmp_path):
    file = tmp_path / "games.pdn"
    file.write_text('[FEN "W:W31,32:BK1,2"]\n1. 31-27 1-6 *\n\n1. 11-15 23-19 2. 8-11 *\n')
    for number, start, moves in ((1, "W:W31,32:BK1,2", ["31-27", "1-6"]), (2, None, ["11-15", "23-19", "8-11"])):
        with web_server("play", "--web", "--load", str(file), "--number", str(number)) as server:
            begun = server.ask("/api/begin", {})
            assert (begun["game"], begun["moves"]) == ("checkers", moves)
            assert (begun["start"] is None) == (start is None)
            asked = {"game": "checkers", "start": begun["start"], "moves": begun["moves"]}
            assert server.ask("/api/position", asked)["moves"] == moves


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--load", "absent.txt"], "absent.txt"),
        (["tictactoe", "--load", "game.txt", "--number", "2"], "game 2"),
        (["tictactoe", "--number", "2"], "--load FILE"),
        (["tictactoe", "--load", "game.txt", "--position", "123"], "exclude each other"),
        (["othello", "--load", "game.txt"], "tictactoe"),
    ],
)
def test_a_file_that_holds_no_such_game_ends_it_with_a_sentence(tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "game.txt").write_text("game: tictactoe\nstart:\nmoves:\n  1. 5 1\n")
    answer = run_az("play", "--web", *words)
    assert answer.code == 2
    assert said in answer.err
    assert "Traceback" not in answer.err
