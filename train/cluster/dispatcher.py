"""The scheduling of a run's self-play over a cluster: players on nodes that come and go, numbers lent, files fetched.

Pure logic over a `Fleet`, with a clock of its own: `benchmarks/cluster_scale.py` runs it against simulated players.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from az.engine.errors import Refused
from az.engine.printable import counted
from az.train.cluster.answers import Answer, Contents, File, contents_of, read_answer, read_facts
from az.train.cluster.fleet import Fleet, Gone, Node
from az.train.cluster.leases import MOST_LENT, Leases

LOOK_EVERY = 2.0  # seconds between two looks at the nodes
TELL_EVERY = 1.0  # seconds between two reports of rates
WAIT = 0.5  # seconds that a player may keep a question
START_SECONDS = 240.0  # until a player says its first word; its process may wait for a place on the node
SILENT_SECONDS = 60.0  # until a player that does not answer is given up
STUCK_SECONDS = 600.0  # until one that answers, holds numbers and makes no simulation is given up
MOST_ENDS = 5  # a player's place may lose it so many times in ENDS_SECONDS; then the node is left out
ENDS_SECONDS = 600.0
MOST_STALE = 3  # files of numbers that a player did not have; then its node is left out
MOST_FAULTS = 3  # searches that failed on a node; then it is left out
MOST_REFUSED = 5  # times that nodes of one machine were left out; then those of it that join are left out at once
LENT_BEFORE = 64  # numbers that a player may hold beyond twice its games in flight and twice what it has handed in
MODELS_ON_GPU = 2  # networks in play at once on a GPU: a step makes one call of full size for each

Tell = Callable[..., None]


@dataclass(frozen=True)
class Model:
    """A published model. answers: the digest of the head's own answers, where every node has to give the same."""

    id: str
    name: str
    handle: Any
    answers: str | None = None


@dataclass
class Seat:
    """One player, as the dispatcher knows it."""

    name: str
    node: Node
    gpu: bool
    asked: float  # since when it owes an answer
    moved: float  # when its simulations last rose, or it had none to make
    greeted: bool = False
    known: set[str] = field(default_factory=set)
    last_model: str = ""
    walks: int = 0
    rate: float = 0.0  # simulations a second
    counted: float = 0.0
    games: int = 0  # handed in
    failed: set[int] = field(default_factory=set)  # games of which it told a fault


@dataclass
class Place:
    """What is known of a node over all its players."""

    node: Node
    refused: str = ""
    ends: deque[float] = field(default_factory=deque)
    stale: int = 0
    games: int = 0
    rows: int = 0
    files: int = 0
    faults: int = 0
    lost: int = 0  # games that its players could not play
    simulations: int = 0
    quiet_until: float = 0.0
    waits: bool = False  # it has been said that no core of it is free


