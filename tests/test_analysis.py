"""`az analyze`, protocol 2: details, whole games, reports, priority, cancel, allowed moves; all by its JSON Schema."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

import jsonschema
import numpy as np
import psutil
import pytest
from command_line import run_az

from az.commands.analyze import analyze, usual_effort
from az.engine.analysis.answers import schema_text
from az.engine.analysis.desk import Desk
from az.engine.analysis.requests import Effort
from az.engine.analysis.work import Engine
from az.engine.errors import WrongRequest
from az.engine.game import ONGOING, Game, load_game
from az.engine.inference.evaluator import HashEvaluator
from az.engine.search.params import SearchParams
from az.engine.search.whole_moves import searcher, whole_results

JUMPS = "W:W31,K14:B9,10,17,18,26,25"  # a king that may jump in a circle, and branches
SCHEMA = json.loads(schema_text())
SEEN: set[str] = set()  # fields of answers, as "kind.field"


@cache
def validator(kind: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({"$ref": f"#/$defs/{kind}", "$defs": SCHEMA["$defs"]})


def checked(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer, which is as the schema says and of exactly one kind."""
    validator("answer").validate(answer)
    kinds = [ref["$ref"].rpartition("/")[2] for ref in SCHEMA["$defs"]["answer"]["oneOf"]]
    [kind] = [kind for kind in kinds if validator(kind).is_valid(answer)]
    SEEN.update(f"{kind}.{name}" for name in answer)
    SEEN.update(f"move.{name}" for move in answer.get("moves", []) for name in move)
    SEEN.update(f"engine.{name}" for name in answer.get("engine", {}))
    return answer


@cache
def game_of(name: str) -> Game:
    return load_game(name)


def desk_of(name: str = "connect4", usual: Effort | None = None) -> tuple[Desk, list[dict[str, Any]]]:
    game, told = game_of(name), list[dict[str, Any]]()
    engine = Engine(game, HashEvaluator(game), SearchParams())
    return Desk(engine, lambda answer: told.append(checked(json.loads(json.dumps(answer)))), usual or Effort()), told


def ask(name: str, *requests: dict[str, Any], usual: Effort | None = None) -> list[dict[str, Any]]:
    """The answers to requests, each of them valid by the schema."""
    for request in requests:
        validator("input").validate(request)
    game, out = game_of(name), io.StringIO()
    lines = io.BytesIO("\n".join(map(json.dumps, requests)).encode())
    assert analyze(game, HashEvaluator(game), SearchParams(), lines, out, usual) == 0
    return [checked(json.loads(line)) for line in out.getvalue().splitlines()]


def played(name: str, plies: int, seed: int = 3) -> list[str]:
    """A random game's first moves, none of which ends it."""
    game, draw = game_of(name), random.Random(seed)
    while True:
        state, moves = game.new_state(), list[str]()
        while len(moves) < plies and game.outcome(state) == ONGOING:
            text, hops = draw.choice(list(game.moves(state).items()))
            state = game.play(state, hops)
            moves.append(text)
        if game.outcome(state) == ONGOING:
            return moves


def alone(name: str, position: str | None, moves: list[str], sims: int) -> Any:
    """The answer of a search that nothing interrupts."""
    game = game_of(name)
    state = game.new_state() if position is None else game.parse_position(position)
    for move in moves:
        state = game.play(state, game.parse_move(state, move))
    search = searcher(game, HashEvaluator(game), SearchParams())
    return whole_results(game, [state], search([state], sims), search)[0]


@pytest.mark.parametrize(
    ("name", "position", "moves"),
    [("connect4", None, ["4", "4"]), ("checkers", JUMPS, []), ("checkers", None, []), ("othello6", None, [])],
)
def test_detail_adds_figures_of_every_move(name, position, moves):
    request = {"id": "d", "moves": moves, "sims": 60, **({"position": position} if position else {})}
    plain, detailed = ask(name, request, {**request, "detail": True})
    assert {key: detailed[key] for key in plain} == plain
    assert list(plain) == ["id", "move", "value", "policy", "prior", "sims", "pv", "model"]
    whole = alone(name, position, moves, 60)
    assert (plain["move"], plain["value"], plain["sims"]) == (whole.best.text, whole.value, whole.simulations)
    assert plain["policy"] == {move.text: move.share for move in whole.moves}
    listed = detailed["moves"]
    assert listed[0]["move"] == detailed["move"]
    assert listed[0]["line"] == detailed["pv"]
    assert {move["move"]: move["share"] for move in listed} == detailed["policy"]
    assert {move["move"]: move["prior"] for move in listed} == detailed["prior"]
    if position is None:
        assert sum(move["visits"] for move in listed) == 60
        assert all(len(move["line"]) > 1 for move in listed if move["visits"] > 1)
    game = game_of(name)
    for move in listed:
        state = game.new_state() if position is None else game.parse_position(position)
        for text in moves + move["line"]:
            state = game.play(state, game.moves(state)[text])
    assert detailed["to_move"] == 0 or position is not None
    assert detailed["proven"] is None
    assert detailed["engine"]["game_version"] == game.version


