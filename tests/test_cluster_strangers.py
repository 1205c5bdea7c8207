"""What a node may say and do: games given up without proof, absurd wishes, objects; it harms neither games nor run."""

from __future__ import annotations

import json
import multiprocessing
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cluster_rig import Rig, RigBridge
from command_line import run_az
from make_models import write_model
from run_tools import settings
from test_cluster import CONFIG, COUNT, GAME, SEED, file_of, poisoned
from test_run import log_lines

from az.engine.errors import Refused
from az.engine.inference.onnx_evaluator import OnnxEvaluator
from az.engine.records.format import pack, parse_records, unpack
from az.engine.selfplay.checks import SearchFault
from az.engine.selfplay.to_files import selfplay_to_files
from az.train.cluster.answers import MOST_COUNT, read_answer
from az.train.cluster.dispatcher import LENT_BEFORE, MOST_FAULTS, MOST_REFUSED, START_SECONDS
from az.train.cluster.fleet import Node
from az.train.cluster.player import PACE_SECONDS, SPARE, Player, PlayerJob
from az.train.cluster.pool import MOST_BAD, MOST_LOST, Bridge

EMPTY: dict[str, Any] = {"files": [], "faults": [], "lost": [], "want": 0, "known": [], "alive": 0, "walks": 0}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "000000.onnx", "tictactoe")


@pytest.fixture(scope="module")
def alone(model, tmp_path_factory) -> bytes:
    out = tmp_path_factory.mktemp("alone") / "out"
    selfplay_to_files(OnnxEvaluator(model, GAME), CONFIG, COUNT, SEED, out, 1)
    (path,) = out.iterdir()
    return path.read_bytes()


def fault_of(k: int) -> dict[str, Any]:
    state = GAME.new_state().tolist()
    return asdict(SearchFault("network-output-not-finite", k, 0, "m", state, "it says so"))


class Liar:
    """A node that gives up all that it is lent. faults: told with each game."""

    def __init__(self, faults: int, names: tuple[str, ...] = ("bad",), only: int | None = None) -> None:
        self.rig: Rig | None = None
        self.faults, self.names, self.only = faults, names, only
        self.given_up: list[int] = []

    def __call__(self, node: str, answer: dict[str, Any]) -> dict[str, Any]:
        if node not in self.names or "files" not in answer or self.rig is None:
            return answer
        players = self.rig.dispatcher.leases._players
        lent = [k for seat in self.rig.dispatcher.seats.values() if seat.node.id == node
                for k in (players[seat.name].lent if seat.name in players else {})]  # fmt: skip
        lost = [k for k in lent if self.only in (None, k)]
        self.given_up += lost
        files = [] if self.only is None else [self.without(self.only, *file) for file in answer["files"]]
        return {
            **answer,
            "files": [file for file in files if file],
            "lost": lost,
            "faults": [fault_of(k) for k in lost for _ in range(self.faults)],
        }

    def without(self, k: int, data: bytes, stats: dict[str, Any]) -> tuple[bytes, dict[str, Any]] | None:
        """A file as if this game had not been played."""
        games = [game for game in unpack(parse_records(Path("file"), data, GAME)) if game.k != k]
        return (pack(GAME, games, SEED, CONFIG.header()), stats) if games else None


def lying(model: Path, liar: Liar) -> Rig:
    liar.rig = Rig(GAME, model, CONFIG, SEED, liar)
    return liar.rig


def test_games_given_up_without_a_word_why_are_played_by_others(model, alone):
    rig = lying(model, liar := Liar(0))
    rig.node("bad")
    rig.node("good")
    assert file_of(rig.play(0, COUNT)) == alone
    assert liar.given_up
    assert any("node bad is left out: it gives up game" in text for text in rig.said)
    assert rig.dispatcher.places["bad"].lost == 0
    rig.fleet.close()


def test_games_given_up_with_faults_are_few_and_played_by_others(model, alone):
    rig = lying(model, Liar(2))
    rig.node("bad")
    rig.node("good")
    assert file_of(rig.play(0, COUNT)) == alone
    place = rig.dispatcher.places["bad"]
    assert place.faults == MOST_FAULTS
    assert f"{MOST_FAULTS} searches failed on it, the last: it says so" in place.refused
    assert not rig.dispatcher.places["good"].refused
    rig.fleet.close()


