"""The scheduling of a cluster with real players and no Ray: nodes lost, silent, foreign, poisoned; numbers once."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cluster_rig import Rig
from make_models import write_model

from az.engine.game import load_game
from az.engine.inference import onnx_evaluator, precision
from az.engine.inference.model_file import ModelFile
from az.engine.inference.model_resolver import SHIPPED
from az.engine.inference.onnx_evaluator import OnnxEvaluator
from az.engine.records.format import FinishedGame, pack, parse_records, read_records, unpack
from az.engine.records.row_checks import check_records
from az.engine.selfplay.batch import SelfplayConfig
from az.engine.selfplay.to_files import selfplay_to_files
from az.train.cluster.dispatcher import MOST_STALE, SILENT_SECONDS
from az.train.cluster.fleet import Gone
from az.train.cluster.leases import MOST_LENT, Lease, Leases
from az.train.cluster.player import Player, PlayerJob, facts
from az.train.cluster.pool import HUNG_SECONDS, MOST_LOST, Bridge

GAME = load_game("tictactoe")
CONFIG = SelfplayConfig(simulations=8, fast_simulations=4, slots=4, precision="fp32")
SEED, COUNT = 5, 60


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "000000.onnx", "tictactoe")


@pytest.fixture(scope="module")
def alone(model, tmp_path_factory) -> bytes:
    """The same games by one process."""
    out = tmp_path_factory.mktemp("alone") / "out"
    selfplay_to_files(OnnxEvaluator(model, GAME), CONFIG, COUNT, SEED, out, 1)
    (path,) = out.iterdir()
    assert check_records(GAME, read_records(path, GAME)) == []
    return path.read_bytes()


def file_of(games: dict[int, FinishedGame]) -> bytes:
    return pack(GAME, [games[k] for k in sorted(games)], SEED, CONFIG.header())


def test_numbers_are_lent_once_and_again():
    leases = Leases(10, 20)
    assert leases.give("a", 8, "m") == [Lease(10, 8, "m")]
    assert leases.give("b", 8, "n") == [Lease(18, 8, "n")]
    assert leases.arrived("b", [(10, "m")]) is None  # not its own
    assert leases.arrived("a", [(10, "n")]) is None  # of another model
    assert leases.arrived("a", [(10, "m"), (10, "m")]) is None
    assert leases.arrived("a", []) is None
    ticket = leases.arrived("a", [(10, "m"), (12, "m")])
    assert ticket is not None
    assert leases.arrived("a", [(10, "m")]) is None  # a second time
    assert leases.end("a") == 6
    assert leases.arrived("a", [(11, "m")]) is None  # late
    assert leases.give("b", 7, "n") == [Lease(11, 1, "m"), Lease(13, 5, "m"), Lease(26, 1, "n")]
    leases.judged(ticket, False)  # the two of the file, too
    assert leases.left() == 5
    assert leases.give("b", 9, "n") == [Lease(10, 1, "m"), Lease(12, 1, "m"), Lease(27, 3, "n")]
    assert not leases.over()
    assert leases.models() == {"m", "n"}
    rest = [(k, "m") for k in range(10, 18)] + [(k, "n") for k in range(18, 29)]
    second = leases.arrived("b", rest)
    assert second is not None
    assert not leases.failed("b", 10, "B")  # it has handed that in
    assert not leases.failed("b", 29, "B")
    assert leases.give("b", 1, "n", "B") == []  # another node is to try it
    assert leases.left() == 1
    assert leases.give("c", 9, "n", "C") == [Lease(29, 1, "n")]
    assert leases.failed("c", 29, "C")
    assert leases.left() == 0
    assert not leases.over()  # not judged yet
    leases.judged(second, True)
    assert leases.over()
    assert leases.models() == set()


def test_one_node_makes_the_bytes_of_one_process(model, alone):
    rig = Rig(GAME, model, CONFIG, SEED)
    rig.node("a")
    assert file_of(rig.play(0, COUNT)) == alone
    assert rig.simulations > COUNT * 8
    assert rig.twice == []
    first = rig.simulations
    rig.games.clear()
    rig.play(COUNT, 10)  # and a second set, of the same players
    assert sorted(rig.games) == list(range(COUNT, COUNT + 10))
    assert rig.simulations > first
    rig.fleet.close()


@pytest.mark.parametrize("seed", range(3))
def test_nodes_that_come_and_go_change_no_byte(model, alone, seed):
    rng = random.Random(seed)
    rig = Rig(GAME, model, CONFIG, SEED)
    rig.node("a")
    rig.dispatcher.supply(0, COUNT)
    number = 0
    for _ in rig.rounds():
        if number < 3 and rng.random() < 0.2:
            number += 1
            if rig.fleet.there and rng.random() < 0.7:
                rig.fleet.there.pop(rng.randrange(len(rig.fleet.there)))
            rig.node(f"b{number}", rng.randint(1, 2))
            rig.now += 3.0  # the dispatcher looks at once
    assert file_of(rig.games) == alone
    assert rig.twice == []
    rig.fleet.close()


def test_a_silent_player_is_given_up_and_its_late_games_are_dropped(model, alone):
    rig = Rig(GAME, model, CONFIG, SEED)
    rig.node("a")
    rig.node("b")
    rig.dispatcher.supply(0, COUNT)
    silenced = ""
    late: dict[str, Any] = {}
    for done in rig.rounds():
        if not silenced and rig.dispatcher.seats and done:
            silenced = next(iter(rig.dispatcher.seats))
            rig.fleet.silent.add(silenced)
            seat = rig.dispatcher.seats[silenced]
            future = next((f for f, name in rig.fleet.asked.items() if name == silenced), None)
            late = future.result(30) if future is not None else {}
            rig.now += SILENT_SECONDS + 1
            rig.dispatcher.step(0.0)
            assert silenced not in rig.dispatcher.seats
            rig.dispatcher._hear(seat, late)  # what an actor that was given up sends after all
    assert silenced
    assert file_of(rig.games) == alone
    assert rig.twice == []
    assert any("has said nothing for 60 s" in text for text in rig.said)
    rig.fleet.close()


def poisoned(data: bytes, how: str, seed: int = SEED) -> bytes:
    records = parse_records(Path("file"), data, GAME)
    games, search = unpack(records), records.header["search"]
    row = games[0].rows[0]
    if how == "nan":
        row = replace(row, root_value=float("nan"))
    elif how == "illegal":
        row = replace(row, actions=row.actions[::-1].copy())
    elif how == "seed":
        return pack(GAME, games, SEED + 1, CONFIG.header())
    elif how == "numbers":
        return pack(GAME, [replace(game, k=game.k + 10_000) for game in games], SEED, CONFIG.header())
    elif how == "game":
        others = [replace(game, rows=[], outcomes=[]) for game in games]
        return pack(load_game("connect4"), others, SEED, CONFIG.header())
    elif how == "search":
        return pack(GAME, games, SEED, replace(CONFIG, simulations=1).header())
    elif how == "bytes":
        return data[: len(data) // 2] + b"?" + data[len(data) // 2 + 1 :]
    games[0] = replace(games[0], rows=[row, *games[0].rows[1:]])
    return pack(GAME, games, seed, search)


@pytest.mark.parametrize("how", ["nan", "illegal", "seed", "search", "numbers", "game", "bytes"])
def test_a_poisoned_node_is_left_out_and_the_games_are_sound(model, alone, how):
    def spoil(node: str, answer: dict[str, Any]) -> dict[str, Any]:
        if node == "bad" and answer.get("files"):
            answer["files"] = [(poisoned(data, how), stats) for data, stats in answer["files"]]
        return answer

    rig = Rig(GAME, model, CONFIG, SEED, spoil)
    rig.node("bad")
    refused = []

    def judge(data: bytes) -> bool:  # as the run does
        try:
            records = parse_records(Path("file"), data, GAME)
        except Exception as error:
            refused.append(str(error))
            return False
        bad = check_records(GAME, records)
        refused.extend(fault.reason for fault in bad)
        return not bad

    rig.judge = judge
    rig.dispatcher.supply(0, COUNT)
    joined = False
    for _ in rig.rounds():
        rig.now += 0.5
        if len(refused) >= 2:
            rig.dispatcher.refuse("bad", "its files are bad.")
        if rig.dispatcher.places["bad"].refused and not joined:
            joined = True
            rig.node("good")
            rig.now += 3.0
    assert joined
    assert file_of(rig.games) == alone
    assert any("node bad is left out" in text for text in rig.said)
    if how in ("seed", "search", "numbers"):
        assert rig.dispatcher.places["bad"].stale >= MOST_STALE
    else:
        assert refused
    rig.fleet.close()


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        ({"engine": "0000"}, "it has another az"),
        ({"game_version": 99}, "it has another game_version"),
        ({"game": "othello"}, "it has another game"),
    ],
)
def test_a_node_with_other_sources_is_left_out(model, expected, said):
    rig = Rig(GAME, model, CONFIG, SEED, expected=facts(GAME) | expected)
    rig.node("a")
    rig.dispatcher.supply(0, 1)
    rounds = rig.rounds(60)
    while not any(said in text for text in rig.said):
        next(rounds)
    assert rig.dispatcher.places["a"].refused
    assert rig.dispatcher.seats == {}
    assert rig.games == {}
    rig.fleet.close()


def test_a_node_that_answers_otherwise_is_left_out(model):
    rig = Rig(GAME, model, CONFIG, SEED, answers="0123456789abcdef")
    rig.node("a")
    rig.dispatcher.supply(0, 1)
    rounds = rig.rounds(60)
    while not any("differ in their last bits from those of the head" in text for text in rig.said):
        next(rounds)
    assert rig.games == {}
    rig.fleet.close()


def test_players_that_end_again_and_again_leave_their_node_out(model):
    rig = Rig(GAME, model, CONFIG, SEED, lambda _, answer: Gone("ended") if "files" in answer else answer)
    rig.node("a")
    rig.dispatcher.supply(0, COUNT)
    rounds = rig.rounds(60)
    while not any("its players end again and again, the last: ended" in text for text in rig.said):
        next(rounds)
        rig.now += 3.0
    assert rig.dispatcher.leases.left() == COUNT
    rig.fleet.close()


@pytest.mark.parametrize("rubbish", [3, [], {"files": 7}, {"files": [1], "faults": 0}, {"files": [], "faults": []}])
def test_a_node_that_sends_rubbish_is_left_out(model, alone, rubbish):
    rig = Rig(
        GAME, model, CONFIG, SEED, lambda node, answer: rubbish if node == "bad" and "pid" not in answer else answer
    )
    rig.node("bad")
    rig.dispatcher.supply(0, COUNT)
    for _ in rig.rounds():
        if rig.dispatcher.places["bad"].refused and len(rig.fleet.there) == 1:
            rig.node("good")
            rig.now += 3.0
    assert file_of(rig.games) == alone
    assert any("node bad is left out: it sent an answer that cannot be read" in text for text in rig.said)
    rig.fleet.close()


def test_a_player_that_answers_and_does_not_play_is_given_up(model):
    def idle(_: str, answer: dict[str, Any]) -> dict[str, Any]:
        if "files" not in answer:
            return answer
        rig.now += 20.0  # from one answer to the next
        return answer | {"files": [], "walks": 0}

    rig = Rig(GAME, model, CONFIG, SEED, idle)
    rig.node("a")
    rig.dispatcher.supply(0, COUNT)
    rounds = rig.rounds(60)
    while not any("has made no simulation for 600 s" in text for text in rig.said):
        next(rounds)
    assert not any("has said nothing" in text for text in rig.said)
    assert rig.games == {}
    rig.fleet.close()


def test_what_a_player_wants_has_an_end_and_who_has_gone_is_forgotten():
    leases = Leases(0)
    for _ in range(5):
        leases.give("a", 10**9, "m")
    assert leases.next_number == MOST_LENT
    ticket = leases.arrived("a", [(0, "m")])
    assert ticket is not None
    leases.end("a")
    assert not leases.holds("a")
    leases.judged(ticket, True)
    assert leases._players == {}
    assert sum(lease.count for lease in leases.give("b", -5, "m")) == 0


def test_a_node_plays_in_the_head_s_precision_or_is_left_out(monkeypatch):
    """The head has decided for int8: a node whose CPU would not choose it plays it; one that cannot is left out."""
    monkeypatch.setattr(precision, "int8_feature", lambda: None)
    model = SHIPPED / "connect4.int8.onnx"
    head = ModelFile(model)
    player = Player(PlayerJob("connect4", CONFIG, SEED), lambda handle: handle)
    orders = {
        "models": {head.model_id: ("m", head.data, None)},
        "leases": [],
        "more": False,
        "paused": False,
        "wait": 0,
    }
    assert player.exchange(orders)["known"] == [head.model_id]
    loaded = player._models[head.model_id]
    assert isinstance(loaded, OnnxEvaluator)
    assert loaded.precision == "int8"
    rig = Rig(load_game("connect4"), model, CONFIG, SEED)
    monkeypatch.setitem(onnx_evaluator.TOLERANCE, "int8", -1.0)  # now it computes otherwise than the file says
    rig.node("a")
    rig.dispatcher.supply(0, 1)
    rounds = rig.rounds(60)
    while not any("node a is left out: model" in text and "differ" in text for text in rig.said):
        next(rounds)
    rig.fleet.close()


def test_a_pause_is_heard(model):
    rig = Rig(GAME, model, replace(CONFIG, simulations=100, fast_simulations=100), SEED, exact=False)
    rig.node("a")
    rig.dispatcher.supply(0)
    rounds = rig.rounds(120)
    while len(rig.games) < 5:
        next(rounds)
    rig.dispatcher.paused = True
    (player,) = [player for player, _ in rig.fleet.players.values()]
    while not player._paused:
        next(rounds)
    assert player._batches is not None
    before = player._batches.simulations
    assert [next(rounds) for _ in range(10)]
    assert player._batches.simulations - before <= 2000  # of the step that was under way
    assert player._want() >= 0
    rig.dispatcher.paused = False
    count = len(rig.games)
    while len(rig.games) < count + 5:
        next(rounds)
    figures = rig.dispatcher.figures()
    assert figures[0]["node"] == "a"
    assert figures[0]["games"] == len(rig.games)
    rig.fleet.close()


def test_a_bridge_that_hangs_is_started_again():
    ours, theirs = multiprocessing.Pipe()
    said: list[str] = []
    bridge: Any = object.__new__(Bridge)
    bridge._start = SimpleNamespace(stopping=lambda: False, report=said.append, note=lambda *_: None)
    bridge._pipe, bridge._process, bridge._address = ours, None, "host:1"
    bridge.ready = bridge._was_ready = True
    bridge._losses = deque(maxlen=MOST_LOST)
    bridge._lost_at, bridge.lost, bridge._heard = 0.0, 0, time.monotonic() - HUNG_SECONDS - 1
    assert bridge.read(0.0) is None
    assert (bridge.ready, bridge.lost) == (False, 1)
    assert "was lost (it has said nothing for 120 s): joining it again" in said[0]
    theirs.close()
