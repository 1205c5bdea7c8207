"""Games of files at the board of the terminal: every game, every format; continued, stepped through, reviewed."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest
from command_line import run_az, start_az
from rich.console import Console
from test_play import FirstMove, talk

from az.engine.errors import AzError
from az.engine.game import ONGOING, Game, game_names, load_game
from az.engine.notation import FORMATS, GameText, Move, read_game_file, read_games, write_games
from az.engine.notation.game_text import result_of
from az.engine.terminal.files import Loaded, adopt, game_text
from az.engine.terminal.play import obey, play
from az.engine.terminal.session import Session

BLUNDERS = "5363767665174"  # connect four: a win in one is missed again and again


@pytest.mark.parametrize(("name", "moves"), [("tictactoe", ["5"]), ("checkers", ["11-15", "10-14"]), ("connect4", [])])
def test_a_saved_game_is_loaded(name: str, moves: list[str], tmp_path: Path):
    kept, again = tmp_path / "a.txt", tmp_path / "b.txt"
    talk(name, *moves, f"save {kept}")
    text = talk(name, f"load {kept}", f"save {again}")
    assert f"Loaded {2 * len(moves)} moves." in text
    assert kept.read_text().split("start:")[1] == again.read_text().split("start:")[1]


def test_what_is_no_saved_game_leaves_the_board_alone(tmp_path: Path):
    files = {
        "other": "game: othello\nstart:\nmoves:\n",
        "none": "hello",
        "wrong": "game: tictactoe\nstart:\nmoves:\n  1. 5 5\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "odd").write_bytes(b"\xff\xfe")
    wrong = [f"load {tmp_path / name}" for name in (*files, "odd", "absent", "")]
    text = talk("tictactoe", "5", "load", *wrong, "moves", width=300)
    assert text.count("could not be loaded: ") == len(wrong)
    assert "it is a game of othello, and this is tictactoe." in text
    assert "Name the file: load FILE, or load FILE N" in text
    assert "Legal: 2 3 4 6 7 8 9" in text


def test_names_that_no_file_can_have():
    long = "a" * 5000
    text = talk("tictactoe", f"load {long} 3", f"load {long}", f"save {long}", "moves", width=300)
    assert text.count("File name too long") == 3
    assert max(map(len, text.splitlines())) <= 300
    assert "Legal: 1 2 3" in text


def test_a_file_of_pdn_is_saved_as_it_was_until_it_is_changed(tmp_path: Path):
    kept, again, changed = (tmp_path / f"{name}.pdn" for name in "abc")
    kept.write_text(
        '[GameType "21"]\n[Event "x"]\n[Result "1-0"]\n\n{first} 1. 11-15 $1'
        " {[%clk 0:05:00] [%eval 0.5]} {hi} 22-18 1-0\n"
    )
    talk("checkers", f"load {kept}", "back", f"save {again}", "goto 1", "22-17", f"save {changed}")
    assert read_game_file(again) == read_game_file(kept)
    assert read_game_file(changed)[0].result == "*"


def test_a_resigned_game_stays_resigned(tmp_path: Path):
    first, second, third = tmp_path / "a.txt", tmp_path / "b.txt", tmp_path / "c.pdn"
    talk("tictactoe", "5", "resign", f"save {first}")
    talk("tictactoe", f"load {first}", f"save {second}", f"save {third}")
    for path in (first, second, third):
        game = read_game_file(path)[0]
        assert (game.result, game.notes, "result" in map(str.lower, game.headers)) == ("0-1", [], False)


def random_game(game: Game, plies: int, seed: int = 1) -> GameText:
    draw, state, found = random.Random(seed), game.new_state(), GameText(game.name)
    while len(found.moves) < plies and game.outcome(state) == ONGOING:
        text, hops = draw.choice(list(game.moves(state).items()))
        found.moves.append(Move(text, hops))
        state = game.play(state, hops)
    found.result = result_of(game, state)
    return found


def own_games() -> list[str]:
    return [name for name in game_names() if load_game(name).__class__ is Game]


def files_of(game: Game, folder: Path) -> dict[str, Path]:
    """A game in every format that can hold it."""
    files, found = dict[str, Path](), random_game(game, 9)
    for form in FORMATS:
        try:
            text = write_games([found], form)
        except AzError:
            continue
        files[form] = folder / f"{game.name}-{form}.txt"
        files[form].write_text(text)
    return files


@pytest.mark.parametrize("name", own_games())
def test_every_game_of_every_format_is_stepped_through_and_saved(name, tmp_path):
    game = load_game(name)
    texts, files = random_game(game, 9).texts(), files_of(game, tmp_path)
    assert {"pdn", "saved", "moves"} <= files.keys()
    assert (name == "connect4") == ("columns" in files)
    assert name.startswith("othello") == ("ggf" in files)
    for form, path in files.items():
        kept = tmp_path / f"{form}.pdn"
        said = talk(name, f"load {path}", "replay", *[""] * len(texts), "next", f"save {kept}")
        assert f"Loaded {len(texts)} moves." in said
        for number, text in enumerate(texts, 1):
            assert f"\n{number}. " in said
            assert f" {text}" in said
        assert "That is the end of the game." in said or "Type a move, or help." in said
        assert "(engine) plays" not in said
        assert read_game_file(kept, game)[0].texts() == texts


def session_of(name: str, moves: list[str]) -> tuple[Session, io.StringIO]:
    game, out = load_game(name), io.StringIO()
    console = Console(file=out, width=200, highlight=False, markup=False)
    session = Session(game, FirstMove(game), 0, console, io.StringIO())
    state, found = game.new_state(), GameText(name, headers={"Black": "Ann"})
    for text in moves:
        hops = game.parse_move(state, text)
        found.moves.append(Move(text, hops, [f"about {text}"], [4]))
        state = game.play(state, hops)
    adopt(session, found, game.new_state())
    return session, out


def test_stepping_keeps_the_game_and_a_move_goes_on_from_there():
    moves = ["5", "1", "9", "3"]
    session, out = session_of("tictactoe", moves)
    for line, here in (("back", 3), ("back 2", 1), ("next", 2), ("goto 0", 0), ("n 9", 4), ("goto end", 4), ("b 1", 3)):
        obey(session, line)
        assert (len(session.history), session.plies) == (here, 4), line
        assert session.game.position_text(session.state) == "".join(moves[:here])
    assert "3. X 9??" in out.getvalue()
    assert "about 9" in out.getvalue()
    assert session.prompt() == "Move 3 of 4> "
    for line in ("goto 5", "goto", "goto x", "next x", "back 0x1"):
        obey(session, line)
        assert (len(session.history), session.plies) == (3, 4), line
    assert "result: unfinished" in game_text(session)
    assert "1. 5?? {about 5}" in game_text(session, "pdn") or "$4" in game_text(session, "pdn")
    assert '[Black "Ann"]' in game_text(session, "pdn")
    obey(session, "7")  # another fourth move, for O; X is the person
    assert [move.text for move in session.history] == ["5", "1", "9", "7"]
    assert not session.future
    assert not session.held


def test_the_engine_waits_until_it_is_told_to_go():
    session, out = session_of("tictactoe", ["5", "1", "9"])
    session.turn(show=False)
    assert len(session.history) == 3
    obey(session, "go")
    assert len(session.history) == 4
    assert "O (engine) plays" in out.getvalue()
    session, out = session_of("tictactoe", ["5", "1"])
    obey(session, "go")  # the person's own side: the sides change
    assert (session.human, len(session.history)) == (1, 3)
    obey(session, "undo")
    obey(session, "replay")
    obey(session, "new")
    assert session.plies in (0, 1)


def test_a_game_from_the_command_line_is_reviewed(tmp_path):
    path = tmp_path / "game.txt"
    path.write_text(BLUNDERS)
    said = run_az("play", "connect4", "--load", path, stdin="review 60\ngoto 12\nreview 0\nreview x\nquit\n")
    assert (said.code, said.err) == (0, "")
    assert "Loaded 13 moves." in said.out
    assert " 11. Red 1 ?? blunder -" in said.out
    assert "12. Yellow (O) 7 ?? blunder, better 4" in said.out
    assert "Yellow: 6 moves, " in said.out
    assert said.out.count("Say how many simulations") == 2


def test_the_terminal_and_the_browser_review_alike():
    pytest.importorskip("starlette", reason="the extra `web` is not installed")
    from az.engine.analysis.review import review_game, side_of
    from az.engine.inference.evaluator import HashEvaluator
    from az.engine.web.position import follow
    from az.engine.web.review import review
    from az.engine.web.thinking import Searcher

    game = load_game("connect4")
    searcher, line = Searcher(game, HashEvaluator(game)), follow(game, None, list(BLUNDERS))
    *parts, last = [part for part in review(searcher, line, 30) if part is not None]
    rows = [row for part in review_game(game, line.states, line.texts, searcher.search, 30) for row in part]
    told = [row for part in parts for row in part["rows"]]
    assert [row["ply"] for row in told] == [row.ply for row in rows] == list(range(14))
    assert [row.get("cost", 0.0) for row in told] == [row.cost for row in rows]
    assert [side_of(rows, player).marks["blunder"] for player in (0, 1)] == [
        player["blunder"] for player in last["summary"]["players"]
    ]


def test_a_player_without_a_network_says_that_it_cannot_review(tmp_path):
    path = tmp_path / "game.txt"
    path.write_text("5 1 9")
    said = run_az("play", "tictactoe", "--model", "rollouts:5", "--load", path, stdin="review\nquit\n")
    assert said.code == 0
    assert "a review needs a model" in said.out


def test_the_game_is_told_by_the_file(tmp_path):
    path = tmp_path / "two.pdn"
    path.write_text(write_games([random_game(load_game("checkers"), n, n) for n in (4, 6)]))
    said = start_az("play", "--load", path, "--number", 2, "--sims", 5, stdin="back\nquit\n")
    assert (said.code, said.err) == (0, "")
    assert "checkers: you are Black" in said.out
    assert "Loaded 6 moves (game 2 of 2)." in said.out
    assert "Move 5 of 6>" in said.out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--load", "absent"], "cannot be read"),
        (["--load", "."], "cannot be read"),
        (["--load", "binary"], "no text"),
        (["--load", "empty"], "nothing to load"),
        (["--load", "list"], "name the game"),
        (["tictactoe", "--load", "list"], "is not a legal move"),
        (["othello", "--load", "checkers.pdn"], "checkers"),
        (["checkers", "--load", "checkers.pdn", "--number", "2"], "there is no game 2: the file holds one game"),
        (["checkers", "--load", "checkers.pdn", "--number", "0"], "there is no game 0"),
        (["checkers", "--load", "checkers.pdn", "--position", "x"], "exclude each other"),
        (["checkers", "--number", "2"], "give --load FILE too"),
    ],
)
def test_what_cannot_be_loaded_is_one_sentence(words, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    (tmp_path / "empty").write_text("")
    (tmp_path / "list").write_text("e2 e4")
    (tmp_path / "checkers.pdn").write_text(write_games([random_game(load_game("checkers"), 4)]))
    said = run_az("play", *words)
    assert (said.code, said.out) == (2, "")
    assert said.err.count("\n") == 1
    assert sentence in said.err


def test_a_narrow_window_breaks_no_line_of_a_review():
    game = load_game("connect4")
    out = io.StringIO()
    console = Console(file=out, width=44, highlight=False, markup=False)
    found = GameText("connect4")
    state = game.new_state()
    for text in BLUNDERS:
        found.moves.append(Move(text, game.parse_move(state, text)))
        state = game.play(state, found.moves[-1].actions)
    engine, params = FirstMove(game), None
    from az.engine.inference.evaluator import UniformEvaluator
    from az.engine.search.params import SearchParams

    params = SearchParams()
    lines = io.StringIO("review 5\ngoto 3\nquit\n")
    loaded = Loaded(found, 1, 1)
    assert play(game, UniformEvaluator(game), params, stdin=lines, console=console, engine=engine, loaded=loaded) == 0
    assert max(len(line) for line in out.getvalue().splitlines()) <= 44
    assert "Move 3 of 13>" in out.getvalue()


VARIED = (
    '[Event "x"]\n\n1. 11-15 23-19 ({old} 22-18! 15x22 25x18 (26x17 $4)) (24-20)'
    " 2. 8-11 (9-14? {a trap} 22-18) 22-17 *\n"
)


def test_variations_stand_under_their_move_and_can_be_stepped_into(tmp_path: Path):
    kept, again, inner = tmp_path / "a.pdn", tmp_path / "b.pdn", tmp_path / "c.pdn"
    kept.write_text(VARIED)
    said = talk(
        "checkers", f"load {kept}", f"save {again}", "goto 2", "v 1", "next 2", "variation", "main", "main",
        "variation 2", f"save {inner}", "v", "main", "main", "goto 3", "variation 3", "v 0", "next", "v", width=200,
    )  # fmt: skip
    assert "The file has 3 variations: they stand under the move" in said
    assert read_game_file(again) == read_game_file(kept)
    shown = [line for line in said.splitlines() if line.startswith("variation ")]
    assert shown[:2] == ["variation 1: (old) 22-18! 15x22 25x18", "variation 2: 24-20"]
    assert "variation 1: 26x17??" in shown
    assert "variation 1: 9-14? 22-18" in shown
    assert "Variation, move 4 of 4> " in said
    assert "Variation, move 2 of 2> " in said
    assert read_game_file(inner)[0].texts() == ["11-15", "24-20"]
    assert "The move shown has no variations." in said
    assert "This is the game itself, not a variation." in said
    assert "Say which variation, 1 to 1: variation 1." in said


def test_a_move_in_a_variation_leaves_the_game_as_it_was():
    game, out = load_game("checkers"), io.StringIO()
    found = read_games(VARIED)[0]
    session = Session(game, FirstMove(game), None, Console(file=out, width=200), io.StringIO())
    adopt(session, found, game.new_state())
    before = game_text(session, "pdn")
    for line in ("goto 2", "v 1", "15x22", "25x18", "resign", "main"):
        obey(session, line)
    obey(session, "goto end")
    assert game_text(session, "pdn") == before
    assert not session.over
    obey(session, "new")
    assert (session.outer, session.plies) == ([], 0)
