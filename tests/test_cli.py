"""The command line as programs use it: JSON and nothing else, figures that others know, bytes that repeat."""

from __future__ import annotations

import csv
import json
import math
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from command_line import ROOT, run_az, start_az
from make_models import make_run, write_model

from az.engine.game import game_names, load_game
from az.engine.inference.onnx_evaluator import OnnxEvaluator, softmax
from az.train.presets import quick_choice

ARENA_KEYS = {"games", "wins", "draws", "losses", "score", "elo", "elo_low", "elo_high"}
ARENA_KEYS |= {"a", "b", "game", "seed", "sims", "sims_b"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Small models t.onnx, u.onnx (tic-tac-toe), k.onnx (checkers) and the run `small`."""
    folder = tmp_path_factory.mktemp("cli")
    write_model(folder / "t.onnx", "tictactoe")
    write_model(folder / "u.onnx", "tictactoe", seed=8)
    write_model(folder / "k.onnx", "checkers")
    make_run(folder / "runs" / "small")
    return folder


@pytest.fixture
def place(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


def as_json(*words: object) -> dict[str, Any]:
    """What `az … --json` says: one JSON object on stdout and nothing else."""
    answer = run_az(*words, "--json")
    assert answer.code == 0, answer
    assert answer.out.count("\n") == 1
    found = json.loads(answer.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert isinstance(found, dict)
    return found


def test_games_and_check_as_json():
    found = as_json("games")["games"]
    assert [row["game"] for row in found] == game_names()
    assert {"game", "version", "actions", "planes", "model"} == set(found[0])
    assert as_json("check", "tictactoe", "--games", "5") == {"game": "tictactoe", "games": 5, "broken": []}


def test_perft_equals_what_others_counted():
    known = [("tictactoe", 5, 15120), ("connect4", 5, 16807), ("othello", 4, 244), ("othello6", 4, 244)]
    for game, depth, count in [*known, ("checkers", 5, 7361)]:
        assert as_json("perft", game, depth) == {"game": game, "depth": depth, "count": count}
        assert run_az("perft", game, depth).out == f"{count}\n"
    text = (ROOT / "tests" / "oracles" / "checkers_perft.csv").read_text("utf-8")
    for row in list(csv.DictReader(text.splitlines(), delimiter=";"))[:4]:
        for column, more in (("perft_d1..6", ()), ("hop_perft_d1..6", ("--hops",))):
            count = int(row[column].split()[3])
            assert as_json("perft", "checkers", 4, "--position", row["fen"], *more)["count"] == count


def test_arena_of_models_turned_round_is_mirrored(place):  # noqa: ARG001
    one = as_json("arena", "t.onnx", "u.onnx", "--games", 20, "--sims", 8, "--seed", 3)
    two = as_json("arena", "u.onnx", "t.onnx", "--games", 20, "--sims", 8, "--seed", 3)
    assert set(one) == set(two) == ARENA_KEYS
    assert [one[key] for key in ("a", "b", "game", "seed", "sims", "sims_b")] == [
        "t.onnx",
        "u.onnx",
        "tictactoe",
        3,
        8,
        8,
    ]
    assert (one["games"], one["wins"] + one["draws"] + one["losses"]) == (20, 20)
    assert (one["wins"], one["draws"], one["losses"]) == (two["losses"], two["draws"], two["wins"])
    assert one["score"] == pytest.approx((one["wins"] + one["draws"] / 2) / 20) == pytest.approx(1 - two["score"])
    assert one["elo"] == pytest.approx(-two["elo"])
    assert one["elo_low"] == pytest.approx(-two["elo_high"])
    assert one["elo_low"] <= one["elo"] <= one["elo_high"]
    assert as_json("arena", "t.onnx", "u.onnx", "--games", 20, "--sims", 8, "--seed", 3) == one
    found = as_json("arena", "random", "rollouts:4", "--game", "tictactoe", "--games", 4)
    assert set(found) == ARENA_KEYS
    assert (found["sims"], found["sims_b"]) == (None, None)
    assert as_json("arena", "small", "random", "--games", 4, "--sims", 0)["games"] == 4


def test_export_as_json_is_the_card(place):
    card = as_json("export", "runs/small", "--out", "e.onnx")
    assert card == json.loads((place / "e.json").read_text())
    assert (card["game"], card["step"]) == ("tictactoe", 2)
    assert card["model_id"] == OnnxEvaluator(place / "e.onnx").model_id


def test_selfplay_is_the_same_to_the_byte(place):
    ways = {"a": (), "b": ("--threads", 2), "c": ("--batch", 3), "d": ("--threads", 2, "--batch", 1)}
    found = {}
    for name, more in ways.items():
        figures = as_json("selfplay", "t.onnx", "--games", 130, "--seed", 5, "--sims", 6, "--out", f"o/{name}", *more)
        assert (figures["games"], figures["files"], figures["out"]) == (130, 2, f"o/{name}")
        assert figures["simulations"] > 0
        files = sorted((place / "o" / name).iterdir())
        found[name] = [(path.name, path.read_bytes()) for path in files]
    assert [name for name, _ in found["a"]] == ["games-000000000-000000099.npz", "games-000000100-000000129.npz"]
    assert all(files == found["a"] for files in found.values())
    as_json("selfplay", "t.onnx", "--games", 130, "--seed", 6, "--sims", 6, "--out", "o/other")
    assert (place / "o" / "other" / found["a"][0][0]).read_bytes() != found["a"][0][1]


QUESTIONS = {
    "t.onnx": [
        {"id": 1, "sims": 0},
        {"id": "two", "sims": 20},
        {"id": 3.5, "sims": 20, "position": "15", "moves": ["9"]},
        {"id": 4, "sims": 20, "moves": ["1", "1"]},
    ],
    "k.onnx": [
        {"id": 1, "sims": 0},
        {"id": 2, "sims": 20, "moves": ["11-15", "22-18"]},
        {"id": 3, "sims": 20, "position": "W:W31,26:B23,15,14,7"},  # a multiple jump is one move
        {"id": 4, "sims": 0, "position": "W:WK1,K29:BK6,K14,K15,K7,K23,K22,K8,K16,K24"},
    ],
}


@pytest.mark.parametrize("model", QUESTIONS)
def test_analyze_as_a_program_uses_it(folder, model):
    questions = QUESTIONS[model]
    answer = start_az("analyze", model, stdin="".join(json.dumps(q) + "\n" for q in questions), cwd=folder)
    assert (answer.code, answer.err) == (0, "")
    answers = {one["id"]: one for one in map(json.loads, answer.out.splitlines())}
    assert sorted(map(str, answers)) == sorted(str(question["id"]) for question in questions)
    evaluator = OnnxEvaluator(folder / model)
    game = evaluator.game
    for question in questions:
        one = answers[question["id"]]
        if question.get("moves") == ["1", "1"]:
            assert set(one) == {"id", "error"}
            continue
        state = game.parse_position(question["position"]) if "position" in question else game.new_state()
        for move in question.get("moves", []):
            state = game.play(state, game.parse_move(state, move))
        legal = set(game.moves(state))
        assert set(one) == {"id", "move", "value", "policy", "prior", "sims", "pv", "model"}
        assert one["model"] == model
        assert one["move"] in legal
        assert set(one["policy"]) == set(one["prior"]) == legal
        assert sum(one["policy"].values()) == pytest.approx(1, abs=1e-5)
        assert sum(one["prior"].values()) == pytest.approx(1, abs=1e-5)
        assert -1 <= one["value"] <= 1
        assert one["sims"] == question["sims"] or (one["sims"] < question["sims"] and one["value"] in (0, 1))  # proven
        assert one["pv"][0] == one["move"]
        for move in one["pv"]:
            state = game.play(state, game.parse_move(state, move))
    first = answers[questions[0]["id"]]  # the network alone, from the start
    logits, value = np.empty((1, game.num_actions), np.float32), np.empty(1, np.float32)
    start = game.new_state()
    evaluator.evaluate(game.planes(start)[None], logits, value)
    logits[0, ~game.mask(start)] = -np.inf
    prior = softmax(logits)[0]
    assert first["value"] == pytest.approx(float(value[0]), abs=1e-5)
    for text, actions in game.moves(start).items():
        assert first["prior"][text] == pytest.approx(float(prior[actions[0]]), abs=1e-5)


def test_analyze_answers_a_lone_request_at_once(folder):
    """The asker keeps the pipe open and waits for each answer."""
    command = [sys.executable, "-m", "az.cli", "analyze", "t.onnx"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder) as process:
        assert process.stdin
        assert process.stdout
        for number in range(3):
            process.stdin.write(json.dumps({"id": number, "sims": 20}) + "\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["id"] == number
        process.stdin.close()
        assert process.wait(60) == 0


def test_play_through_a_pipe(place):  # noqa: ARG001
    answer = run_az("play", "tictactoe", "--model", "t.onnx", "--sims", 10, stdin="5\nnonsense\nquit\n")
    assert (answer.code, answer.err) == (0, "")
    assert "(engine) plays" in answer.out
    assert "'nonsense' is not a legal move here" in answer.out


def test_play_against_any_player_and_the_game_of_a_model(place):  # noqa: ARG001
    for player in ("rollouts:20", "minimax:3", "random"):
        answer = run_az("play", "checkers", "--model", player, stdin="11-15\nhint\nquit\n")
        assert (answer.code, answer.err) == (0, "")
        assert f"you are Black (b) against {player}." in answer.out
        assert re.search(r"White \(w\) \(engine\) plays \d+[-x]\d+", answer.out)
        assert "win chance" not in answer.out
    answer = run_az("play", "--model", "t.onnx", "--sims", 10, stdin="quit\n")
    assert answer.out.startswith("tictactoe: you are X against the model t.onnx.")
    assert run_az("play", "--model", "random", stdin="quit\n").out.startswith("connect4: ")
    answer = run_az("play", "gomoku", "--sims", 30, stdin="h8\nquit\n")
    assert "against rollouts:30" in answer.out
    assert "30 simulations" in answer.out
    assert answer.err.count("\n") == 1
    assert "az train gomoku" in answer.err
    answer = run_az("play", "gomoku", "--seconds", 0.05, stdin="h8\nquit\n")
    assert "It thinks for 0.05 seconds a move" in answer.out


def test_play_begins_where_it_is_told():
    answer = run_az("play", "tictactoe", "--model", "random", "--position", "5", "--second", stdin="quit\n")
    assert (answer.code, "O to move>" in answer.out, " X " in answer.out) == (0, True, True)
    answer = run_az("play", "tictactoe", "--position", "55")
    assert (answer.code, answer.err.count("\n")) == (2, 1)


def test_a_match_has_one_interval():
    answer = run_az("arena", "minimax:1", "random", "--game", "tictactoe", "--games", 20)
    shown = re.findall(r"Elo ([^;\n]*\])", answer.out)
    assert len(shown) >= 2
    assert shown[-1] == shown[-2]  # the last line of the display, and the sentence below it


def test_version_and_help_have_short_forms():
    assert re.fullmatch(r"az \d+\.\d+\.\d+\n", run_az("--version").out)
    shown = run_az("train", "-h").out
    assert shown == run_az("train", "--help").out
    words = " ".join(re.sub("[│╭╰─╮╯]", " ", shown).split())
    assert "no time limit" in words  # of preset seed
    told = dict(re.findall(r"([\d.]+) \(([a-z\d, ]+)\)", words.partition("Default: 1.5")[2].join(["1.5", ""])))
    assert {game: minutes for minutes, games in told.items() for game in games.split(", ")} == {
        game: f"{quick_choice(load_game(game)).minutes:g}" for game in game_names()
    }
    assert "default: 400" in " ".join(re.sub("[│╭╰─╮╯]", " ", run_az("play", "-h").out).split())
    assert "--show-completion" in run_az("--help").out


def test_figures_are_finite_or_null(place):  # noqa: ARG001
    """A match without a loss has an Elo that is no number of JSON's."""
    found = as_json("arena", "minimax:9", "minimax:9", "--game", "tictactoe", "--games", 2)
    assert all(math.isfinite(value) for value in found.values() if isinstance(value, float))
