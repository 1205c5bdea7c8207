"""Self-play on a cluster, seen from the learner: files and faults come in, pauses and judgements go out."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from az.engine.errors import Refused
from az.engine.printable import counted
from az.engine.records.format import FinishedGame, parse_records, tally, unpack, write_records
from az.engine.records.row_checks import check_records
from az.engine.selfplay.worker import record_name
from az.engine.system.child import Child, end_of
from az.engine.system.files import write_atomic
from az.train.cluster.bridge import BridgeJob, bridge_main
from az.train.run.services import OnFault, OnFile, PoolStart

READY_SECONDS = 180.0  # until the bridge says that it is in the cluster; a local one takes 10 s on two busy cores
HUNG_SECONDS = 120.0  # a bridge in the cluster speaks every second; then it hangs, and another takes its place
AGAIN_SECONDS = 5.0  # between two tries to join a cluster that was lost
LOST_SECONDS = 600.0  # of such tries, or without a player; then the run stops, with a checkpoint
MOST_LOST = 10  # times in LOST_SECONDS that a cluster is joined again
STOP_SECONDS = 10.0  # that the bridge has to leave the cluster
READ_SECONDS = 0.5  # that one `listen` reads on: the learner's steps go on
LOG_EVERY = 30.0  # seconds between two lines of rates in the log
MOST_BAD = 3  # files with bad rows; then their node is left out


class Bridge:
    """The bridge's process: started, listened to, started again where the cluster was lost, stopped."""

    def __init__(self, start: PoolStart, address: str, first_game: int | None) -> None:
        config = start.config
        self._start, self._address = start, address
        self._job = BridgeJob(
            address, start.folder.models.resolve(), config.game, config.selfplay, config.seed, config.provider,
            config.workers, first_game,
        )  # fmt: skip
        self._process: Child | None = None
        self._pipe: Connection | None = None
        self._crash = ""
        self._was_ready = self.ready = False
        self._begun = self._lost_at = self._heard = 0.0
        self.lost = 0  # times that the cluster was lost
        self._losses: deque[float] = deque(maxlen=MOST_LOST)
        self._paused = False
        self._launch()

    def _launch(self) -> None:
        ours, theirs = multiprocessing.Pipe()
        self._process = Child(bridge_main, (self._job, theirs))
        self._process.start()
        theirs.close()
        self._pipe, self._begun, self._crash, self.ready = ours, time.monotonic(), "", False  # pyright: ignore[reportAttributeAccessIssue]

    def begin_at(self, first_game: int) -> None:
        """The number from which another bridge would go on."""
        if self._job.first_game is not None and first_game > self._job.first_game:
            self._job = replace(self._job, first_game=first_game)

    def pause(self, paused: bool) -> None:
        """Also of a bridge that is started later."""
        if paused != self._paused:
            self._paused = paused
            self.send("pause", paused)

    def send(self, *message: Any) -> None:
        """To the bridge; nothing where it is gone: `read` will see that."""
        try:
            if self._pipe is not None:
                self._pipe.send(message)
        except OSError:
            pass

    def read(self, timeout: float) -> tuple[Any, ...] | None:
        """The next message, waiting at most `timeout` seconds. Raises Refused where the cluster cannot be had."""
        if self._pipe is None:
            time.sleep(min(timeout, 0.05))
            if time.monotonic() - self._begun >= AGAIN_SECONDS:
                self._launch()
            return None
        try:
            if not self._pipe.poll(timeout):
                if not self.ready and time.monotonic() - self._begun > READY_SECONDS:
                    self._fail(f"it did not answer within {READY_SECONDS:g} s")
                elif self.ready and time.monotonic() - self._heard > HUNG_SECONDS:
                    self._fail(f"it has said nothing for {HUNG_SECONDS:g} s")
                return None
            kind, *rest = self._pipe.recv()
            self._heard = time.monotonic()
        except (EOFError, OSError):
            process = self._process
            assert process is not None
            process.join(timeout=5)
            last = self._crash.strip().splitlines()[-1:] or [f"its bridge ended {end_of(process)}"]
            self._fail(last[0])
            return None
        if kind == "ready":
            self.ready = self._was_ready = True
            self._lost_at = 0.0
            if self._paused:
                self.send("pause", True)
        elif kind == "crash":
            self._crash = rest[0]
            self._start.note("worker", {"worker": "bridge", "error": self._crash})
        elif kind == "error":
            self._fail(rest[0])
        elif kind == "say":
            self._start.report(rest[0])
        elif kind == "note":
            self._start.note(*rest)
        else:
            return kind, *rest
        return None

    def _fail(self, reason: str) -> None:
        """The first time that is the user's to mend; later the cluster may come back."""
        self._end()
        if not self._was_ready:
            raise Refused(reason if "cannot be joined" in reason else f"the Ray cluster at {self._address}: {reason}")
        now = time.monotonic()
        if not self._lost_at:
            self._lost_at, self.lost = now, self.lost + 1
            if self._start.stopping():
                return
            self._losses.append(now)
            if len(self._losses) == MOST_LOST and now - self._losses[0] <= LOST_SECONDS:
                raise Refused(
                    f"the Ray cluster at {self._address} was lost {MOST_LOST} times within {LOST_SECONDS / 60:g}"
                    f" minutes, the last time: {reason.rstrip('.')}; `az resume` goes on with the run."
                )
            self._start.report(f"the Ray cluster at {self._address} was lost ({reason.rstrip('.')}): joining it again")
            self._start.note("node", {"node": self._address, "event": "cluster lost", "reason": reason})
        if now - self._lost_at > LOST_SECONDS:
            raise Refused(
                f"the Ray cluster at {self._address} was lost and could not be joined for {LOST_SECONDS / 60:g} minutes"
                f" ({reason.rstrip('.')}); `az resume` goes on with the run."
            )

    def _end(self) -> None:
        if self._process is not None:
            self._process.end()
        if self._pipe is not None:
            self._pipe.close()
        self._process, self._pipe, self.ready, self._begun = None, None, False, time.monotonic()

    def stop(self) -> None:
        """Let the bridge leave the cluster, then end it."""
        self.send("stop")
        if self._process is not None and self._process.pid is not None:
            end = time.monotonic() + STOP_SECONDS
            try:
                while self._pipe is not None and time.monotonic() < end:  # what it still says is of no use
                    if self._pipe.poll(0.1):
                        self._pipe.recv()
            except (EOFError, OSError):
                self._process.join(timeout=max(0.1, end - time.monotonic()))
        self._end()


