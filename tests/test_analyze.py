"""`az analyze`: JSON lines, word by word as the design has them, and whole moves in checkers."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Sequence

import numpy as np
import pytest
from hostile_values import bytes_changes, changes, mangled, mutated, values
from hypothesis import given, settings
from hypothesis import strategies as st

from az.commands.analyze import analyze
from az.engine.analysis import desk as desk_module
from az.engine.analysis import lines as lines_module
from az.engine.analysis.answers import MAX_SENTENCE
from az.engine.analysis.desk import Desk
from az.engine.analysis.json_lines import BadRequestError
from az.engine.analysis.lines import LineQueue, split_lines
from az.engine.analysis.requests import DEFAULT_SIMULATIONS, Effort, Request, read_request
from az.engine.analysis.work import Engine
from az.engine.errors import Refused
from az.engine.game import Game, State, load_game
from az.engine.inference.evaluator import HashEvaluator
from az.engine.search.params import UNKNOWN, SearchParams
from az.engine.search.result import SearchResult
from az.engine.search.whole_moves import whole_results

JUMPS = "W:W31,K14:B9,10,17,18,26,25"  # a king that may jump in a circle, and branches


def fake_search(game: Game):
    """A search without kernels: the visits fall on the actions in turn, the priors grow with the action's place."""

    def search(states: Sequence[State], simulations: int) -> list[SearchResult]:
        return [one(state, simulations) for state in states]

    def one(state: State, simulations: int) -> SearchResult:
        actions = np.flatnonzero(game.mask(state)).astype(np.int64)
        count = len(actions)
        visits = np.array([simulations // count + (i < simulations % count) for i in range(count)], np.int64)
        priors = np.arange(1, count + 1, dtype=np.float32)
        priors /= priors.sum()
        policy = visits / visits.sum() if simulations else priors.astype(np.float64)
        values = np.full(count, 0.25, np.float32)
        proven = np.full(count, UNKNOWN, np.int8)
        best = int(actions[int(np.argmax(policy))])
        return SearchResult(actions, visits, priors, values, proven, policy, 0.25, UNKNOWN, simulations, best, (best,))

    return search


def ask(game: Game, *requests: object, evaluator=None, params: SearchParams | None = None) -> list[dict]:
    lines = [r if isinstance(r, bytes) else json.dumps(r).encode() for r in requests]
    stdout, evaluator = io.StringIO(), evaluator or HashEvaluator(game)
    assert analyze(game, evaluator, params or SearchParams(), io.BytesIO(b"\n".join(lines)), stdout) == 0
    return [json.loads(line) for line in stdout.getvalue().splitlines()]


@pytest.fixture(scope="module")
def tictactoe() -> Game:
    return load_game("tictactoe")


@pytest.fixture(scope="module")
def checkers() -> Game:
    return load_game("checkers")


def test_answer_has_the_fields_of_the_design(tictactoe):
    [answer] = ask(tictactoe, {"id": "a", "moves": ["5"], "sims": 16})
    assert list(answer) == ["id", "move", "value", "policy", "prior", "sims", "pv", "model"]
    assert answer["id"] == "a"
    assert answer["sims"] == 16
    assert answer["pv"][0] == answer["move"]
    assert set(answer["policy"]) == set(answer["prior"]) == set("12346789")
    assert math.isclose(sum(answer["policy"].values()), 1.0)
    assert math.isclose(sum(answer["prior"].values()), 1.0)


def test_sims_have_a_default_and_seconds_take_their_place(tictactoe):
    requests = ({"id": 1}, {"id": 2, "seconds": 0.05}, {"id": 3, "sims": 400})
    answers = ask(tictactoe, *requests, params=SearchParams(solve=False))  # a proof would end a search earlier
    default, timed, other = sorted(answers, key=lambda answer: answer["id"])
    assert default["sims"] == 400
    assert {**default, "id": 3} == other
    assert timed["sims"] > 0
    assert sum(timed["policy"].values()) == pytest.approx(1)


def test_zero_sims_is_the_network_alone(tictactoe):
    [answer] = ask(tictactoe, {"id": 1, "sims": 0})
    assert answer["policy"] == pytest.approx(answer["prior"])
    assert answer["sims"] == 0


@pytest.mark.parametrize(
    ("request_", "identity", "words"),
    [
        (b"nonsense", None, "not valid JSON"),
        (b"[1]", None, "must be a JSON object"),
        (b'{"id": "\xff", "sims": 1}', None, "not UTF-8"),
        (b'{"id": 1, "sims": NaN}', None, "NaN is not a JSON number"),
        (b'{"id": 1, "sims": -Infinity}', None, "-Infinity is not a JSON number"),
        (b'{"id": 1e999, "sims": 1}', None, "too large"),
        (b'{"id": 1, "sims": 1, "sims": 2}', None, "given twice"),
        (b"[" * 100_000, None, "nested too deeply"),
        (b'{"id": ' + b"9" * 5000 + b', "sims": 1}', None, "not valid JSON"),
        ({"sims": 1}, None, "no id"),
        ({"id": True, "sims": 1}, None, "not a boolean"),
        ({"id": None, "sims": 1}, None, "not null"),
        ({"id": [1], "sims": 1}, None, "not a list"),
        ({"id": 2, "seconds": 0}, 2, "seconds must be a number above 0 and up to 3600, not 0"),
        ({"id": 2, "seconds": "1"}, 2, 'not "1"'),
        ({"id": 2, "seconds": True}, 2, "not true"),
        ({"id": 2, "seconds": 1, "sims": 1}, 2, "exclude each other"),
        ({"id": 2, "sims": True}, 2, "not true"),
        ({"id": 2, "sims": -1}, 2, "not -1"),
        ({"id": 2, "sims": 1.0}, 2, "not 1.0"),
        ({"id": 2, "sims": "8"}, 2, 'not "8"'),
        ({"id": 2, "sims": 1_000_001}, 2, "not 1000001"),
        ({"id": 2, "sims": 10**300}, 2, "such a large number"),
        ({"id": 2, "sims": 1, "fen": ""}, 2, 'unknown field "fen"'),
        ({"id": 2, "sims": 1, "position": None}, 2, "position must be a string, not null"),
        ({"id": 2, "sims": 1, "position": "11"}, 2, "not legal"),
        ({"id": 2, "sims": 1, "moves": "1"}, 2, "moves must be a list"),
        ({"id": 2, "sims": 1, "moves": [1]}, 2, "entry 1 is a number"),
        ({"id": 2, "sims": 1, "moves": ["1", "1"]}, 2, "move 2"),
        ({"id": 2, "sims": 1, "moves": ["1" * 100_000]}, 2, "move 1"),
        ({"id": 2.5, "sims": 1, "position": "14253"}, 2.5, "the game is over"),
    ],
)
def test_a_bad_request_gets_one_sentence_and_the_next_an_answer(tictactoe, request_, identity, words):
    bad, good = ask(tictactoe, request_, {"id": "next", "sims": 1})
    assert bad["id"] == identity
    assert words in bad["error"]
    assert len(bad["error"]) <= MAX_SENTENCE
    assert good["id"] == "next"
    assert "move" in good


REQUEST = {"id": 2, "position": "15", "moves": ["3", "7"], "sims": 8}
REQUESTS = st.one_of(
    st.binary(max_size=40),
    changes.map(lambda change: json.dumps(mutated(json.loads(json.dumps(REQUEST)), change)).encode()),
    bytes_changes.map(lambda change: mangled(json.dumps(REQUEST).encode(), change)),
    st.dictionaries(st.sampled_from(["id", "sims", "seconds", "position", "moves", "x"]), values).map(
        lambda fields: json.dumps(fields).encode()
    ),
)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(REQUESTS)
def test_any_line_is_a_request_or_one_sentence(line):
    game = load_game("tictactoe")
    told: list[dict] = []
    desk = Desk(Engine(game, HashEvaluator(game), SearchParams()), told.append, Effort())
    desk.accept(line)
    if not desk.waiting:
        with pytest.raises(BadRequestError) as caught:
            read_request(game, line)
        [answer] = told
        assert answer.keys() == {"id", "error"}
        assert answer["id"] == caught.value.identity
        assert 0 < len(answer["error"]) <= MAX_SENTENCE
        assert answer["error"].isprintable()
    else:
        [(_, task)], fields = desk.waiting, json.loads(line)
        request = task.request
        assert told == []
        assert request.identity == fields["id"]
        assert type(request.identity) in (str, int, float)
        assert game.mask(request.state).any()
        assert request.simulations == fields.get("sims", DEFAULT_SIMULATIONS)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.lists(st.binary(max_size=12) | st.sampled_from([b"\n", b"a\n", b"\nb", b"c" * 30]), max_size=12))
def test_lines_are_the_same_however_the_stream_is_cut(chunks):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines_module, "MAX_LINE", 20)
        found = list(split_lines(iter([chunk for chunk in chunks if chunk] + [b""]).__next__))
    lines = b"".join(chunks).split(b"\n")
    assert found == [line[:21] for line in (lines if lines[-1] else lines[:-1])]