def test_a_proven_result_is_named():
    [answer] = ask("tictactoe", {"id": 1, "position": "1425", "sims": 50, "detail": True})
    assert answer["proven"] == "win"
    assert answer["moves"][0]["proven"] == "win"
    assert (answer["move"], answer["to_move"]) == ("3", 0)


def test_the_models_file_is_named_by_a_real_process():
    requests = [{"id": 1, "sims": 4, "detail": True}, {"id": "v", "action": "version"}]
    done = subprocess.run(
        [sys.executable, "-m", "az.cli", "analyze", "tictactoe", "--sims", "7"],
        input="\n".join(map(json.dumps, requests)), capture_output=True, text=True, timeout=240, check=True,
    )  # fmt: skip
    version, answer = sorted(map(checked, map(json.loads, done.stdout.splitlines())), key=lambda a: "move" in a)
    facts = version["engine"]
    assert facts == answer["engine"]
    assert (facts["model"], facts["precision"], version["default"]) == ("tictactoe", "fp32", {"sims": 7})
    assert os.path.isfile(facts["file"])
    assert len(facts["model_id"]) == 16


def test_seconds_or_sims_by_default():
    [simple] = ask("tictactoe", {"id": 1, "detail": True}, usual=Effort(9))
    assert simple["sims"] == 9
    [timed, said] = ask("connect4", {"id": 1, "detail": True}, {"id": 2, "sims": 3}, usual=Effort(seconds=0.05))
    assert timed["sims"] != 400
    assert timed["seconds"] >= 0.05
    assert said["sims"] == 3
    [version] = ask("tictactoe", {"id": 1, "action": "version"}, usual=Effort(seconds=2.5))
    assert version["default"] == {"seconds": 2.5}
    assert (usual_effort(None, None), usual_effort(5, None)) == (Effort(), Effort(5))
    for sims, seconds in ((1, 1.0), (-1, None), (None, 0.0), (None, float("nan"))):
        with pytest.raises(WrongRequest, match="--s"):
            usual_effort(sims, seconds)


def test_a_whole_game_in_one_request():
    moves = [*"1212121"]
    answers = ask(
        "connect4", {"id": "g", "moves": moves, "analyze_turns": "all", "sims": 20, "report_every": 3600},
        {"id": "h", "moves": moves, "analyze_turns": [7, 2], "sims": 20},
    )  # fmt: skip
    whole = {answer["turn"]: answer for answer in answers if answer["id"] == "g"}
    assert sorted(whole) == list(range(8))
    assert whole[7] == {"id": "g", "turn": 7, "over": True, "value": -1, "final": True}
    assert all(answer["final"] for answer in whole.values())
    for turn in range(7):
        assert whole[turn]["policy"] == {m.text: m.share for m in alone("connect4", None, moves[:turn], 20).moves}
    two = {answer["turn"]: answer for answer in answers if answer["id"] == "h"}
    assert sorted(two) == [2, 7]
    assert "final" not in two[2]


@pytest.mark.parametrize(("name", "until"), [("connect4", 1), ("connect4", 3), ("checkers", 3), ("othello6", 2)])
def test_avoided_moves_are_never_played(name, until):
    game = game_of(name)
    avoid = list(game.moves(game.new_state()))[1:3]
    request = {"id": 1, "sims": 200, "avoid": avoid, "until_depth": until, "detail": True}
    [answer] = ask(name, request)
    assert set(answer["policy"]) == set(game.moves(game.new_state())) - set(avoid)
    assert sum(answer["prior"].values()) == pytest.approx(1)
    assert sum(move["visits"] for move in answer["moves"]) == 200
    second = {move["line"][2] for move in answer["moves"] if len(move["line"]) > 2}
    assert (until < 3) or not second & set(avoid)
    [allowed] = ask(name, {**request, "avoid": [], "allow": list(answer["policy"]), "until_depth": 1})
    [same] = ask(name, {**request, "until_depth": 1})
    assert {**allowed, "seconds": 0} == {**same, "seconds": 0}


