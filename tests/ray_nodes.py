"""Nodes of a Ray cluster on this machine, in a process of their own: add and kill them by lines of stdin."""

from __future__ import annotations

import importlib
import json
import os
import queue
import secrets
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Self

from processes import Marked

ANSWER_SECONDS = 120.0
TOKEN = secrets.token_hex(16)
AUTH = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_USAGE_STATS_ENABLED": "0"}


class LineServer:
    """A command that answers every line of its stdin, and says when it is ready. Every wait has an end."""

    def __init__(self, command: list[str], folder: Path) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.marked = Marked(command, folder, **pipes)
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self.first = self._answer()
        except BaseException:
            self.__exit__()
            raise

    def _read(self) -> None:
        assert self.marked.main.stdout is not None
        for line in self.marked.main.stdout:
            self._lines.put(line)

    def _answer(self) -> object:
        while True:
            line = self._lines.get(timeout=ANSWER_SECONDS)
            if line.startswith("{"):
                return json.loads(line)["answer"]

    def say(self, *words: object) -> object:
        """Send a line; the answer to it."""
        assert self.marked.main.stdin is not None
        self.marked.main.stdin.write(" ".join(map(str, words)) + "\n")
        self.marked.main.stdin.flush()
        return self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.marked.__exit__()


class RayNodes(LineServer):
    """A head without players, and nodes with a core each. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        os.environ.update(AUTH)  # `Marked` and the tests' own `az` pass it on
        super().__init__([sys.executable, str(Path(__file__).resolve())], folder)
        self.address = str(self.first)

    def add(self, cpus: int = 1) -> int:
        """A node's number."""
        return int(str(self.say("add", cpus)))

    def kill(self, number: int) -> None:
        """SIGKILL everything of the node."""
        self.say("kill", number)

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        for name in AUTH:
            os.environ.pop(name, None)


def main() -> None:
    Cluster: Any = importlib.import_module("ray.cluster_utils").Cluster
    common = {"include_dashboard": False, "object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **common})
    nodes = []

    def answer(value: object) -> None:
        print(json.dumps({"answer": value}), flush=True)

    answer(cluster.address)
    for line in sys.stdin:
        word, number = line.split()
        if word == "add":
            nodes.append(cluster.add_node(num_cpus=int(number), object_store_memory=100 << 20))
            answer(len(nodes) - 1)
        else:
            cluster.remove_node(nodes[int(number)], allow_graceful=False)
            answer(True)


if __name__ == "__main__":
    main()
