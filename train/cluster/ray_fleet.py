"""A Ray cluster as a `Fleet`. The only module that loads ray; it runs in the bridge, a process of its own."""

from __future__ import annotations

import atexit
import contextlib
import importlib
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Generator
from dataclasses import replace
from typing import Any

from az.engine.errors import Refused
from az.engine.printable import one_line
from az.engine.system.cores import usable_cores
from az.train.cluster.fleet import GPU_THREADS, LOCAL, Gone, Node
from az.train.cluster.match_player import MatchJob, MatchPlayer
from az.train.cluster.player import Player, PlayerJob

MODEL_SECONDS = 60.0  # until a model has come to a node
LONELY_SECONDS = 300.0  # without a question; the head gives a player up that does not answer for 60
CONNECT_SECONDS = 10.0
NODES_EVERY = 1.0  # seconds between two looks at the nodes
HEAD_EVERY, HEAD_TRIES = 3.0, 3  # seconds between two looks whether the head is there; in vain, until it is given up
HEAD_SILENT = 40.0  # seconds that the head may be there and not answer: Ray gives it up after 60
CALL_SECONDS = 10.0  # for what has arrived already
MOST_NAME = 100  # characters of a node's name
STORE = 256 << 20  # bytes of shared memory of a local cluster: models and record files on their way


def _fetched(handle: Any) -> bytes:
    ray: Any = importlib.import_module("ray")
    return ray.get(handle[0], timeout=MODEL_SECONDS)


class Lonely:
    """Ends this process where it is asked nothing for so long: its node has lost the head, or the head this player.

    Ray leaves the processes of a node that cannot reach the head for as long as it cannot.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._heard = seconds, time.monotonic()
        threading.Thread(target=self._watch, daemon=True).start()

    def heard(self) -> None:
        """It was asked something, or has answered."""
        self._heard = time.monotonic()

    def _watch(self) -> None:
        while time.monotonic() - self._heard < self._seconds:
            time.sleep(min(1.0, self._seconds / 10))
        os._exit(0)


class NodePlayer(Player):
    """The actor's class of self-play."""

    def __init__(self, job: PlayerJob) -> None:
        super().__init__(job, _fetched)
        self._lonely = Lonely(LONELY_SECONDS)

    def exchange(self, orders: dict[str, Any]) -> dict[str, Any]:
        """As `Player.exchange`."""
        self._lonely.heard()
        return super().exchange(orders)


class NodeMatchPlayer(MatchPlayer):
    """The actor's class of matches."""

    def __init__(self, job: MatchJob) -> None:
        super().__init__(job, _fetched)


def _silence() -> None:
    """What Ray's own processes say of a lost node goes into their logs, not between the lines of a run's screen or the
    JSON of a match: the dispatcher says it in a sentence. Ray has no option for it; its version is pinned.
    """
    worker: Any = importlib.import_module("ray._private.worker")
    worker._worker_logs_enabled = False
    logging.getLogger("ray").addHandler(logging.NullHandler())
    logging.getLogger("ray").propagate = False