def test_only_restricted_nodes_lose_their_moves():
    """In the tree itself: two moves deep for the player at the root, none for the opponent."""
    from az.engine.analysis.work import Work

    desk, _ = desk_of("connect4")
    desk.accept(b'{"id": 1, "sims": 300, "avoid": ["4", "1"], "until_depth": 3}')
    work = Work(desk.engine, desk._next_batch(), 0.0)
    while not work.step():
        pass
    trees, sizes = work.batch.trees, dict[int, set[int]]()
    for node in range(int(trees.nodes_used[0])):
        depth, above = 0, node
        while above:
            depth, above = depth + 1, int(trees.node["parent"][0, above])
        if trees.node["num_edges"][0, node]:
            sizes.setdefault(min(depth, 3), set()).add(int(trees.node["num_edges"][0, node]))
    assert (sizes[0], sizes[2]) == ({5}, {5})
    assert sizes[1] == {7}
    assert 7 in sizes[3]


def test_jumps_that_share_their_first_hops_can_be_avoided():
    game = game_of("checkers")
    legal = game.moves(game.parse_position(JUMPS))
    first = [text for text, hops in legal.items() if sum(h[:1] == hops[:1] for h in legal.values()) > 1]
    for text in first:
        [answer] = ask("checkers", {"id": 1, "position": JUMPS, "sims": 80, "avoid": [text], "detail": True})
        assert set(answer["policy"]) == set(legal) - {text}
        assert answer["move"] != text
        assert answer["pv"][0] == answer["move"]
        [one] = ask("checkers", {"id": 1, "position": JUMPS, "sims": 80, "allow": [text]})
        assert (one["move"], one["policy"]) == (text, {text: 1.0})
    assert len(first) > 1


def test_a_forbidden_win_is_not_played_and_not_proven():
    [answer] = ask("tictactoe", {"id": 1, "position": "1425", "sims": 300, "avoid": ["3"], "detail": True})
    assert answer["move"] != "3"
    assert answer["proven"] != "win" or answer["moves"][0]["proven"] == "win"


def finish(desk: Desk) -> None:
    while desk.busy:
        desk.step()


def test_higher_priority_goes_first_and_interrupts_without_changing_an_answer():
    desk, told = desk_of()
    slow = {"id": "slow", "sims": 300, "moves": ["4"], "detail": True}
    desk.accept(json.dumps(slow).encode())
    for _ in range(50):
        desk.step()
    desk.accept(b'{"id": "low", "sims": 10, "priority": -5}')
    desk.accept(b'{"id": "high", "sims": 10, "priority": 5}')
    desk.step()
    desk.accept(b'{"id": "q", "action": "query"}')
    query = told.pop()
    assert query["outstanding"] == 3
    assert [(r["id"], r["state"]) for r in query["requests"]] == [
        ("high", "searching"), ("slow", "paused"), ("low", "waiting")
    ]  # fmt: skip
    finish(desk)
    assert [answer["id"] for answer in told] == ["high", "slow", "low"]
    [whole] = ask("connect4", slow)
    assert {**told[1], "seconds": 0} == {**whole, "seconds": 0}


def test_few_searches_are_begun_at_once():
    desk, told = desk_of()
    for priority in range(10):
        desk.accept(json.dumps({"id": priority, "sims": 50, "priority": priority}).encode())
        desk.step()
        assert len(desk.started) <= 4
    finish(desk)
    assert sorted(answer["id"] for answer in told) == list(range(10))


