"""The public Python API: docs/api.md runs, names load late, mistakes are sentences."""

from __future__ import annotations

import doctest
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from command_line import ROOT

import az.engine
from az.engine.errors import WrongRequest

HOME: dict[str, str] = vars(az.engine)["_HOME"]


def fresh(code: str) -> list[str]:
    """Names of the modules that a fresh process has loaded after this code."""
    code += "\nimport json, sys\nprint(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_every_example_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = doctest.testfile(str(ROOT / "docs" / "api.md"), module_relative=False)
    assert found.failed == 0
    assert found.attempted > 25


def test_every_public_name_has_an_example_and_a_docstring():
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    examples = [line for line in page.splitlines() if line.startswith(">>> from az.engine import")]
    for name in HOME:
        assert any(name in line for line in examples), name
        assert f"`{name}" in page, name
        assert getattr(az.engine, name).__doc__, name


def test_the_stub_for_type_checkers_names_the_same():
    stub = (ROOT / "engine" / "__init__.pyi").read_text("utf-8").splitlines()
    assert {line.split()[-1]: line.split()[1] for line in stub} == HOME


def test_importing_the_engine_loads_nothing_and_a_class_not_the_runtime():
    assert [name for name in fresh("import az.engine") if name.startswith("az.")] == ["az.engine"]
    loaded = fresh("from az.engine import SearchParams")
    assert not {"numpy", "numba", "onnxruntime"} & set(loaded)
    assert "onnxruntime" not in fresh("from az.engine import load_game, play_game")


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'serch'"):
        az.engine.serch  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]
    assert {"load_game", "Records"} <= set(dir(az.engine))


def test_wrong_requests_are_sentences():
    game, model = az.engine.load_game("tictactoe"), az.engine.load_model("tictactoe")
    over = game.parse_position("14273")
    over = game.play(over, game.parse_move(over, "5")) if game.outcome(over) == 2 else over
    while game.outcome(over) == 2:
        over = game.play(over, next(iter(game.moves(over).values())))
    several: Any = [game.new_state()] * 2
    for request, said in (
        (lambda: az.engine.evaluate(model, np.zeros((1, 3), np.int64)), "these are int64"),
        (lambda: az.engine.evaluate(model, over), "state 0 is over"),
        (lambda: az.engine.search_position(model, over), "state 0 is over"),
        (lambda: az.engine.search_position(model, several), "takes one state"),
        (lambda: az.engine.play_game("random", "rollouts:5"), "give the game"),
        (lambda: az.engine.play_game(model, "random", game=az.engine.load_game("othello6")), "not othello6"),
        (lambda: az.engine.load_model("conect4"), "did you mean connect4"),
    ):
        with pytest.raises(WrongRequest, match=said):
            request()


def test_the_same_call_gives_the_same_game_and_hops_are_one_move():
    game = az.engine.load_game("checkers")
    one, two = (az.engine.play_game("random", "random", game, seed=5) for _ in range(2))
    assert one.actions == two.actions
    assert len(one.moves) < len(one.actions)  # a multiple jump is one move
    other = az.engine.play_game("random", "random", game, seed=6)
    assert other.actions != one.actions