def test_over_long_lines_are_refused_without_being_kept(tictactoe, monkeypatch):
    monkeypatch.setattr(lines_module, "MAX_LINE", 100)
    bad, good = ask(tictactoe, b'{"id": 1, "position": "' + b"1" * 300 + b'", "sims": 1}', {"id": 2, "sims": 1})
    assert "longer than 100 bytes" in bad["error"]
    assert good["id"] == 2
    chunks = iter([b"ab\ncd", b"e" * 500, b"f\n", b"\ng"])
    assert list(split_lines(lambda: next(chunks, b""))) == [b"ab", b"cd" + b"e" * 99, b"", b"g"]


def test_requests_with_the_same_sims_share_a_batch(tictactoe):
    def batches(*requests: dict) -> list[list]:
        desk = Desk(Engine(tictactoe, HashEvaluator(tictactoe), SearchParams()), lambda _: None, Effort())
        for request in requests:
            desk.accept(json.dumps(request).encode())
        found = []
        while desk.waiting:
            found.append([task.request.identity for task in desk._next_batch()])
        return found

    assert batches(*({"id": i, "sims": 8 if i % 2 else 4} for i in range(6))) == [[0, 2, 4], [1, 3, 5]]
    assert batches(*({"id": i, "sims": 1_000_000} for i in range(2))) == [[0], [1]]
    assert batches({"id": 0}, {"id": 1, "priority": 1}, {"id": 2}, {"id": 3, "avoid": ["1"]}) == [[1], [0, 2], [3]]
    assert batches({"id": 0, "seconds": 1}, {"id": 1}, {"id": 2, "seconds": 1}) == [[0], [1], [2]]
    assert len(batches(*({"id": i} for i in range(100)))[0]) == desk_module.MAX_BATCH