class Nodes:
    """The nodes for people: their numbers in file names, their rates on the display and in the log."""

    def __init__(self, start: PoolStart) -> None:
        self._start = start
        self.numbers: dict[str, int] = {}
        self.bad: Counter[str] = Counter()
        self.text = ""
        self.simulations = 0  # of the nodes that are there
        self._logged = time.monotonic()
        self._idle_since: float | None = None  # since when no player is there

    def number(self, node: str, name: str) -> int:
        """A node's own number, the writer of its files."""
        if node not in self.numbers:
            self.numbers[node] = len(self.numbers)
            facts = {"session": self._start.job.session, "writer": self.numbers[node]}
            self._start.note("node", {"node": name, "event": "writes", **facts})
        return self.numbers[node]

    def told(self, figures: list[dict[str, Any]]) -> None:
        """Rates and faults of every node. Raises Refused where none has played for LOST_SECONDS."""
        there = [one for one in figures if not one["left_out"]]
        rate = sum(one["simulations_per_s"] for one in there)
        players = sum(one["players"] for one in there)
        self.simulations = sum(one["simulations"] for one in there)
        fastest = sorted(there, key=lambda one: -one["simulations_per_s"])[:3]
        shown = " · ".join(f"{one['node'].partition(' ')[0]} {one['simulations_per_s']:,}" for one in fastest)
        faults, lost = (sum(one[what] for one in figures) for what in ("faults", "lost"))
        out = len(figures) - len(there)
        self.text = f"{counted(len(there), 'node')}, {counted(players, 'player')}, {rate:,} simulations a second"
        self.text += f" ({shown})" if shown else ""
        told = counted(faults, "fault"), counted(lost, "game lost", "games lost"), f"{out} left out"
        self.text += "".join(f", {text}" for text, count in zip(told, (faults, lost, out), strict=True) if count)
        self._start.show({"nodes": self.text})
        self._must_play(players, [one["left_out"] for one in figures if one["left_out"]])
        if time.monotonic() - self._logged >= LOG_EVERY and not self._start.config.deterministic:
            self._logged = time.monotonic()
            self._start.note("nodes", {"time": time.time(), "text": self.text, "nodes": figures})

    def _must_play(self, players: int, reasons: list[str]) -> None:
        now = time.monotonic()
        if players or self._idle_since is None:
            self._idle_since = None if players else now
        elif now - self._idle_since > LOST_SECONDS:
            why = f"the last was left out: {reasons[-1].rstrip('.')}" if reasons else "none has joined"
            raise Refused(
                f"no node of the Ray cluster has played for {LOST_SECONDS / 60:g} minutes ({why}); `az resume` goes on"
                " with the run."
            )