class Dispatcher:
    """tell: given a kind and values: "file" ticket node-id node-name data stats, "fault" fault, "say" sentence, "note"
    kind values, "nodes" list, "refused" node-id. expected: the facts that every node has to have (`player.facts`).
    """

    def __init__(
        self, fleet: Fleet, expected: dict[str, Any], seed: int, tell: Tell, most_players: int = 0,
        gpus: bool = False, search: dict[str, Any] | None = None, in_flight: int = MOST_LENT,
        clock: Callable[[], float] = time.monotonic, read: Callable[[Any], Answer] = read_answer,
        peek: Callable[[Any], Contents] = contents_of,
    ) -> None:  # fmt: skip
        """most_players: on one node, 0: one a core. gpus: whether players on GPUs make sense for the run's precision.
        search: parameters that every file must have been made with. in_flight: games that a player plays at once.
        read, peek: of answers and files (others in a simulation, where there are none).
        """
        self.fleet, self.expected, self.seed, self.tell = fleet, expected, seed, tell
        self.most_players, self.gpus, self._clock = most_players, gpus, clock
        self.search, self.in_flight, self._read, self._peek = search, in_flight, read, peek
        self.leases = Leases(0, 0)
        self.seats: dict[str, Seat] = {}
        self.places: dict[str, Place] = {}
        self.paused = False
        self._models: dict[str, Model] = {}
        self._newest = ""
        self._looked = self._told = -1e9
        self._number = 0
        self._left_out: Counter[str] = Counter()  # by machine

    # -- what the run says ---------------------------------------------------------------------------------------

    def supply(self, first: int, count: int | None = None) -> None:
        """Numbers to be played from now on. Raises AssertionError while an earlier limited set is not over."""
        assert self.leases.over(), "the numbers before are not played yet"
        self.leases = Leases(first, count)

    def model(self, model: Model) -> None:
        """The newest model: new numbers are lent with it."""
        self._models[model.id] = model
        self._newest = model.id
        kept = self.leases.models() | {self._newest}
        self._models = {name: known for name, known in self._models.items() if name in kept}

    def judged(self, ticket: int, accepted: bool) -> None:
        """Whether the run accepted a file."""
        self.leases.judged(ticket, accepted)

    def refuse(self, node: str, reason: str) -> None:
        """Leave a node out from now on; its games are played by others."""
        place = self.places.get(node)
        if place is None or place.refused:
            return
        place.refused = reason
        self._left_out[place.node.host or node] += 1
        again = sum(self._drop(seat) for seat in [*self.seats.values()] if seat.node.id == node)
        others = f"; {counted(again, 'game')} to be played by others" if again else ""
        self.tell("say", f"node {place.node.name} is left out: {reason.rstrip('.')}{others}")
        self._note(place.node, "left out", f": {reason}")

    # -- one round -----------------------------------------------------------------------------------------------

    def step(self, timeout: float) -> None:
        """Hear what has come, see who has gone, ask on. Waits at most `timeout` seconds."""
        for name, answer in self.fleet.answers(timeout):
            seat = self.seats.get(name)
            if seat is None:
                continue
            self._hear(seat, answer)
        now = self._clock()
        for seat in [*self.seats.values()]:
            patience = SILENT_SECONDS if seat.greeted else START_SECONDS
            if now - seat.asked > patience and not seat.greeted:
                self._not_begun(seat)
            elif now - seat.asked > patience:
                self._lose(seat, f"has said nothing for {patience:g} s")
            elif self.paused or not self.leases.holds(seat.name):
                seat.moved = now
            elif now - seat.moved > STUCK_SECONDS:
                self._lose(seat, f"has made no simulation for {STUCK_SECONDS:g} s")
        if now - self._looked >= LOOK_EVERY:
            self._looked = now
            self._look()
        if now - self._told >= TELL_EVERY:
            self._told = now
            self.tell("nodes", self.figures())

    def _look(self) -> None:
        nodes = {node.id: node for node in self.fleet.nodes() if any(count for _, count in self._wanted(node))}
        for seat in [*self.seats.values()]:
            if seat.node.id not in nodes:
                self._lose(seat, "went with its node", counts=False)
        for gone in self.places.keys() - nodes.keys():
            place = self.places.pop(gone)
            if not place.refused:
                self.tell("say", f"node {place.node.name} left the cluster")
                self._note(place.node, "left")
        for node in nodes.values():
            if node.id not in self.places:
                self.places[node.id] = Place(node)
                self.tell("say", f"node {node.name} joined: {_players(self._wanted(node))}")
                self._note(node, "joined")
                if self._left_out[node.host or node.id] >= MOST_REFUSED:
                    self.refuse(
                        node.id, f"nodes of its machine were left out {MOST_REFUSED} times; begin the run again"
                    )
            place = self.places[node.id]
            if place.refused or self._clock() < place.quiet_until:
                continue
            for gpu, count in self._wanted(node):
                there = sum(seat.node.id == node.id and seat.gpu == gpu for seat in self.seats.values())
                for _ in range(count - there):
                    self._start(node, gpu)

    def _note(self, node: Node, event: str, reason: str = "") -> None:
        text = f"node {node.name} {event}{reason}"
        self.tell("note", "node", {"node": node.name, "event": event, "text": text})

    def _wanted(self, node: Node) -> list[tuple[bool, int]]:
        """(on a GPU, players) of a node: one a GPU, or one a core where there is none."""
        if self.gpus and node.gpus:
            return [(True, node.gpus)]
        return [(False, min(node.cpus, self.most_players) if self.most_players else node.cpus)]

    def _start(self, node: Node, gpu: bool) -> None:
        self._number += 1
        now = self._clock()
        seat = Seat(f"player-{self._number}", node, gpu, now, now)
        self.seats[seat.name] = seat
        self.fleet.start(seat.name, node, gpu)

    # -- answers -------------------------------------------------------------------------------------------------

    def _hear(self, seat: Seat, said: object) -> None:
        if isinstance(said, Gone):
            early = "" if seat.greeted else " before its first word (the same environment and RAY_AUTH_MODE there?)"
            self._lose(seat, said.text + early)
            return
        try:
            if not seat.greeted:
                self._greet(seat, read_facts(said, self.expected))
                return
            answer = self._read(said)
        except ValueError as error:
            self.refuse(seat.node.id, f"it sent an answer that cannot be read: {error}")
            return
        place = self.places[seat.node.id]
        sound = all(self._file(seat, place, file) for file in answer.files)  # not one more after a bad one
        self._failed(seat, place, answer)
        if seat.name not in self.seats:  # left out meanwhile
            return
        self._count(seat, answer.walks)
        seat.known = answer.known
        if not sound:  # which of its numbers it has played is not known: others play them
            self._lose(seat, "sent a file that is not what it was asked for")
        elif answer.refused:
            self.refuse(seat.node.id, answer.refused)
        elif answer.error:
            self.tell("note", "worker", {"worker": seat.name, "node": seat.node.name, "error": answer.error})
            self._lose(seat, f"ended: {answer.error.splitlines()[-1]}")
        else:
            self._ask(seat, answer.want, answer.alive)

    def _greet(self, seat: Seat, told: dict[str, str]) -> None:
        seat.greeted, seat.counted = True, self._clock()
        for name, wanted in self.expected.items():
            if told[name] != str(wanted):
                what = "another az (its engine's sources differ)" if name == "engine" else f"another {name}"
                self.refuse(seat.node.id, f"it has {what}: {told[name]}, and the head has {wanted}")
                return
        self._ask(seat, 0)

    def _failed(self, seat: Seat, place: Place, answer: Answer) -> None:
        """Searches that failed: each is told of; a game that failed twice is tried by another node."""
        for fault in answer.faults:
            if not self.leases.has(seat.name, fault["k"]):
                self.refuse(seat.node.id, f"it tells of a fault in game {fault['k']}, which it was not lent")
                return
            seat.failed.add(fault["k"])
            place.faults += 1
            self.tell("fault", {**fault, "node": seat.node.name})
            if place.faults >= MOST_FAULTS:
                self.refuse(seat.node.id, f"{place.faults} searches failed on it, the last: {fault['text']}")
                return
        for k in answer.lost:
            if k not in seat.failed:
                self.refuse(seat.node.id, f"it gives up game {k} and does not say why")
                return
            place.lost += 1
            given_up = self.leases.failed(seat.name, k, seat.node.id)
            what = "is left out: it failed there for the second time" if given_up else "is played again elsewhere"
            self.tell("say", f"game {k} could not be played on node {seat.node.name} and {what}")
            self._note(seat.node, "lost a game", f": game {k} {what}")

    def _count(self, seat: Seat, walks: int) -> None:
        now = self._clock()
        seconds = now - seat.counted
        if seconds > 0:
            share = min(1.0, seconds / 5.0)  # a mean over some seconds
            seat.rate += share * (max(0, walks - seat.walks) / seconds - seat.rate)
        self.places[seat.node.id].simulations += max(0, walks - seat.walks)
        seat.moved = now if walks != seat.walks else seat.moved
        seat.walks, seat.counted = walks, now

    def _ask(self, seat: Seat, want: int, alive: int = 0) -> None:
        leases = []
        left = self.leases.left()
        if self._newest and not self.paused:
            most = 2 * (self.in_flight + seat.games) + LENT_BEFORE  # whatever it says
            want = max(0, min(want, most - self.leases.lent(seat.name)))
            if left is not None:  # the last of a limited set are shared out, or one would play them alone
                want = min(want or 1, max(1, left // (2 * max(1, len(self.seats)))))
            fresh = self._newest
            full = seat.gpu and alive >= MODELS_ON_GPU and self._newest not in seat.known
            if full and seat.last_model in self._models and seat.last_model in seat.known:
                fresh = seat.last_model
            alone = sum(not place.refused for place in self.places.values()) == 1
            give = want or 1, fresh, seat.node.id, alone
            leases = self.leases.give(seat.name, *give) if want or not seat.known else []
            seat.last_model = fresh
        needed = {lease.model for lease in leases} - seat.known
        models = {m.id: (m.name, m.handle, m.answers) for m in (self._models[name] for name in sorted(needed))}
        more = bool(self._newest) and not self.paused and self.leases.left() != 0
        seat.asked = self._clock()
        orders = {"models": models, "leases": leases, "more": more, "paused": self.paused, "wait": WAIT}
        self.fleet.ask(seat.name, orders)

    def _file(self, seat: Seat, place: Place, file: File) -> bool:
        """Numbers, models, seed and search are looked at here, rows where the run takes the file."""
        try:
            found = self._peek(file.data)
        except Refused:
            stats = {**dict.fromkeys(("games", "plies", "first_wins", "draws"), 0), "simulations": 0}
            self.tell("file", 0, seat.node.id, seat.node.name, file.data, stats)  # put aside there
            return False
        sound = found.seed == self.seed and self.search in (None, found.search)
        ticket = self.leases.arrived(seat.name, found.games) if sound else None
        if ticket is None:
            place.stale += 1
            what = "its games are not those lent to it" if sound else "it was made with another seed or search"
            self.tell("say", f"a file of node {seat.node.name} was dropped: {what}")
            self.tell("note", "dropped", {"node": seat.node.name, "games": [k for k, _ in found.games][:10]})
            if place.stale >= MOST_STALE:
                self.refuse(seat.node.id, f"{place.stale} files of it were not what was asked for")
            return False
        seat.games += len(found.games)
        place.files, place.games = place.files + 1, place.games + len(found.games)
        place.rows += file.rows
        stats = {**found.tally, "rows": file.rows, "simulations": file.simulations}
        self.tell("file", ticket, seat.node.id, seat.node.name, file.data, stats)
        return True

    # -- ends ----------------------------------------------------------------------------------------------------

    def _drop(self, seat: Seat) -> int:
        """Give a player up: whatever it may still send is of no player that is known."""
        self.seats.pop(seat.name, None)
        self.fleet.end(seat.name)
        return self.leases.end(seat.name)

    def _not_begun(self, seat: Seat) -> None:
        """Its process has not come: the node's cores may be taken by other programs, and become free later."""
        place = self.places[seat.node.id]
        self._lose(seat, f"has not begun for {START_SECONDS:g} s", counts=False)
        if not place.waits:
            place.waits = True
            text = f"node {place.node.name} has started no player for {START_SECONDS:g} s: do others use its cores?"
            self.tell("say", text)
        place.quiet_until = self._clock() + LOOK_EVERY

    def _lose(self, seat: Seat, text: str, counts: bool = True) -> None:
        if seat.name not in self.seats:
            return
        again, now, place = self._drop(seat), self._clock(), self.places.get(seat.node.id)
        self.tell("note", "worker", {"worker": seat.name, "node": seat.node.name, "ended": text, "again": again})
        if place is None or not counts:
            return
        self.tell("say", f"a player on node {seat.node.name} {text}: {counted(again, 'game')} to be played again")
        place.quiet_until = now + LOOK_EVERY  # its node may be on its way out
        place.ends.append(now)
        while place.ends and now - place.ends[0] > ENDS_SECONDS:
            place.ends.popleft()
        if len(place.ends) > MOST_ENDS * max(1, sum(count for _, count in self._wanted(seat.node))):
            self.refuse(seat.node.id, f"its players end again and again, the last: {text}")

    def figures(self) -> list[dict[str, Any]]:
        """Of every node: name, players, simulations (in all, a second), games, rows, files, faults, lost games, and
        why it was left out.
        """
        players: Counter[str] = Counter()
        rates: Counter[str] = Counter()
        for seat in self.seats.values():
            if seat.greeted:
                players[seat.node.id] += 1
                rates[seat.node.id] += int(seat.rate)
        return [
            {
                "node": place.node.name, "players": players[node], "simulations_per_s": rates[node],
                "simulations": place.simulations,
                "games": place.games, "rows": place.rows, "files": place.files, "faults": place.faults,
                "lost": place.lost,
                "left_out": place.refused,
            }
            for node, place in self.places.items()
        ]  # fmt: skip


def _players(wanted: list[tuple[bool, int]]) -> str:
    ((gpu, count),) = wanted
    return f"{counted(count, 'player')}, one a {'GPU' if gpu else 'core'}"