def test_a_game_that_one_node_cannot_play_is_played_by_another(model, alone):
    rig = lying(model, Liar(2, only=7))
    rig.node("bad")
    rig.dispatcher.supply(0, COUNT)
    for _ in rig.rounds():
        if rig.dispatcher.places["bad"].lost and len(rig.fleet.there) == 1:
            rig.node("good")
            rig.now += 3.0
            rig.dispatcher.step(0.0)
    figures = {one["node"]: one for one in rig.dispatcher.figures()}
    if 7 in rig.games:  # the other has come before the first had it a second time
        assert file_of(rig.games) == alone
        assert figures["bad"]["lost"] == 1
        assert "game 7 could not be played on node bad and is played again elsewhere" in rig.said
    else:
        assert figures["bad"]["faults"] >= MOST_FAULTS
    assert figures["good"]["lost"] == 0
    rig.fleet.close()


def test_a_game_that_two_nodes_cannot_play_is_given_up(model):
    rig = lying(model, Liar(1, names=("a", "b"), only=7))
    rig.node("a")
    rig.node("b")
    rig.play(0, COUNT)
    assert sorted(rig.games) == [k for k in range(COUNT) if k != 7]
    assert sorted(one["lost"] for one in rig.dispatcher.figures()) == [1, 1]
    assert any("could not be played on node" in text and "for the second time" in text for text in rig.said)
    assert not any("is left out: its" in text or "is left out: 3" in text for text in rig.said)
    lost = [values for kind, values in rig.notes if values.get("event") == "lost a game"]
    assert {values["node"] for values in lost} == {"a", "b"}
    rig.fleet.close()


def test_a_node_gets_no_more_numbers_than_it_plays_whatever_it_wants(model):
    rig = Rig(GAME, model, CONFIG, SEED, lambda _, a: a | {"want": MOST_COUNT} if "files" in a else a)
    rig.node("greedy")
    rig.dispatcher.supply(0)
    rounds = rig.rounds()
    most = 0
    while len(rig.games) < COUNT:
        next(rounds)
        (seat,) = rig.dispatcher.seats.values()
        most = max(most, rig.dispatcher.leases.lent(seat.name) - 2 * seat.games)
    assert 0 < most <= 2 * CONFIG.slots + LENT_BEFORE
    rig.fleet.close()


def test_a_player_asks_for_no_more_than_it_will_begin_soon():
    """The games that it begins at first say nothing of its pace, and a number lent ahead is bound to an old model."""
    player = Player(PlayerJob(GAME.name, CONFIG, SEED), lambda handle: handle)
    assert player._want() == CONFIG.slots + SPARE
    player._flying, player._asked = CONFIG.slots, player._asked - 0.5
    assert player._want() == SPARE  # all begun, none ended
    player._ended, player._asked = 40, time.monotonic() - PACE_SECONDS
    assert 30 <= player._want() <= 40 + SPARE  # ten a second, for four seconds


class Pickled:
    def __reduce__(self) -> tuple[Any, ...]:
        raise AssertionError("the learner's process was sent an object of a node")


HOSTILE = [
    {"walks": float("inf")}, {"walks": -1}, {"walks": True}, {"want": "9"}, {"alive": None}, {"known": [1]},
    {"known": {"m"}}, {"lost": [2**70]}, {"lost": [Pickled()]}, {"files": [(b"", {})] * 9}, {"files": [b"x"]},
    {"files": [(bytearray(9), {"rows": 1, "simulations": 1})]}, {"files": [(b"x", {"rows": Pickled()})]},
    {"faults": [Pickled()]}, {"faults": [{**fault_of(0), "cause": "made up"}]}, {"faults": [{"k": 0}]},
    {"faults": [{**fault_of(0), "state": [0.5]}]}, {"faults": [{**fault_of(0), "text": 5}]}, {"error": Pickled()},
    {"refused": 3},
]  # fmt: skip


@pytest.mark.parametrize("said", HOSTILE, ids=range(len(HOSTILE)))
def test_an_answer_of_other_things_than_plain_values_is_refused(said):
    assert read_answer(EMPTY).want == 0
    with pytest.raises(ValueError, match=r"\w"):
        read_answer(EMPTY | said)