class Broken(HashEvaluator):
    """Refuses positions in which square 1 is taken."""

    def evaluate(self, planes, logits, values):
        if planes[:, :2, 0, 0].any():
            raise Refused("the network answered with a number that is not finite.")
        super().evaluate(planes, logits, values)


def test_one_broken_position_does_not_spoil_the_others(tictactoe):
    requests = [{"id": i, "sims": 0, "moves": ["1"] if i == 1 else []} for i in range(3)]
    answers = {answer["id"]: answer for answer in ask(tictactoe, *requests, evaluator=Broken(tictactoe))}
    assert "not finite" in answers[1]["error"]
    assert answers[0]["move"]
    assert answers[2]["move"]


def test_checkers_speaks_whole_moves(checkers):
    for sims in (0, 1, 50):
        [answer] = ask(checkers, {"id": 1, "position": JUMPS, "sims": sims})
        legal = set(checkers.moves(checkers.parse_position(JUMPS)))
        assert set(answer["policy"]) == set(answer["prior"]) == legal
        assert answer["move"] in legal
        assert answer["pv"][0] == answer["move"]
        assert math.isclose(sum(answer["policy"].values()), 1.0)
        assert math.isclose(sum(answer["prior"].values()), 1.0, rel_tol=1e-9)


def test_shares_of_hops_are_multiplied(checkers):
    root = checkers.parse_position(JUMPS)
    search = fake_search(checkers)
    [first] = search([root], 60)
    [whole] = whole_results(checkers, [root], [first], search)
    for action, visits in zip(first.actions, first.visits, strict=True):
        below = sum(move.share for move in whole.moves if move.actions[0] == action)
        assert below == pytest.approx(visits / first.visits.sum())
    branching = [move for move in whole.moves if len(move.actions) > 2]
    assert branching
    for move in branching:
        expected, hops, budget = 1.0, (), 60
        while len(hops) < len(move.actions):
            [result] = search([checkers.play(root, hops)], budget)
            index = int(np.flatnonzero(result.actions == move.actions[len(hops)])[0])
            expected *= result.visits[index] / result.visits.sum()
            budget = max(1, int(result.visits[index]))
            hops += (move.actions[len(hops)],)
        assert move.share == pytest.approx(expected)


