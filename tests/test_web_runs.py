"""The pages about runs, over a real server: what they are told, what they may not open, what comes meanwhile."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from finished_run import RECORDS, FinishedRun, add_incident
from make_models import make_run
from test_runs import LINES, write_log
from web_server import Server, web_server

from az.train.run.lock import RunLock

pytest.importorskip("starlette", reason="the extra `web` is not installed")
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with the runs a (games, an incident) and b."""
    folder = tmp_path_factory.mktemp("web")
    FinishedRun(folder / "runs/a")
    told = {
        "cause": "log_of_zero",
        "fix": HOSTILE,
        "first_bad_step": 7,
        "causal_step": 7,
        "phase": "loss",
        "plane": "loss",
    }
    page = "<html><head><style>b { color: red }</style></head><body><b>x</b><script>alert(1)</script></body></html>"
    add_incident(folder / "runs/a", told, page)
    (folder / "runs/a/health/incident-0002").mkdir()
    write_log(make_run(folder / "runs/b"), LINES)
    return folder


@pytest.fixture(scope="module")
def server(place) -> Iterator[Server]:
    with web_server("web", "tictactoe", "--no-browser", cwd=place) as found:
        yield found


def test_the_pages(server):
    for path in ("/runs", "/run?name=a"):
        status, headers, data = server.send(path, method="GET")
        assert status == 200
        assert b"<!doctype html>" in data
        assert "unsafe" not in headers["content-security-policy"]


def test_the_list_and_a_run(server):
    found = server.ask("/api/runs", {})
    assert [one["name"] for one in found["runs"]] == ["a", "b"]
    about = server.ask("/api/run", {"run": "a"})
    assert ["learner.batch", "16"] in about["config"]
    assert [about["metrics"][0][name] for name in ("name", "warn", "limit")] == ["max_logit", 30.0, 88.0]
    first, second = about["incidents"]
    assert (first["fix"], first["page"], second["damaged"]) == (HOSTILE, True, True)


def test_lines_come_as_they_are_written(server, place):
    run = place / "runs/c"
    make_run(run)
    log = run / "log.jsonl"
    write_log(run, LINES[:2], '{"kind":"step","st')
    first = server.ask("/api/run/log", {"run": "c", "from": 0, "id": ""})
    assert [json.loads(line) for line in first["text"].splitlines()] == LINES[:2]
    assert (first["running"], first["fresh"], first["more"]) == (False, True, False)
    ask = {"run": "c", "from": first["next"], "id": first["id"]}
    assert server.ask("/api/run/log", ask)["text"] == ""
    with log.open("a") as file:
        file.write('ep":3}\n')
    assert server.ask("/api/run/log", ask)["text"] == '{"kind":"step","step":3}\n'
    lock = RunLock(run)
    lock.acquire()
    try:
        assert server.ask("/api/run/log", ask)["running"]
    finally:
        lock.release()
    write_log(run, LINES[:1])  # steps were undone
    again = server.ask("/api/run/log", ask)
    assert again["fresh"]
    assert json.loads(again["text"]) == LINES[0]
    shutil.rmtree(run)
    assert "there is no run 'c' now" in server.fault("/api/run/log", ask)


def test_a_long_log_comes_in_pieces(server, place):
    run = place / "runs/long"
    make_run(run)
    write_log(run, [{"kind": "step", "step": i, "total": 1.0} for i in range(60_000)])
    told, ask, pieces = 0, {"run": "long", "from": 0, "id": ""}, 0
    while True:
        found = server.ask("/api/run/log", ask)
        told, pieces = told + len(found["text"].splitlines()), pieces + 1
        ask |= {"from": found["next"], "id": found["id"]}
        if not found["more"]:
            break
    assert (told, pieces) == (60_000, 3)
    shutil.rmtree(run)