def test_texts_of_a_node_are_made_fit_for_a_terminal(model):
    rig = Rig(GAME, model, CONFIG, SEED, lambda _, a: a | {"error": "x\n\x1b[2J" + "y" * 10**6} if "files" in a else a)
    rig.node("a")
    rig.dispatcher.supply(0, 1)
    rounds = rig.rounds(60)
    while not any("ended: " in text for text in rig.said):
        next(rounds)
    assert all(text.isprintable() and len(text) < 500 for text in rig.said)
    assert len(json.dumps(rig.notes)) < 20_000
    rig.fleet.close()


def test_a_machine_whose_nodes_are_left_out_again_and_again_is_left_out_when_it_joins(model):
    rig = Rig(GAME, model, CONFIG, SEED, lambda _, answer: answer | {"walks": "?"} if "files" in answer else answer)
    rig.dispatcher.supply(0, 1)
    for number in range(MOST_REFUSED + 1):
        rig.fleet.there[:] = [Node(f"n{number}", f"n{number}", 1, 0, "10.0.0.9")]
        rounds = rig.rounds(60)
        while f"n{number}" not in rig.dispatcher.places or not rig.dispatcher.places[f"n{number}"].refused:
            next(rounds)
            rig.now += 1.0
    last = rig.dispatcher.places[f"n{MOST_REFUSED}"]
    assert f"nodes of its machine were left out {MOST_REFUSED} times" in last.refused
    assert not any(seat.node.id == last.node.id for seat in rig.dispatcher.seats.values())
    rig.fleet.close()


def test_a_node_without_a_free_core_is_waited_for(model, monkeypatch):
    """Another run has its cores: that is said once, and the node is taken when they are free."""
    rig = Rig(GAME, model, CONFIG, SEED)
    rig.node("a")
    rig.dispatcher.supply(0, COUNT)
    monkeypatch.setattr(rig.fleet, "start", lambda *_: None)
    for _ in range(8):
        rig.dispatcher.step(0.0)
        rig.now += START_SECONDS + 1
    assert [text for text in rig.said if "do others use its cores?" in text] == [
        "node a has started no player for 240 s: do others use its cores?"
    ]
    monkeypatch.undo()
    for _ in rig.rounds():
        rig.now += 1.0
    assert len(rig.games) == COUNT
    rig.fleet.close()


@pytest.fixture
def in_one_process(monkeypatch, tmp_path) -> type[RigBridge]:
    """`az train --cluster` with the nodes of `RigBridge` in the place of Ray's."""
    kind = type("Bridge", (RigBridge,), {"made": []})
    monkeypatch.setattr("az.train.cluster.pool.Bridge", kind)
    monkeypatch.setattr("az.train.cluster.request.check_address", lambda _: None)
    monkeypatch.chdir(tmp_path)
    return kind


def train(steps: int) -> Any:
    small = settings(checkpoint_steps=1000, selfplay__precision="fp32")
    return run_az("train", "tictactoe", "--run", "t", "--seed", str(SEED), "--steps", str(steps), *small,
                  "--cluster", "here:1")  # fmt: skip


@pytest.mark.parametrize("how", ["nan", "bytes"])
def test_a_run_is_not_stopped_by_the_files_of_one_bad_node(in_one_process, tmp_path, monkeypatch, how):
    def spoil(node: str, answer: dict[str, Any]) -> dict[str, Any]:
        if node == "bad" and answer.get("files"):
            answer["files"] = [(poisoned(data, how, SEED), stats) for data, stats in answer["files"]]
        return answer

    in_one_process.spoil = staticmethod(spoil)
    in_one_process.names = ("good", "bad")
    monkeypatch.setattr("az.train.cluster.dispatcher.LOOK_EVERY", 0.1)  # seconds without a player after a bad file
    done = train(400)
    assert done.code == 0, done.err
    run = tmp_path / "runs" / "t"
    assert len(list((run / "quarantine").glob("*.npz"))) == MOST_BAD
    assert len(list((run / "health").glob("incident-*"))) == MOST_BAD
    (line,) = [line for line in log_lines(run) if line["kind"] == "node" and line["event"] == "left out"]
    assert line["node"].startswith("bad")


