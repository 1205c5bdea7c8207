"""`az analyze` as a process: a flood of requests, its memory, the model's file, Ctrl-C."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import pytest
from analysis_client import checked, game_of, played


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
        [sys.executable, "-m", "az.cli", "analyze", "checkers"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_long_search(number):
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
            process.send_signal(number)
            assert process.wait(60) == 128 + number
            assert process.stderr.read() == "az: stopped.\n"
            rest = process.stdout.read()
            assert rest == "" or rest.endswith("}\n")
        finally:
            process.kill()


def test_a_signal_ends_it_while_the_program_does_not_read():
    """The pipe is full: what cannot be written must not keep the process."""
    request = {"id": 1, "seconds": 3000, "report_every": 0.05, "detail": True}
    with subprocess.Popen(
        [sys.executable, "-m", "az.cli", "analyze", "connect4"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            process.stdout.readline()
            watched, before = psutil.Process(process.pid), -1.0
            while (now := watched.cpu_times().user) > before + 0.1:  # until it waits for the pipe
                before = now
                time.sleep(2)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 128 + signal.SIGTERM
        finally:
            process.kill()
