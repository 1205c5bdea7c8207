"""The end of the local server: by every signal, and whatever its pages and its threads are at."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from make_models import make_run
from web_server import LONGEST, Server, interrupted, web_server

pytest.importorskip("starlette", reason="the extra `web` is not installed")
SIGNALS = [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
SLOW = """import os, pathlib, sys, time
if "doctor" in sys.orig_argv:
    pathlib.Path({marker!r}).write_text(str(os.getpid()))
    time.sleep(600)
"""
ANALYSIS = {"game": "connect4", "model": "connect4", "page": "p", "visits": 500_000}


def ends(server: Server, number: int, code: int) -> None:
    """It ends by the signal, with one line and no trace; the time is far below what it would wait for."""
    found, said, seconds = interrupted(server, number)
    assert found == code
    assert said.splitlines()[1:] == ["Stopped."]
    assert seconds < 30


def sent(server: Server, path: str, body: dict, length: int | None = None) -> socket.socket:
    """A request on a connection whose answer is never read. length: what it says of its body."""
    data = json.dumps(body).encode()
    made = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Type: application/json\r\n"
    made.sendall(f"{head}Content-Length: {length or len(data)}\r\n\r\n".encode() + data)
    return made


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_it_ends_while_it_thinks_for_one_who_reads_and_one_who_does_not(number, code):
    with web_server("web", "--no-browser") as server:
        connection, answer = server.open("/api/analyze", ANALYSIS)
        answer.readline()
        silent = sent(server, "/api/analyze", {**ANALYSIS, "page": "q"})
        ends(server, number, code)
        connection.close()
        silent.close()
    assert server.process.poll() == code


def test_it_ends_while_requests_are_half_sent_and_answers_unread(tmp_path):
    run = make_run(tmp_path / "runs/a")
    (run / "log.jsonl").write_text('{"kind":"step","step":1}\n' * 40_000)  # more than a socket holds
    with web_server("web", "tictactoe", "--no-browser", cwd=tmp_path) as server:
        opened = [sent(server, "/api/begin", {}, 1000)]
        opened += [sent(server, "/api/run/log", {"run": "a", "from": 0, "id": ""}) for _ in range(20)]
        opened.append(socket.create_connection(("127.0.0.1", server.port), timeout=60))
        server.ask("/api/begin", {})
        ends(server, signal.SIGINT, 0)
        for one in opened:
            one.close()
    assert server.process.poll() == 0


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_it_ends_while_the_doctor_writes_and_the_doctor_with_it(tmp_path, number, code):
    folder = make_run(tmp_path / "runs/a") / "health/incident-0001"
    folder.mkdir()
    (folder / "incident.json").write_text('{"format": "az-incident", "incident": {}}')
    marker = tmp_path / "doctor"
    (tmp_path / "sitecustomize.py").write_text(SLOW.format(marker=str(marker)))
    env = {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])}
    with web_server("web", "tictactoe", "--no-browser", cwd=tmp_path, env=env) as server:
        asked = {"run": "a", "incident": "incident-0001"}
        waiting = sent(server, "/api/run/doctor", asked)
        doctor = psutil.Process(written(marker))
        assert "is writing another page" in server.fault("/api/run/doctor", asked)
        ends(server, number, code)
        waiting.close()
        with suppress(psutil.NoSuchProcess):
            doctor.wait(60)


def written(marker: Path) -> int:
    """The number in a file, once it is there."""
    until = time.monotonic() + LONGEST
    while not (marker.is_file() and marker.read_text()):
        assert time.monotonic() < until
        time.sleep(0.02)
    return int(marker.read_text())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="how a browser is found differs")
def test_a_browser_that_it_opens_keeps_no_pipe_open(tmp_path):
    """What reads the command's output must end with the command, though the browser goes on."""
    import subprocess

    marker, browser = tmp_path / "browser", tmp_path / "browser.sh"
    browser.write_text(f'#!/bin/sh\necho $$ > "{marker}"\necho loud\nexec sleep 600\n')
    browser.chmod(0o755)
    env = {**os.environ, "BROWSER": f"{browser} %s &", "DISPLAY": ":99"}
    command = [sys.executable, "-m", "az.cli", "web", "tictactoe"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env) as process:
        number = written(marker)
        try:
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=60)
            assert said.splitlines()[1:] == ["Stopped."]
            assert psutil.pid_exists(number)
        finally:
            process.kill()
            os.kill(number, signal.SIGKILL)