def test_read_request_replays_the_moves(checkers):
    request = read_request(checkers, b'{"id": 1, "sims": 3, "moves": ["11-15", "22-18", "15x22"]}')
    assert isinstance(request, Request)
    assert request.simulations == 3
    assert set(checkers.moves(request.state)) == {"25x18", "26x17"}
    with pytest.raises(BadRequestError, match="move 1: '1-2' is not a legal move"):
        read_request(checkers, b'{"id": 1, "sims": 3, "moves": ["1-2"]}')


PROGRAM = """
import sys
import threading
from az.commands.analyze import analyze
from az.engine.inference.evaluator import UniformEvaluator
from az.engine.game import load_game
from az.engine.search.params import SearchParams
game = load_game("tictactoe")
sys.exit(analyze(game, UniformEvaluator(game), SearchParams(), sys.stdin.buffer, sys.stdout))
"""


def test_a_real_process_answers_at_once_and_ends_with_its_input():
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ}
    ) as process:
        assert process.stdin
        assert process.stdout
        for number in range(3):  # a lone request is answered while stdin stays open
            process.stdin.write(json.dumps({"id": number, "sims": 30, "position": "1425"}).encode() + b"\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            assert answer["id"] == number
            assert answer["move"] == "3"  # three in a row
        process.stdin.write(b'oops\n{"id": "last", "sims": 5}')
        process.stdin.close()
        last = {json.loads(line)["id"] for line in process.stdout.read().splitlines()}
        assert last == {None, "last"}
        assert process.wait(20) == 0


def test_the_real_search_gives_whole_moves(checkers):
    requests = [{"id": i, "position": JUMPS, "sims": 40} for i in range(2)]
    first, second = ask(checkers, *requests, params=SearchParams(noise_fraction=0.5))
    assert {**first, "id": 0} == {**second, "id": 0}  # no noise, no randomness
    assert first["sims"] == 40
    assert first["move"] in first["policy"]


FLOOD = """
import json, os, resource, subprocess, sys, time
child = subprocess.Popen(
    [sys.executable, "-m", "az.cli", "analyze", "connect4"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
)
first = json.dumps({"id": 0, "sims": 1_000_000}).encode() + b"\\n"
line = json.dumps({"id": "x" * 1_000_000, "sims": 1_000_000}).encode() + b"\\n"
os.set_blocking(child.stdin.fileno(), False)
left, sent, end = memoryview(first + 200 * line), 0, time.monotonic() + 12
while left and time.monotonic() < end:
    try:
        count = os.write(child.stdin.fileno(), left[: 1 << 16])
        left, sent = left[count:], sent + count
    except BlockingIOError:
        time.sleep(0.01)
child.kill()
_, _, used = os.wait4(child.pid, 0)
print(json.dumps([sent, used.ru_maxrss * 1024]))
"""


@pytest.mark.slow
def test_requests_behind_a_long_search_are_bounded_in_bytes():
    """Requests of a megabyte behind one search of a million simulations: the writer waits, memory does not grow."""
    done = subprocess.run([sys.executable, "-c", FLOOD], capture_output=True, text=True, check=True, timeout=120)
    sent, resident = json.loads(done.stdout)
    assert sent < 2 * (lines_module.MAX_WAITING_BYTES + (4 << 20)), "the writer must wait"
    print(f"{sent / 1e6:.0f} MB taken of 200, {resident / 1e6:.0f} MB resident")
    assert resident < 900_000_000


def test_the_queue_of_lines_is_bounded_in_number_and_bytes(monkeypatch):
    monkeypatch.setattr(lines_module, "MAX_WAITING", 3)
    monkeypatch.setattr(lines_module, "MAX_WAITING_BYTES", 10)
    queue, put = LineQueue(), []

    def fill():
        for line in (b"x" * 50, b"12345", b"12345", b"1", b"2", b"3", None):
            queue.put(line)
            put.append(line)

    thread = threading.Thread(target=fill)
    thread.start()
    taken, largest = [], 0
    while None not in taken:
        found = queue.take(1, wait=True)
        largest = max(largest, len(queue._lines))
        taken += found
    thread.join()
    assert taken == put
    assert largest <= 3
    assert queue._bytes == 0
    assert queue.take(5, wait=False) == []
