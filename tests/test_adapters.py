"""az's games in PettingZoo, by its own tests; OpenSpiel's games in az, against OpenSpiel's own counts."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from command_line import ROOT, start_az

from az.engine.conformance.laws import check_game
from az.engine.conformance.perft import perft
from az.engine.errors import Refused, WrongRequest
from az.engine.game import ONGOING, Game, game_names, load_game
from az.engine.usage import missing

FOLDER = ROOT / "examples" / "open_spiel"
SPIEL = {
    "spiel_tic_tac_toe": ("tic_tac_toe", 6),
    "spiel_connect_four": ("connect_four", 5),
    "spiel_hex5": ("hex(board_size=5)", 3),
    "spiel_hex7": ("hex(board_size=7)", 2),
}


def test_the_engine_imports_neither_library() -> None:
    code = (
        "import sys, az.engine, az.engine.adapters, az.cli; from az.engine.game import load_game;"
        " load_game('connect4'); print(sorted({'pyspiel', 'pettingzoo', 'gymnasium'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_a_missing_library_is_named_with_its_extra() -> None:
    for module in ("pyspiel", "pettingzoo.utils", "gymnasium"):
        assert "pip install '.[adapters]'" in str(missing(module))


# PettingZoo


@pytest.mark.integrations
@pytest.mark.filterwarnings("ignore")  # PettingZoo warns of every dict of observations but those of its own games
@pytest.mark.parametrize("name", game_names())
def test_every_game_passes_the_tests_of_pettingzoo(name: str) -> None:
    pettingzoo_test = pytest.importorskip("pettingzoo.test", reason="the extra `adapters` is not installed")
    from az.engine.adapters.pettingzoo_env import env

    made = env(name, "ansi")
    pettingzoo_test.api_test(made, num_cycles=200)  # both raise AssertionError
    pettingzoo_test.seed_test(lambda: env(name), num_cycles=50)
    assert len(made.possible_agents) == 2


@pytest.fixture
def connect4() -> Iterator[Any]:
    pytest.importorskip("pettingzoo", reason="the extra `adapters` is not installed")
    from az.engine.adapters.pettingzoo_env import env

    made = env("connect4", "ansi")
    made.reset()
    yield made
    made.close()


@pytest.mark.integrations
def test_a_game_is_played_to_its_reward(connect4: Any) -> None:
    game = load_game("connect4")
    for column in (3, 0, 3, 0, 3, 0):
        seen = connect4.last()[0]
        assert connect4.observation_space("player_0").contains(seen)
        assert connect4.observe("player_1" if connect4.agent_selection == "player_0" else "player_0")[
            "action_mask"
        ].sum() == 0  # fmt: skip
        connect4.step(column)
    assert connect4.render() == game.render(game.parse_position("414141"))
    other = connect4.observe("player_1")["observation"]
    assert np.array_equal(other[::-1], connect4.observe("player_0")["observation"])  # own and others' stones exchanged
    connect4.step(3)
    assert connect4.rewards == {"player_0": 1.0, "player_1": -1.0}
    assert connect4.terminations == {"player_0": True, "player_1": True}


@pytest.mark.integrations
def test_an_illegal_action_ends_it_for_who_took_it(connect4: Any) -> None:
    for column in [0] * 6:
        connect4.step(column)
    connect4.step(0)
    assert connect4.rewards["player_0"] == -1
    assert connect4.terminations["player_0"]


@pytest.mark.integrations
def test_it_begins_where_it_is_told_and_refuses_what_it_cannot(connect4: Any) -> None:
    from az.engine.adapters.pettingzoo_env import GameEnv, env

    connect4.reset(seed=3, options={"position": "4455"})
    assert connect4.observe("player_0")["observation"].sum() == 4
    for wrong in ("1212121", "9"):
        with pytest.raises(WrongRequest, match=r"over in that position|position .9."):
            connect4.reset(options={"position": wrong})
    with pytest.raises(WrongRequest, match="there is no game 'conect4': did you mean connect4"):
        env("conect4")
    with pytest.raises(WrongRequest, match="no render mode 'rgb_array': write ansi or human"):
        env("connect4", "rgb_array")
    bare = GameEnv("connect4")
    bare.reset()
    for action in (7, -1, None):
        with pytest.raises(WrongRequest, match=f"action {action} is not legal"):
            bare.step(action)


@pytest.mark.integrations
def test_the_same_agent_moves_twice_in_a_multiple_jump() -> None:
    pytest.importorskip("pettingzoo", reason="the extra `adapters` is not installed")
    from az.engine.adapters.pettingzoo_env import GameEnv

    made, game = GameEnv("checkers"), load_game("checkers")
    made.reset(options={"position": "W:W31:B26,17,18"})
    hops = max(game.moves(game.parse_position("W:W31:B26,17,18")).values(), key=len)
    assert len(hops) > 1
    agent = made.agent_selection
    made.step(hops[0])
    assert made.agent_selection == agent


# OpenSpiel


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The environment of a process that finds the example package as if installed; this process finds it too."""
    pytest.importorskip("pyspiel", reason="the extra `adapters` is not installed")
    info = tmp_path / "az_open_spiel-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: az-open-spiel\nVersion: 1\n")
    table = (FOLDER / "pyproject.toml").read_text().partition('[project.entry-points."az.games"]')[2].partition("[")[0]
    (info / "entry_points.txt").write_text("[az.games]\n" + table.replace('"', ""))
    folders = [str(tmp_path), str(FOLDER)]
    for folder in folders:
        monkeypatch.syspath_prepend(folder)
    return {"PYTHONPATH": os.pathsep.join([*folders, os.environ.get("PYTHONPATH", "")])}