def _try(address: str) -> None:
    """Raises OSError where nothing listens: Ray itself would try for two minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise OSError(f"nothing answers there: {error.strerror or error}") from None


@contextlib.contextmanager
def _without_stderr() -> Generator[None]:
    """While Ray tries to join, its C++ writes a line a second there; the error that it raises says the same."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _leave() -> None:
    """Ray's own end would wait for the head that has gone, and the interpreter's then falls over Ray's threads."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


class Head:
    """Whether the head can still be reached, and answers. Where not, Ray ends this process after a minute, silently."""

    def __init__(self, address: str) -> None:
        self.address, self.gone, self._answered = address, "", True
        threading.Thread(target=self._watch, daemon=True).start()

    def answered(self) -> None:
        """It has answered a question."""
        self._answered = True

    def _watch(self) -> None:
        """Looks are counted, not seconds: while this process is stopped (Ctrl-Z) nothing is asked."""
        tries = silent = 0
        while not self.gone:
            time.sleep(HEAD_EVERY)
            silent, self._answered = (0 if self._answered else silent + 1), False
            try:
                _try(self.address)
                tries, reason = 0, f"it has not answered for {HEAD_SILENT:g} s"
            except OSError as error:
                tries, reason = tries + 1, str(error)
            if tries == HEAD_TRIES or silent * HEAD_EVERY >= HEAD_SILENT:
                self.gone = f"the head of the Ray cluster at {self.address} cannot be reached any more ({reason})"


class RayFleet:
    """Connect. Raises Refused where there is no such cluster, or none that lets us in."""

    def __init__(self, address: str, job: PlayerJob | MatchJob) -> None:
        self._job = job
        self._ray: Any = importlib.import_module("ray")
        self._affinity: Any = importlib.import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
        _silence()
        common: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
        try:
            if address == LOCAL:
                own = {"num_cpus": usable_cores(), "include_dashboard": False, "object_store_memory": STORE}
                self._ray.init("local", **own, **common)
            else:
                _try(address)
                with _without_stderr():
                    self._ray.init(address, **common)
        except Exception as error:  # Ray's own and others, by what went wrong
            reason = one_line(str(error), 300).rstrip(".") or type(error).__name__
            raise Refused(
                f"the Ray cluster at {address} cannot be joined ({reason}): is `ray start --head` running there, with"
                " the same version of Ray and the same token (docs/how-to/cluster.md)?"
            ) from None
        self._head = None if address == LOCAL else Head(address)
        self._closed, self._there = False, self._read_nodes()
        threading.Thread(target=self._look, daemon=True).start()
        self._actors: dict[str, Any] = {}
        self._asked: dict[Any, str] = {}  # questions under way

    def nodes(self) -> list[Node]:
        """The nodes that are alive, as they were a moment ago."""
        return self._there

    def _look(self) -> None:
        """In a thread of its own: the question waits for the head, also for one that has gone."""
        while not self._closed:
            time.sleep(NODES_EVERY)
            with contextlib.suppress(Exception):  # at the next look
                self._there = self._read_nodes()
                if self._head is not None:
                    self._head.answered()

    def _read_nodes(self) -> list[Node]:
        found = list[Node]()
        for node in self._ray.nodes():
            if node["Alive"]:
                has, host = node["Resources"], node["NodeManagerHostname"]
                address = str(node["NodeManagerAddress"])
                name = one_line(f"{host} ({address}, {node['NodeID'][:6]})", MOST_NAME)
                found.append(Node(node["NodeID"], name, int(has.get("CPU", 0)), int(has.get("GPU", 0)), address))
        return found

    def start(self, player: str, node: Node, gpu: bool) -> None:
        """Start a player there, and there only."""
        job, kind = self._job, NodeMatchPlayer if isinstance(self._job, MatchJob) else NodePlayer
        if gpu and isinstance(job, PlayerJob):
            job = replace(job, threads=job.config.in_flight or GPU_THREADS, provider="auto")
        options: dict[str, Any] = {
            "num_cpus": 0 if gpu else 1, "num_gpus": 1 if gpu else 0, "max_restarts": 0, "max_task_retries": 0,
            "scheduling_strategy": self._affinity(node.id, soft=False),
        }  # fmt: skip
        actor = self._ray.remote(kind).options(**options).remote(job)
        self._actors[player] = actor
        self._asked[actor.hello.remote()] = player

    def ask(self, player: str, orders: dict[str, Any]) -> None:
        """Send orders."""
        self._asked[self._actors[player].exchange.remote(orders)] = player

    def answers(self, timeout: float) -> list[tuple[str, dict[str, Any] | Gone]]:
        """Answers that have come. Raises Refused where the head has gone."""
        if self._head is not None and self._head.gone:
            raise Refused(self._head.gone + ".")
        if not self._asked:
            time.sleep(timeout)
            return []
        ready, _ = self._ray.wait([*self._asked], num_returns=1, timeout=timeout, fetch_local=True)
        if ready:
            ready, _ = self._ray.wait([*self._asked], num_returns=len(self._asked), timeout=0, fetch_local=True)
        return [(self._asked.pop(ref), self._answer(ref)) for ref in ready]

    def end(self, player: str) -> None:
        """Kill it; a question that it had is forgotten."""
        actor = self._actors.pop(player, None)
        for ref in [ref for ref, name in self._asked.items() if name == player]:
            del self._asked[ref]
        if actor is not None:
            with contextlib.suppress(Exception):  # it has gone already, or its node has
                self._ray.kill(actor, no_restart=True)

    def put(self, data: bytes) -> Any:
        """In a tuple, so that an actor gets the reference and says itself how long it waits."""
        return (self._ray.put(data),)

    def close(self) -> None:
        """End all players, leave the cluster; a local one ends."""
        self._closed = True
        if self._head is not None and self._head.gone:  # its players end by themselves
            atexit.register(_leave)
            return
        for player in [*self._actors]:
            self.end(player)
        self._ray.shutdown()

    def _answer(self, ref: Any) -> dict[str, Any] | Gone:
        exceptions = self._ray.exceptions
        try:
            return self._ray.get(ref, timeout=CALL_SECONDS)
        except exceptions.ActorUnavailableError:
            return Gone("could not be reached")
        except exceptions.ActorDiedError:
            return Gone("ended")
        except exceptions.RayTaskError as error:
            lines = str(error.cause).strip().splitlines() or [type(error.cause).__name__]
            return Gone(f"failed: {lines[-1]}")
        except exceptions.RayError as error:
            return Gone(f"failed ({type(error).__name__})")