def test_cancelled_requests_end_with_one_line():
    desk, told = desk_of()
    game = {"id": "game", "moves": played("connect4", 12), "analyze_turns": "all", "sims": 100}
    for request in (game, {"id": 1, "sims": 100}, {"id": 2, "sims": 7}, {"id": 1, "sims": 9}):
        desk.accept(json.dumps(request).encode())
    desk.step()
    desk.accept(b'{"id": "c", "action": "cancel", "of": 1}')
    gone = {"id": 1, "cancelled": True}
    assert told == [gone, gone, {"id": "c", "action": "cancel", "of": 1, "cancelled": 2}]
    desk.accept(b'{"id": "c", "action": "cancel", "of": "none"}')
    assert told.pop()["cancelled"] == 0
    desk.accept(b'{"id": "all", "action": "cancel_all"}')
    assert told[3:] == [{"id": "game", "cancelled": True}, {"id": 2, "cancelled": True},
                        {"id": "all", "action": "cancel_all", "cancelled": 2}]  # fmt: skip
    assert not desk.busy
    assert desk.bytes == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"detail": 1}, "detail must be true or false, not 1"),
        ({"report_every": 0}, "report_every must be a number from 0.05 to 3600, not 0"),
        ({"report_every": "1"}, "report_every must be a number"),
        ({"report_every": 10**400}, "report_every must be a number"),
        ({"priority": 1001}, "priority must be a whole number from -1000 to 1000"),
        ({"priority": True}, "priority must be"),
        ({"analyze_turns": []}, "analyze_turns must be a list of plies"),
        ({"analyze_turns": "some"}, "analyze_turns must be a list of plies"),
        ({"analyze_turns": [2]}, "analyze_turns must hold whole numbers from 0 to 1 (the moves), not 2"),
        ({"analyze_turns": [-1]}, "analyze_turns must hold"),
        ({"analyze_turns": [1.0]}, "analyze_turns must hold"),
        ({"analyze_turns": [1, 1]}, "analyze_turns names a ply twice"),
        ({"allow": "4"}, "allow must be a list of strings, not a string"),
        ({"avoid": [4]}, "avoid must be a list of strings; entry 1 is a number"),
        ({"avoid": ["9"]}, "avoid: '9' is not a legal move here"),
        ({"allow": []}, "allow leaves no legal move here"),
        ({"allow": ["1"], "avoid": ["1"]}, "allow and avoid leaves no legal move"),
        ({"avoid": ["1"], "until_depth": 0}, "until_depth must be a whole number from 1 to 16"),
        ({"until_depth": 2}, "until_depth is for allow and avoid"),
        ({"avoid": ["1"], "analyze_turns": [0]}, "avoid is for one position"),
        ({"action": "stop"}, "action must be one of version, query, cancel, cancel_all"),
        ({"action": ["version"]}, "action must be one of"),
    ],
)
def test_a_bad_field_is_named_and_the_next_request_answered(change, words):
    request = {"id": 7, "sims": 1, "moves": ["4"], **change}
    desk, told = desk_of()
    desk.accept(json.dumps(request).encode())
    desk.accept(b'{"id": 8, "sims": 1}')
    finish(desk)
    bad, good = told
    assert bad["id"] == 7
    assert words in bad["error"]
    assert good["id"] == 8


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"id": 1, "action": "cancel"}, "of must be the id"),
        ({"id": 1, "action": "cancel", "of": None}, "not null"),
        ({"id": 1, "action": "query", "sims": 1}, 'unknown field "sims"'),
        ({"action": "version"}, "no id"),
    ],
)
def test_a_bad_action_is_named(request_, words):
    desk, told = desk_of()
    desk.accept(json.dumps(request_).encode())
    assert words in told[0]["error"]
    assert not validator("input").is_valid(request_)


def test_an_error_of_one_position_names_its_turn():
    class Refusing(HashEvaluator):
        def evaluate(self, planes, logits, values):
            from az.engine.errors import Refused

            if len(planes) and planes[:, :2].sum(axis=(1, 2, 3)).tolist().count(2):
                raise Refused("the network answered with a number that is not finite.")
            super().evaluate(planes, logits, values)

    desk, told = desk_of()
    desk.engine.evaluator = Refusing(desk.engine.game)
    desk.accept(json.dumps({"id": 1, "sims": 0, "moves": ["4"] * 4, "analyze_turns": "all"}).encode())
    finish(desk)
    assert sorted((answer["turn"], "error" in answer) for answer in told) == [
        (0, False), (1, False), (2, True), (3, False), (4, False)
    ]  # fmt: skip


def round_of_requests(number: int) -> list[dict[str, Any]]:
    """A hundred requests of mixed priority, every second one cancelled, and a whole game of 80 plies with reports."""
    draw, game = random.Random(number), played("checkers", 80)
    asked: list[dict[str, Any]] = [
        {"id": "game", "moves": game, "analyze_turns": "all", "sims": 20, "report_every": 0.05, "priority": 5}
    ]
    for i in range(100):
        request: dict[str, Any] = {"id": i, "sims": draw.choice([5, 20, 60]), "priority": draw.randint(-9, 9)}
        request["moves"] = game[: draw.randint(0, 60)]
        request["detail"] = i % 3 == 0
        if i % 7 == 0:
            request["seconds"] = 0.01
            del request["sims"]
        asked.append(request)
    draw.shuffle(asked)
    asked += [{"id": f"c{i}", "action": "cancel", "of": i} for i in range(1, 100, 2)]
    return asked


