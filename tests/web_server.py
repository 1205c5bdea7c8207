"""A real `az web` in a process of its own, and questions to it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

Json = dict[str, Any]
LONGEST = 300  # seconds: the first answer of a machine compiles the search


@dataclass
class Server:
    """A server that runs, and its port."""

    process: subprocess.Popen[bytes]
    port: int
    said: IO[str]  # the file that it writes to

    def send(
        self, path: str, body: Any = None, method: str = "POST", headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body) of one request. body: JSON, or bytes as they are."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LONGEST)
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        connection.close()
        return found

    def ask(self, path: str, body: Any) -> Json:
        """The JSON answer to a question that must succeed."""
        status, _, data = self.send(path, body)
        assert status == 200, data
        return json.loads(data)

    def fault(self, path: str, body: Any) -> str:
        """The sentence with which a question is refused."""
        status, headers, data = self.send(path, body)
        assert status in (400, 422), (status, data)
        assert headers["content-type"] == "application/json"
        return json.loads(data)["error"]

    def stream(self, path: str, body: Json) -> list[Json]:
        """All lines of an answer that comes in lines, without those that tell what is being waited for.

        Those come for as long as an engine does not answer, so no time limit of the socket would end this.
        """
        connection, answer = self.open(path, body)
        assert answer.status == 200, answer.read()
        until, found = time.monotonic() + LONGEST, list[Json]()
        for line in answer:
            assert time.monotonic() < until, f"{path} did not end in {LONGEST} s: {found[-1:]}, {line!r}"
            found.append(json.loads(line))
        connection.close()
        return [answer for answer in found if "waiting" not in answer]

    def open(self, path: str, body: Json) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """An answer that is not read yet."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LONGEST)
        connection.request("POST", path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        return connection, connection.getresponse()


@contextmanager
def web_server(*words: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> Generator[Server]:
    """`az WORDS` until the block ends. words: such as "web", "tictactoe", "--no-browser".

    It writes to a file: a pipe that nobody reads may fill, and a browser that it opens would keep one from ending.
    """
    with tempfile.TemporaryFile("w+") as said, subprocess.Popen(
        [sys.executable, "-m", "az.cli", *words], stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT,
        cwd=cwd, env={**os.environ, "DISPLAY": "", "WAYLAND_DISPLAY": "", **(env or {})},
    ) as process:  # fmt: skip
        try:
            yield Server(process, _port(process, said), said)
        finally:
            process.kill()
            process.wait(60)
            print(_text(said))  # pytest shows it where a test fails


def _port(process: subprocess.Popen[bytes], said: IO[str]) -> int:
    """Of the address that it says, once it does."""
    until = time.monotonic() + LONGEST
    while not (found := re.search(r"http://127\.0\.0\.1:(\d+)/", _text(said))):
        assert process.poll() is None, f"it ended with {process.returncode}: {_text(said)}"
        assert time.monotonic() < until, f"it said no address in {LONGEST} s: {_text(said)}"
        time.sleep(0.02)
    return int(found[1])


def _text(said: IO[str]) -> str:
    """All that was written to the file. Not by its own position, which the process shares."""
    size = os.fstat(said.fileno()).st_size
    return os.pread(said.fileno(), size, 0).decode("utf-8", "replace")


def interrupted(server: Server, number: int = signal.SIGINT) -> tuple[int, str, float]:
    """(exit code, all that it said, seconds) after Ctrl-C, or another signal."""
    begun = time.monotonic()
    server.process.send_signal(number)
    server.process.wait(60)
    return server.process.returncode, _text(server.said), time.monotonic() - begun
