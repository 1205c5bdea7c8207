"""`az analyze`, protocol 2: details, whole games, priority, cancel, allowed moves; all by its JSON Schema."""

from __future__ import annotations

import json
import re

import jsonschema
import pytest
from analysis_client import JUMPS, SCHEMA, SEEN, alone, ask, desk_of, game_of, played, validator
from command_line import ROOT, run_az

from az.commands.analyze import usual_effort
from az.engine.analysis.desk import Desk
from az.engine.analysis.requests import Effort
from az.engine.errors import WrongRequest
from az.engine.inference.evaluator import HashEvaluator


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


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("connect4", "1. 4 4 2. 3 *"),
        ("connect4", "443"),
        ("checkers", '[Event "x"]\n1. 11-15 {usual} 23-19 (22-18) 2. 8-11 *'),
        ("othello", "(;GM[Othello]PC[x]TY[8]RE[?]BO[8 -------- -------- -------- ---O*--- ---*O--- -------- -------- "
                    "-------- *]B[d3]W[c3]B[c4];)"),
        ("tictactoe", "game: tictactoe\nstart:\nmoves:\n  1. 5 1\n  2. 9\n"),
    ],
)  # fmt: skip
def test_a_game_of_any_format_is_analyzed(name, text):
    answers = ask(name, {"id": 1, "text": text, "analyze_turns": "all", "sims": 5})
    assert [answer["turn"] for answer in answers] == [0, 1, 2, 3]
    assert all(answer["move"] in answer["policy"] for answer in answers)
    wrong = ask(name, {"id": 2, "text": "zz9 zz9", "sims": 1}, {"id": 3, "text": "", "sims": 1})
    assert all("text: " in answer["error"] for answer in wrong)


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


def test_moves_are_avoided_in_every_position_of_a_game():
    """Each answer is that of the position alone; a move may be illegal in some; where none is left that is told."""
    request = {"sims": 60, "detail": True, "avoid": ["4", "1"], "until_depth": 1}
    moves = ["4", "4", "4", "4", "4", "4", "1"]
    turns = ask("connect4", {**request, "id": 1, "moves": moves, "analyze_turns": "all"})
    for answer in turns:
        [same] = ask(
            "connect4",
            {**request, "id": 1, "moves": moves[: answer["turn"]], "avoid": ["1"]}
            | ({"avoid": ["4", "1"]} if answer["turn"] < 6 else {}),
        )
        assert {**answer, "seconds": 0} == {**same, "turn": answer["turn"], "seconds": 0}
    request = {"id": 2, "moves": list("1523"), "analyze_turns": "all", "allow": ["2", "3"], "sims": 5}
    left = {answer["turn"]: set(answer.get("policy", ())) for answer in ask("tictactoe", request)}
    assert left == {0: {"2", "3"}, 1: {"2", "3"}, 2: {"2", "3"}, 3: {"3"}, 4: set()}
    [last] = [answer for answer in ask("tictactoe", request) if "error" in answer]
    assert last == {"id": 2, "turn": 4, "error": "allow leaves no legal move here: 4 6 7 8 9."}


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
        ({"avoid": ["9"], "analyze_turns": [0]}, "avoid: '9' is not a legal move here"),
        ({"allow": [], "analyze_turns": "all"}, "allow leaves no legal move here"),
        ({"text": 1, "moves": []}, "text must be a string, not a number"),
        ({"text": "4 4"}, "text and moves exclude each other"),
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


def test_the_schema_is_printed_and_sound():
    answer = run_az("analyze", "--schema")
    assert (answer.code, json.loads(answer.out)) == (0, SCHEMA)
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    wrong = run_az("analyze")
    assert wrong.code == 2
    assert "missing argument" in wrong.err
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


def test_the_lines_of_the_page_are_as_the_schema_says():
    text = (ROOT / "docs" / "analysis.md").read_text("utf-8")
    blocks = [block.partition("```")[0].splitlines() for block in text.split("```json\n")[1:]]
    assert [len(lines) for lines in blocks] == [5, 4]
    for kind, lines in zip(("input", "answer"), blocks, strict=True):
        for line in lines:
            validator(kind).validate(json.loads(line))
    rows = {name for line in text.split("## An answer")[0].splitlines() if line.startswith("| `")
            for name in re.findall(r"`(\w+)`", line.split("|")[1])}  # fmt: skip
    assert rows == SCHEMA["$defs"]["request"]["properties"].keys()