class ClusterPool:
    """As `services.Pool`."""

    def __init__(self, start: PoolStart, address: str) -> None:
        self._start = start
        self._bridge = Bridge(start, address, start.job.first_game)
        self._nodes = Nodes(start)
        self._address, self._files = address, 0

    def pause(self, paused: bool) -> None:
        """Let the players rest, or go on: they hear of it within a second."""
        self._bridge.pause(paused)

    def doing(self) -> str:
        """How far self-play is, for people."""
        if not self._bridge.ready:
            return f"joining the Ray cluster at {self._address}"
        made = self.simulations
        return f"self-play: {made:,} simulations" if made else "starting players on the nodes"

    @property
    def simulations(self) -> int:
        """Begun on the nodes that are there, as they last said."""
        return self._nodes.simulations

    def listen(self, timeout: float, on_file: OnFile, on_fault: OnFault) -> None:
        """Hand on what has come."""
        end = time.monotonic() + READ_SECONDS
        lost = self._bridge.lost
        while time.monotonic() < end:
            message = self._bridge.read(timeout)
            if message is None:
                if timeout == 0.0 or self._bridge.lost != lost:
                    break
                timeout = 0.0
                continue
            timeout = 0.0
            kind, *rest = message
            if kind == "file":
                self._take(on_file, *rest)
            elif kind == "fault":
                on_fault(rest[0])
            elif kind == "precision":
                self._start.report(rest[0])
                self._start.note("precision", {"text": rest[0]})
            elif kind == "nodes":
                self._nodes.told(rest[0])

    def _take(
        self, on_file: OnFile, ticket: int, node: str, name: str, data: bytes, stats: dict[str, Any], following: int
    ) -> None:
        self._bridge.begin_at(following)
        if self._nodes.bad[node] >= MOST_BAD:  # on its way when the node was left out
            self._bridge.send("judged", ticket, False)
            return
        file = record_name(self._start.job.session, self._nodes.number(node, name), self._files)
        self._files += 1
        write_atomic(self._start.folder.records / file, data)
        accepted = on_file(file, {**stats, "writer": f"node {name}"})
        self._bridge.send("judged", ticket, accepted)
        if accepted:
            return
        self._nodes.bad[node] += 1
        if self._nodes.bad[node] >= MOST_BAD:
            self._bridge.send("refuse", node, f"{MOST_BAD} of its files hold what no sound node writes (quarantine/)")

    def stop(self) -> None:
        """Leave the cluster."""
        self._bridge.stop()


class ClusterSelfplay:
    """As `services.Selfplay`. address: HOST:PORT, or `local`."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._bridge: Bridge | None = None
        self._nodes: Nodes | None = None

    def pool(self, start: PoolStart) -> ClusterPool:
        """Begin, for a run in which games and steps go on side by side."""
        return ClusterPool(start, self._address)

    def play_turn(
        self, start: PoolStart, model: Path, turn: int, loaded: Callable[[Path, str], None]
    ) -> tuple[str, dict[str, Any]] | None:
        """One turn's games, the same bytes as on this machine alone; None where the run was asked to stop."""
        if self._bridge is None:
            self._bridge, self._nodes = Bridge(start, self._address, None), Nodes(start)
        found = _Turn(start, self._bridge, self._nodes or Nodes(start), model, turn).play(loaded)
        if found is None:
            return None
        games, simulations, faults = found
        name = record_name(0, 0, turn)
        header = start.config.selfplay.header()
        write_records(start.folder.records / name, start.game, games, start.config.seed, header)
        return name, {**tally(games), "simulations": simulations, "faults": faults}

    def close(self) -> None:
        """Leave the cluster."""
        if self._bridge is not None:
            self._bridge.stop()
            self._bridge = None


class _Turn:
    def __init__(self, start: PoolStart, bridge: Bridge, nodes: Nodes, model: Path, turn: int) -> None:
        self._start, self._bridge, self._nodes, self._model = start, bridge, nodes, model.resolve()
        self._turn, self._count = turn, start.config.games_per_turn
        self._begin()

    def _begin(self) -> None:
        self._games: dict[int, FinishedGame] = {}
        self._faults: dict[tuple[int, int], dict[str, Any]] = {}
        self._simulations = 0
        self._asked = False

    def play(self, loaded: Callable[[Path, str], None]) -> tuple[list[FinishedGame], int, list[dict[str, Any]]] | None:
        self._start.show({"stage": self._stage})
        lost = self._bridge.lost
        while not self._start.stopping():
            if self._bridge.lost != lost:
                lost = self._bridge.lost
                self._begin()
            if self._bridge.ready and not self._asked:
                self._asked = True
                self._bridge.send("turn", self._turn * self._count, self._count, self._model)
            message = self._bridge.read(0.1)
            if message is None:
                continue
            kind, *rest = message
            if kind == "file":
                self._take(*rest)
            elif kind == "fault":
                self._faults[rest[0]["k"], rest[0]["ply"]] = rest[0]
            elif kind == "nodes":
                self._nodes.told(rest[0])
            elif kind == "loaded":
                loaded(*rest)
            elif kind == "done":
                games = [self._games[k] for k in sorted(self._games)]
                return games, self._simulations, [self._faults[key] for key in sorted(self._faults)]
        return None

    def _take(self, ticket: int, node: str, name: str, data: bytes, stats: dict[str, Any], _: int) -> None:
        try:
            records = parse_records(Path(f"a file of node {name}"), data, self._start.game)
            bad = [f"row {fault.row}: {fault.reason}" for fault in check_records(self._start.game, records)]
        except Refused as refusal:
            records, bad = None, [str(refusal)]
        self._bridge.send("judged", ticket, not bad)
        if bad or records is None:  # a deterministic run has no time for a second look
            self._bridge.send("refuse", node, f"a file of it is bad: {bad[0]}")
            return
        self._games |= {game.k: game for game in unpack(records)}
        self._simulations += int(stats["simulations"])

    def _stage(self) -> str:
        return f"turn {self._turn}: {len(self._games)} of {self._count} games"