def test_a_hundred_requests_half_of_them_cancelled_and_a_whole_game_again_and_again():
    """Answered rightly, and the memory of the process does not grow from round to round."""
    with subprocess.Popen(
        [sys.executable, "-m", "az.cli", "analyze", "checkers"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        resident = list[int]()
        try:
            for number in range(5):
                for request in round_of_requests(number):
                    process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()
                _check_round(read_round(process.stdout))
                resident.append(psutil.Process(process.pid).memory_info().rss)
            process.stdin.write('{"id": "late", "sims": 30}')
            process.stdin.close()
            assert [json.loads(line)["id"] for line in process.stdout] == ["late"]
            assert process.wait(60) == 0
        finally:
            process.kill()
    print("resident after each round, MB:", [round(size / 1e6, 1) for size in resident])
    assert max(resident[2:]) - resident[1] < 20e6


def read_round(lines: Iterator[str]) -> list[dict[str, Any]]:
    answers, left = list[dict[str, Any]](), 100 + 81 + 50
    for line in lines:
        answer = checked(json.loads(line))
        answers.append(answer)
        left -= answer.get("final") is not False
        if left == 0:
            return answers
    raise AssertionError(f"the answers ended, {left} too early")


def _check_round(answers: list[dict[str, Any]]) -> None:
    game = played("checkers", 80)
    turns = {answer["turn"]: answer for answer in answers if answer["id"] == "game" and answer["final"]}
    assert sorted(turns) == list(range(81))
    assert all(turns[ply]["pv"] for ply in range(81))
    by_id = {answer["id"]: answer for answer in answers if answer["id"] != "game"}
    for i in range(100):
        assert by_id[i].get("cancelled") or by_id[i]["move"] in by_id[i]["policy"]
        assert i % 2 or "cancelled" not in by_id[i]
    gone = sum(by_id[f"c{i}"]["cancelled"] for i in range(1, 100, 2))
    assert gone == sum("cancelled" in by_id[i] for i in range(100))
    state = game_of("checkers").new_state()
    for ply, move in enumerate(game):
        assert set(turns[ply]["policy"]) == set(game_of("checkers").moves(state))
        state = game_of("checkers").play(state, game_of("checkers").moves(state)[move])
    assert np.isfinite([answer["value"] for answer in turns.values()]).all()


def test_reports_come_before_the_answer_and_deepen():
    desk, told = desk_of()
    desk.accept(b'{"id": 1, "seconds": 0.6, "report_every": 0.05, "detail": true}')
    finish(desk)
    *reports, last = told
    assert reports
    assert last["final"]
    assert not any(report["final"] for report in reports)
    sims = [answer["sims"] for answer in told]
    assert sims == sorted(sims)
    assert all(sum(move["visits"] for move in answer["moves"]) == answer["sims"] for answer in told)


def test_ctrl_c_ends_a_long_search():
    with subprocess.Popen(
        [sys.executable, "-m", "az.cli", "analyze", "connect4"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            process.stdin.write('{"id": 1, "seconds": 3000, "report_every": 0.05}\n')
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["final"] is False
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()


def test_the_schema_is_printed_and_sound():
    answer = run_az("analyze", "--schema")
    assert (answer.code, json.loads(answer.out)) == (0, SCHEMA)
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    wrong = run_az("analyze")
    assert wrong.code == 2
    assert "name a model" in wrong.err
    assert "exclude" in run_az("analyze", "connect4", "--sims", "1", "--seconds", "1").err


def test_the_answers_hold_every_field_of_the_schema():
    SEEN.clear()
    test_an_error_of_one_position_names_its_turn()
    test_a_whole_game_in_one_request()
    test_cancelled_requests_end_with_one_line()
    test_higher_priority_goes_first_and_interrupts_without_changing_an_answer()
    test_seconds_or_sims_by_default()
    kinds = ("analysis", "over", "error", "cancelled", "version", "query", "cancel_answer", "move", "engine")
    described = {f"{kind}.{name}" for kind in kinds for name in SCHEMA["$defs"][kind]["properties"]}
    assert described == SEEN
    asked = {name for test in (test_a_bad_field_is_named_and_the_next_request_answered,) for mark in test.pytestmark
             for change, _ in mark.args[1] for name in change}  # fmt: skip
    assert asked >= {*SCHEMA["$defs"]["request"]["properties"]} - {"id", "position", "moves", "sims", "seconds"}