def count(state: Any, depth: int) -> int:
    """Action sequences by OpenSpiel alone."""
    if depth == 0:
        return 1
    return sum(count(state.child(action), depth - 1) for action in state.legal_actions() if not state.is_terminal())


@pytest.mark.integrations
@pytest.mark.timeout(1800)  # half a minute of the processor each: rules in Python, and the search compiled for them
@pytest.mark.parametrize("name", SPIEL)
def test_az_check_passes_and_the_counts_are_openspiels(installed: dict[str, str], name: str) -> None:
    pyspiel: Any = import_module("pyspiel")
    answer = start_az("check", name, "--games", "2", env=installed, timeout=1200)
    assert answer.code == 0, answer
    assert "obeys every law" in answer.out
    spiel, depth = SPIEL[name]
    expected = count(pyspiel.load_game(spiel).new_initial_state(), depth)
    assert start_az("perft", name, str(depth), env=installed, timeout=1200).out.strip() == str(expected)


WHOLE = {  # to the end of every game, where it is not too deep; sequences
    "tic_tac_toe": (9, 127_872),
    "connect_four": (7, 823_536),
    "hex(board_size=3)": (9, 120_960),
    "hex(board_size=3,swap=True)": (6, 69_840),
    "hex(board_size=7)": (3, 110_544),
    "hex(board_size=11,swap=True)": (2, 14_641),
}


@pytest.mark.integrations
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("spiel", WHOLE)
def test_the_counts_are_openspiels_ply_by_ply(spiel: str) -> None:
    """Every depth: a sequence that ends early is counted at its last ply alone."""
    game, depth = made(spiel), WHOLE[spiel][0]
    pyspiel: Any = import_module("pyspiel")
    root = pyspiel.load_game(spiel).new_initial_state()
    for plies in range(1, depth + 1):
        assert perft(game, game.new_state(), plies, True) == count(root, plies), plies
    assert count(root, depth) == WHOLE[spiel][1]


@pytest.mark.integrations
def test_it_is_played_and_searched(installed: dict[str, str]) -> None:
    answer = start_az("play", "spiel_hex5", "--model", "random", stdin="C3\nquit\n", env=installed, timeout=600)
    assert answer.code == 0, answer
    assert "(engine) plays" in answer.out
    words = ("arena", "rollouts:30", "random", "--game", "spiel_tic_tac_toe", "--games", "10", "--json")
    answer = start_az(*words, env=installed, timeout=600)
    assert answer.code == 0, answer


def made(spiel: str, name: str = "of-spiel") -> Game:
    pytest.importorskip("pyspiel", reason="the extra `adapters` is not installed")
    from az.engine.adapters.open_spiel_game import game_from

    return game_from(spiel, name)


@pytest.mark.integrations
@pytest.mark.parametrize("spiel", ["breakthrough(rows=6,columns=6)", "clobber(rows=4,columns=4)", "mnk(m=4,n=4,k=3)"])
def test_other_games_keep_the_laws_too(spiel: str) -> None:
    assert check_game(made(spiel), 2, 1) == []


@pytest.mark.integrations
def test_az_and_openspiel_have_the_same_hex() -> None:
    """az's Hex of 11 by 11 and OpenSpiel's, with the swap, move by move."""
    ours, theirs, rng = load_game("hex"), made("hex(board_size=11,swap=True)"), random.Random(4)
    for number in range(4):
        states = [ours.new_state(), theirs.new_state()]
        while ours.outcome(states[0]) == ONGOING:
            legal = [game.moves(state) for game, state in zip((ours, theirs), states, strict=True)]
            assert set(legal[0]) == set(legal[1])
            text = "swap" if "swap" in legal[0] and number % 2 else rng.choice(sorted(legal[0]))
            states = [game.play(state, moves[text]) for game, state, moves in
                      zip((ours, theirs), states, legal, strict=True)]  # fmt: skip
        assert ours.outcome(states[0]) == theirs.outcome(states[1])


@pytest.mark.integrations
@pytest.mark.parametrize(
    ("spiel", "says"),
    [
        ("kuhn_poker", "it has chance"),
        ("matrix_pd", "do not move in turn"),
        ("phantom_ttt", "do not see everything"),
        ("no_such_game", "OpenSpiel cannot make the game 'no_such_game'"),
        ("hex(board_size=5", "OpenSpiel cannot make the game"),
        ("chinese_checkers(players=3)", "it has 3 players"),
    ],
)
def test_what_is_no_game_for_az_is_refused_in_a_sentence(spiel: str, says: str) -> None:
    with pytest.raises(Refused, match=says.replace("(", r"\(")) as error:
        made(spiel)
    assert "\n" not in str(error.value)


@pytest.mark.integrations
def test_wrong_texts_of_positions_and_moves() -> None:
    game = made("tic_tac_toe")
    assert game.position_text(game.parse_position("X(0,0) o(1,1)")) == "x(0,0) o(1,1)"
    with pytest.raises(WrongRequest, match=r"move 2: 'x\(0,0\)' is not a legal move here"):
        game.parse_position("x(0,0) x(0,0)")