def test_a_run_is_not_stopped_by_the_faults_of_one_bad_node_and_its_doctor_names_it(in_one_process, tmp_path):
    told: set[int] = set()  # a busy machine answers twice before a game ends, and one game is one incident

    def spoil(node: str, answer: dict[str, Any]) -> dict[str, Any]:
        if node == "bad" and "files" in answer:
            players = in_one_process.made[0].dispatcher.leases._players.items()
            seats = in_one_process.made[0].dispatcher.seats
            held = [k for name, one in players if seats[name].node.id == node for k in one.lent if k not in told]
            answer["faults"] = [fault_of(k) for k in held[:1]]
            told.update(held[:1])
        return answer

    in_one_process.spoil = staticmethod(spoil)
    in_one_process.names = ("good", "bad")
    done = train(120)
    assert done.code == 0, done.err
    run = tmp_path / "runs" / "t"
    assert any(line["kind"] == "node" and line["event"] == "left out" for line in log_lines(run))
    assert len(list((run / "health").glob("incident-*"))) == MOST_FAULTS
    page = run_az("doctor", "runs/t/health/incident-0001", "--no-replay").out
    assert "on node bad (10.0.0.1, bad)" in " ".join(page.split())


def test_a_run_without_a_node_that_plays_ends_with_a_sentence(in_one_process, monkeypatch):
    monkeypatch.setattr("az.train.cluster.pool.LOST_SECONDS", 3.0)
    in_one_process.spoil = staticmethod(lambda _, answer: answer | {"walks": "?"} if "files" in answer else answer)
    done = train(120)
    assert done.code == 1
    assert "no node of the Ray cluster has played for" in done.err
    assert "the last was left out: it sent an answer that cannot be read: a number lies outside" in done.err
    assert "`az resume` goes on with the run" in done.err


class Endless:
    """A bridge's process that ends at once, whenever it is started."""

    pid, exitcode = 1, 1

    def __init__(self, _: object, args: tuple[Any, ...]) -> None:
        self.pipe = args[1]

    def start(self) -> None:
        self.pipe.send(("ready",))
        self.pipe.send(("crash", "Traceback\nIt fell over."))
        self.pipe.close()

    def join(self, timeout: float = 0.0) -> None: ...

    def end(self) -> None: ...


def test_a_bridge_that_ends_again_and_again_ends_the_run(monkeypatch, model):
    monkeypatch.setattr("az.train.cluster.pool.Child", Endless)
    monkeypatch.setattr("az.train.cluster.pool.AGAIN_SECONDS", 0.0)
    said: list[str] = []
    config = SimpleNamespace(game=GAME.name, selfplay=CONFIG, seed=0, provider="cpu", workers=0)
    folder = SimpleNamespace(models=model.parent)
    start: Any = SimpleNamespace(config=config, folder=folder, report=said.append, stopping=lambda: False)
    start.note = lambda *_: None
    bridge = Bridge(start, "here:1", 0)

    def read_on() -> None:
        while len(said) < 50:
            bridge.read(0.01)

    with pytest.raises(Refused, match=r"was lost 10 times within 10 minutes, the last time: It fell over; `az resume`"):
        read_on()
    assert len(said) == MOST_LOST - 1


def test_a_pause_is_told_to_a_bridge_that_is_started_later(monkeypatch, model):
    told: list[tuple[Any, ...]] = []
    monkeypatch.setattr(Bridge, "_launch", lambda _: None)
    monkeypatch.setattr(Bridge, "send", lambda _, *message: told.append(message))
    config = SimpleNamespace(game=GAME.name, selfplay=CONFIG, seed=0, provider="cpu", workers=0)
    start: Any = SimpleNamespace(config=config, folder=SimpleNamespace(models=model.parent))
    bridge: Any = Bridge(start, "here:1", 0)
    bridge.pause(True)
    bridge._pipe, theirs = multiprocessing.Pipe()
    told.clear()  # what was said before is lost
    theirs.send(("ready",))
    assert bridge.read(5.0) is None
    assert told == [("pause", True)]