def test_games_with_the_search_s_opinion(server):
    found = server.ask("/api/run/files", {"run": "a"})
    assert found["files"][0]["file"] == RECORDS
    listed = server.ask("/api/run/file", {"run": "a", "file": RECORDS})
    assert len(listed["games"]) == 12
    whole, said = 0, 0
    for one in listed["games"]:
        game = server.ask("/api/run/game", {"run": "a", "file": RECORDS, "k": one["k"]})
        steps = game["steps"]
        assert len(steps) == one["plies"] + (not game["note"])
        assert steps[-1]["position"]["over"] == (not game["note"])
        whole += not game["note"]
        for step, after in pairwise(steps):
            if step["said"] is not None:
                said += 1
                shares = {move["text"]: move["share"] for move in step["said"]["moves"]}
                assert sum(shares.values()) <= 1.001
                assert -1 <= step["said"]["value"] <= 1
            assert after["move"]
    assert whole > 6  # the last move of the others is one of several that end them so
    assert said > 12
    assert server.ask("/api/run/files", {"run": "b"}) == {"files": [], "count": 0}
    assert "have left the run's window" in server.fault("/api/run/file", {"run": "a", "file": "0001-000001-000.npz"})
    assert "no game 99" in server.fault("/api/run/game", {"run": "a", "file": RECORDS, "k": 99})


def test_a_damaged_record_file_is_refused(server, place):
    name = "0001-000007-000.npz"
    (place / "runs/a/records" / name).write_bytes(b"PK" * 100)
    assert name in server.fault("/api/run/file", {"run": "a", "file": name})
    (place / "runs/a/records" / name).unlink()


@pytest.mark.parametrize("name", ["../a", "/etc", "a/../b", "", ".", "..", "a\0", "none", "x" * 100, HOSTILE])
def test_no_other_folder_is_opened(server, name):
    for path in ("/api/run", "/api/run/log", "/api/run/files"):
        assert "there is no run" in server.fault(path, {"run": name, "from": 0, "id": ""})
    assert server.fault("/api/run/file", {"run": "a", "file": f"../{name}"}).endswith(".")
    assert "no incident" in server.fault("/api/run/doctor", {"run": "a", "incident": f"../{name}"})


@pytest.mark.parametrize("body", [{}, {"run": 1}, {"run": "a", "from": -1, "id": ""}, {"run": "a", "from": 0, "id": 5}])
def test_wrong_questions_get_a_sentence(server, body):
    assert server.fault("/api/run/log", body).endswith(".")


def test_nothing_of_a_doctor_s_page_runs(server, place):
    status, headers, data = server.send("/doctor?run=a&incident=incident-0001", method="GET")
    assert status == 200
    assert data == (place / "runs/a/health/incident-0001/page.html").read_bytes()
    policy = headers["content-security-policy"]
    assert "sandbox" in policy
    assert "script-src" not in policy
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    for asked in ("run=a&incident=incident-0002", "run=a", "run=a&incident=../x", "incident=incident-0001", ""):
        assert server.send(f"/doctor?{asked}", method="GET")[0] == 400


def test_ten_clients_at_once_and_one_that_leaves(server):
    """Each asks 20 times; a client that never reads its answer keeps none of them waiting."""
    silent = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=5) for _ in range(5)]
    for one in silent:
        body = json.dumps({"run": "b", "from": 0, "id": ""}).encode()
        one.request("POST", "/api/run/log", body, {"Content-Type": "application/json"})
    counts = list[int]()

    def client() -> None:
        for _ in range(20):
            found = server.ask("/api/run/log", {"run": "b", "from": 0, "id": ""})
            counts.append(len(found["text"].splitlines()))
            server.ask("/api/runs", {})

    threads = [threading.Thread(target=client) for _ in range(10)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert counts == [len(LINES)] * 200
    assert time.monotonic() - begun < 60
    for one in silent:
        one.close()
    assert server.ask("/api/run", {"run": "b"})["name"] == "b"


def test_a_pipe_in_place_of_a_log_is_not_waited_for(server, place):
    run = place / "runs/pipe"
    make_run(run)
    os.mkfifo(run / "log.jsonl")
    assert server.ask("/api/run/log", {"run": "pipe", "from": 0, "id": ""})["text"] == ""
    assert server.ask("/api/run", {"run": "pipe"})["rows"] == 0
    shutil.rmtree(run)
