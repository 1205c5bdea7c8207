"""A real `az web` in a process of its own, and questions to it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Json = dict[str, Any]
LONGEST = 300  # seconds: the first answer of a machine compiles the search


@dataclass
class Server:
    """A server that runs, and its port."""

    process: subprocess.Popen[str]
    port: int

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
        """All lines of an answer that comes in lines, without those that tell what is being waited for."""
        status, _, data = self.send(path, body)
        assert status == 200, data
        return [answer for answer in map(json.loads, data.splitlines()) if "waiting" not in answer]

    def open(self, path: str, body: Json) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """An answer that is not read yet."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LONGEST)
        connection.request("POST", path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        return connection, connection.getresponse()


@contextmanager
def web_server(*words: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> Generator[Server]:
    """`az WORDS` until the block ends. words: such as "web", "tictactoe", "--no-browser"."""
    with subprocess.Popen(
        [sys.executable, "-m", "az.cli", *words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=cwd, env={**os.environ, **(env or {})},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
        assert found, line + process.stdout.read()
        try:
            yield Server(process, int(found[1]))
        finally:
            if process.poll() is None:
                process.kill()
            print(process.stdout.read() if not process.stdout.closed else "")  # pytest shows it where a test fails


def interrupted(process: subprocess.Popen[str]) -> tuple[int, str, float]:
    """(exit code, what it still says, seconds) after Ctrl-C."""
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    return process.returncode, said, time.monotonic() - begun
