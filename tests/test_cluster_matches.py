"""Matches spread over players, without Ray: the table of one machine, whoever plays, is lost, lies or is silent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import pytest
from cluster_rig import LocalFleet
from command_line import run_az
from make_models import write_model
from run_tools import run_az as run_az_in

from az.engine.arena.elo import Sprt
from az.engine.arena.match import play_match
from az.engine.errors import Refused, WrongRequest
from az.engine.game import load_game
from az.engine.inference.onnx_evaluator import OnnxEvaluator
from az.engine.players import ModelPlayer, make_player
from az.engine.players.levels import LevelPlayer
from az.engine.score.ladder import climb
from az.engine.search.params import SearchParams
from az.train.cluster import matches
from az.train.cluster.fleet import Gone, Node
from az.train.cluster.match_player import MatchJob, MatchPlayer
from az.train.cluster.matches import Matches, replayed

GAME = load_game("tictactoe")
GAMES, SEED = 40, 3


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(write_model(tmp_path_factory.mktemp("model") / "m.onnx", "tictactoe"))


@pytest.fixture(scope="module")
def players(model) -> tuple[Any, Any]:
    return make_player(model, GAME, 8), make_player("rollouts:20", GAME)


@pytest.fixture(scope="module")
def alone(players):
    return play_match(players[0], players[1], GAMES, SEED)


class Rigged:
    """A hall over players in threads of this process."""

    def __init__(self, *nodes: str, spoil: Callable[..., Any] = lambda _, answer: answer) -> None:
        self.fleet = LocalFleet(MatchJob("tictactoe"), spoil, MatchPlayer)
        self.fleet.there = [Node(name, name, 1) for name in nodes]
        self.said: list[str] = []
        self.later = 0.0  # seconds added to the clock
        self.hall = Matches(self.fleet, GAME, self.said.append, lambda: time.monotonic() + self.later)

    def __enter__(self) -> Rigged:
        return self

    def __exit__(self, *_: object) -> None:
        self.hall.close()


def test_the_match_is_that_of_one_machine(players, alone):
    seen: list[int] = []
    for nodes in (("a",), ("a", "b", "c")):
        with Rigged(*nodes) as rig:
            found = play_match(
                players[0], players[1], GAMES, SEED, on_progress=lambda n, *_: seen.append(n), hall=rig.hall
            )
        assert found == alone
        assert rig.said == []
    assert seen == [*range(1, GAMES + 1)] * 2


@pytest.mark.parametrize("games", [1, 7])
def test_an_odd_match_and_players_by_level(model, games):
    network = OnnxEvaluator(model, GAME)
    pair = LevelPlayer(network, 4), make_player("minimax:2", GAME)
    with Rigged("a", "b") as rig:
        assert play_match(pair[0], pair[1], games, 1, hall=rig.hall) == play_match(pair[0], pair[1], games, 1)


def test_a_sequential_test_ends_where_it_ends_on_one_machine(players):
    test = Sprt(0, 200)
    with Rigged("a", "b") as rig:
        found = play_match(players[0], players[1], 400, SEED, sprt=test, hall=rig.hall)
    assert found.decision
    assert found == play_match(players[0], players[1], 400, SEED, sprt=test)


def test_a_ladder_is_that_of_one_machine(model):
    rungs = [make_player("random", GAME), make_player("minimax:2", GAME)]
    network = OnnxEvaluator(model, GAME)
    versions = [ModelPlayer(network, SearchParams(simulations=n), f"v{n}") for n in (2, 8)]
    with Rigged("a", "b") as rig:
        found = climb(rungs, versions, 6, SEED, lambda *_: None, rig.hall)
    assert found == climb(rungs, versions, 6, SEED, lambda *_: None)


def test_games_of_a_lost_node_are_played_again(players, alone):
    lost: list[str] = []

    def spoil(node: str, answer: dict[str, Any]) -> dict[str, Any] | Gone:
        if node == "a" and "games" in answer and not lost:
            lost.append(node)
            rig.fleet.there = [Node("b", "b", 1)]
            return Gone("ended")
        return answer

    with Rigged("a", spoil=spoil) as rig:
        assert play_match(players[0], players[1], GAMES, SEED, hall=rig.hall) == alone
    assert lost
    assert any("games to be played again" in text for text in rig.said)


def test_a_silent_player_is_given_up(players, alone):
    def spoil(node: str, answer: dict[str, Any]) -> dict[str, Any]:
        if "games" in answer and not rig.fleet.silent:  # games are left: it is asked again, and says nothing
            rig.fleet.silent |= {name for name, (_, there) in rig.fleet.players.items() if there.id == node}
        rig.later += 2.0 if rig.fleet.silent else 0.0
        return answer

    with Rigged("a", "b", spoil=spoil) as rig:
        ticking = threading.Event()

        def tick() -> None:
            while not ticking.wait(0.2):
                rig.later += 2.0 if rig.fleet.silent else 0.0

        threading.Thread(target=tick, daemon=True).start()
        try:
            assert play_match(players[0], players[1], GAMES, SEED, hall=rig.hall) == alone
        finally:
            ticking.set()
    assert any("has said nothing for 60 s" in text for text in rig.said)


@pytest.mark.parametrize("lie", [b"[[0,[0,3,1,4,2]]]", b"[[1e999,[]]]", b"[" * 9999, 7])
def test_a_node_that_lies_is_left_out(players, alone, lie):
    def spoil(node: str, answer: dict[str, Any]) -> dict[str, Any]:
        return answer | {"games": lie} if node == "bad" and "games" in answer else answer

    with Rigged("bad", "good", spoil=spoil) as rig:
        assert play_match(players[0], players[1], GAMES, SEED, hall=rig.hall) == alone
    assert any("node bad is left out: it sent a game that was not played" in text for text in rig.said)


@pytest.mark.parametrize("rubbish", [3, {"known": 4}])
def test_a_node_that_sends_rubbish_is_left_out(players, alone, rubbish):
    def spoil(node: str, answer: dict[str, Any]) -> Any:
        return rubbish if node == "bad" and "known" in answer else answer

    with Rigged("bad", "good", spoil=spoil) as rig:
        assert play_match(players[0], players[1], GAMES, SEED, hall=rig.hall) == alone
    assert any("node bad is left out" in text for text in rig.said)


@pytest.mark.parametrize("fact", ["engine", "game_version"])
def test_a_node_with_other_sources_or_rules_leaves_nobody_waiting(players, fact):
    def spoil(_: str, answer: dict[str, Any]) -> dict[str, Any]:
        return answer | {fact: "other"} if "pid" in answer else answer

    said = "no node of the cluster can play: it has another"
    with Rigged("a", spoil=spoil) as rig, pytest.raises(Refused, match=said):
        play_match(players[0], players[1], GAMES, SEED, hall=rig.hall)


def test_a_node_that_computes_otherwise_is_left_out(players, monkeypatch):
    load = MatchPlayer._load
    monkeypatch.setattr(MatchPlayer, "_load", lambda self, m, name, data, _: load(self, m, name, data, "0123"))
    with Rigged("a") as rig, pytest.raises(Refused, match="differ in their last bits from those of the head"):
        play_match(players[0], players[1], GAMES, SEED, hall=rig.hall)


def test_a_cluster_without_nodes_ends_with_a_sentence(players):
    with Rigged() as rig:
        threading.Timer(0.5, lambda: setattr(rig, "later", matches.START_SECONDS + 1)).start()
        with pytest.raises(Refused, match="no node of the cluster has played for 240 s"):
            play_match(players[0], players[1], GAMES, SEED, hall=rig.hall)


def test_games_that_end_every_player_end_the_match(players):
    def spoil(_: str, answer: dict[str, Any]) -> dict[str, Any]:
        rig.later += 3.0 if "games" in answer else 0.0
        return {"known": [], "crash": "Traceback\nBoom: no"} if "games" in answer else answer

    with Rigged("a", "b", spoil=spoil) as rig, pytest.raises(Refused, match="Boom: no"):
        play_match(players[0], players[1], 2, SEED, hall=rig.hall)


def test_a_fleet_that_fails_and_a_hall_that_closes_leave_nobody_waiting(players, monkeypatch):
    with Rigged("a") as rig:
        monkeypatch.setattr(rig.fleet, "answers", lambda _: 1 / 0)
        with pytest.raises(Refused, match="cannot be used any more"):
            play_match(players[0], players[1], GAMES, SEED, hall=rig.hall)
    with Rigged() as rig:
        threading.Timer(0.3, rig.hall.close).start()
        with pytest.raises(Refused, match="stopped before its games were over"):
            play_match(players[0], players[1], GAMES, SEED, hall=rig.hall)


def test_a_player_of_no_known_kind_cannot_be_handed_over(players):
    class Other:
        name, game = "other", GAME

        def choose(self, states: Any, keys: Any) -> Any:
            raise AssertionError((states, keys))

    with Rigged("a") as rig, pytest.raises(WrongRequest, match="other cannot be handed to a cluster"):
        play_match(players[0], Other(), 2, 1, hall=rig.hall)


def lines() -> Iterator[tuple[bytes, str]]:
    yield b"[[0,[0,3,1,4]]]", "is not over"
    yield b"[[0,[0,3,1,4,2,5]]]", "not legal"
    yield b"[[0,[0,0]]]", "not legal"
    yield b"[[0,[0,-1]]]", "not legal"
    yield b"[[0,[0,9]]]", "not legal"
    yield b"[[0,[4,3,1,0,7]]]", "its opening"
    yield b"[[0,[0,3,1,4,2,5,6,7,8,8]]]", "too long"
    yield b" " * 10_000, "no list of games"


@pytest.mark.parametrize(("data", "said"), list(lines()))
def test_what_comes_back_is_played_through(data, said):
    with pytest.raises(Refused, match=said):
        replayed(GAME, [(0, (0,))], data)


def test_a_game_that_was_played_counts():
    (record,) = replayed(GAME, [(0, (0,))], b"[[0,[0,3,1,4,2]]]")
    assert (record.number, record.a_is, record.opening, record.result) == (0, 0, 1, 1)


@pytest.mark.parametrize("words", [("arena", "random", "minimax:2", "--game", "tictactoe"), ("score", "tictactoe")])
def test_a_wrong_address_is_one_sentence(words):
    done = run_az(*words, "--cluster", "nowhere")
    assert done.code == 2
    assert "'nowhere' is no address of a cluster" in done.err


@pytest.mark.parametrize("words", [("arena", "random", "minimax:2", "--game", "tictactoe"), ("score", "tictactoe")])
def test_without_ray_it_is_one_sentence(words, tmp_path):
    """Also beside a folder of its name, as Ray itself makes one in /tmp."""
    if (found := find_spec("ray")) is not None and found.origin is not None:
        pytest.skip("ray is installed here")
    (tmp_path / "ray").mkdir()
    done = run_az_in(tmp_path, *words, "--cluster", "127.0.0.1:6379")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "ray is not installed, and --cluster needs it" in done.stderr
