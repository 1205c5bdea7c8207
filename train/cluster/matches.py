"""Matches over a cluster: pairs of games are handed to players on nodes, and those of a lost one are played again.

A unit of games is a pure function of the players, the seed and the games' numbers, so the table does not depend on who
played what. What comes back is moves, which are played through here: only a game that the rules allow counts.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from az.engine.arena.match import GameRecord, Starts
from az.engine.arena.openings import Opening
from az.engine.errors import AzError, Refused
from az.engine.game import ONGOING, Game
from az.engine.inference.model_file import ModelFile
from az.engine.inference.onnx_evaluator import OnnxEvaluator
from az.engine.players import Player
from az.engine.printable import counted, one_line
from az.train.cluster.answers import MOST_TEXT
from az.train.cluster.fleet import Fleet, Gone, Node
from az.train.cluster.match_player import Contestant, MatchJob, Unit, describe
from az.train.cluster.player import facts

ROUND = 0.1  # seconds that one round waits for players at most
WAIT = 0.5  # seconds that a player may keep a question
LOOK_EVERY = 2.0  # seconds between two looks at the nodes
START_SECONDS = 240.0  # until a player says its first word, or a cluster has one
SILENT_SECONDS = 60.0  # until a player that does not answer is given up
MOST_AT_ONCE, MOST_AT_ONCE_TEST = 4096, 512  # games of a match under way
MOST_UNIT = 64  # games in one question
MOST_FAILS = 3  # times that the same games may end a player; then the match ends
MOST_ENDS = 5  # times that a node may lose a player, for each of its cores

Say = Callable[[str], None]


class CannotPlayError(Refused):
    """The match cannot be played on this cluster."""


@dataclass
class _Match:
    a: Contestant
    b: Contestant
    seed: int
    finished: Callable[[int], None]
    todo: deque[tuple[int, Opening]]
    records: dict[int, GameRecord] = field(default_factory=dict)
    fails: Counter[int] = field(default_factory=Counter)  # by the first game of a unit
    wanted: int = 0
    error: AzError | None = None


@dataclass
class _Seat:
    node: Node
    asked: float
    greeted: bool = False
    waiting: bool = True  # owes an answer
    known: set[str] = field(default_factory=set)
    match: _Match | None = None
    unit: Unit | None = None


class Matches:
    """A `Hall` (engine/arena/match.py) over a fleet. One thread of its own talks to the fleet."""

    def __init__(self, fleet: Fleet, game: Game, say: Say, clock: Callable[[], float] = time.monotonic) -> None:
        self.fleet, self.game, self._say, self._clock = fleet, game, say, clock
        self._expected = facts(game)
        self._models: dict[str, tuple[str, Any, str]] = {}  # id: name, handle, the head's answers
        self._matches: list[_Match] = []
        self._seats: dict[str, _Seat] = {}
        self._refused: dict[str, str] = {}  # node: why
        self._ends: Counter[str] = Counter()
        self._quiet_until: dict[str, float] = {}
        self._number = 0
        self._looked = -1e9
        self._alive = clock()  # when a player was last heard
        self._news = threading.Condition()
        self._closed = False
        self._dead = ""  # why the fleet can no longer be used
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    # -- what the arena asks -------------------------------------------------------------------------------------

    def most(self, test: bool) -> int:
        """As `Hall`."""
        return MOST_AT_ONCE_TEST if test else MOST_AT_ONCE

    def play(
        self, a: Player, b: Player, seed: int, starts: Starts, finished: Callable[[int], None]
    ) -> list[GameRecord]:
        """As `Hall`. Raises Refused where the cluster cannot play, or these players cannot."""
        match = _Match(self._describe(a), self._describe(b), seed, finished, deque(starts), wanted=len(starts))
        with self._news:
            self._matches.append(match)
            if self._dead:
                self._fail(self._dead)
            while len(match.records) < match.wanted and match.error is None and not self._closed:
                self._news.wait(1.0)
            if match in self._matches:
                self._matches.remove(match)
        if match.error is not None:
            raise match.error
        if len(match.records) < match.wanted:
            raise CannotPlayError("the match was stopped before its games were over.")
        return [match.records[number] for number, _ in starts]

    def close(self) -> None:
        """Tell those that wait for a match; end all players."""
        with self._news:
            self._closed = True
            self._news.notify_all()
        self._thread.join(30.0)
        self.fleet.close()

    def _describe(self, player: Player) -> Contestant:
        contestant, network = describe(player)
        with self._news:
            if network is not None and contestant.model not in self._models:
                file = ModelFile(network.path)
                if file.model_id != contestant.model:
                    raise Refused(f"model {network.name} was changed on disk since it was loaded: begin again.")
                here = OnnxEvaluator(network.path, self.game, provider="cpu", data=file.data)
                self._models[contestant.model] = (network.name, self.fleet.put(file.data), here.answers)
        return contestant

    # -- rounds --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._closed:
                answers = self.fleet.answers(ROUND)
                with self._news:
                    self.step(answers)
                    self._news.notify_all()
        except AzError as error:
            with self._news:
                self._dead = str(error)
                self._fail(self._dead)
        except Exception as error:  # the fleet itself has failed: no match may wait for it
            with self._news:
                self._dead = f"the cluster cannot be used any more ({type(error).__name__}: {error})"
                self._fail(self._dead)

    def step(self, answers: list[tuple[str, dict[str, Any] | Gone]]) -> None:
        """One round: take answers, see who has gone, ask those that have nothing to do."""
        now = self._clock()
        for name, answer in answers:
            seat = self._seats.get(name)
            if seat is None:
                continue
            try:
                self._hear(name, seat, answer)
            except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError):  # it may be anything
                self._refuse(seat.node, "it sent an answer that cannot be read")
        for name, seat in [*self._seats.items()]:
            patience = SILENT_SECONDS if seat.greeted else START_SECONDS
            if seat.waiting and now - seat.asked > patience:
                self._lose(name, f"has said nothing for {patience:g} s")
        if now - self._looked >= LOOK_EVERY:
            self._looked = now
            self._look()
        for name, seat in [*self._seats.items()]:
            if not seat.waiting:
                self._ask(name, seat)
        if any(seat.greeted for seat in self._seats.values()) or not self._matches:
            self._alive = now
        elif now - self._alive > START_SECONDS:
            self._fail(f"no node of the cluster has played for {START_SECONDS:g} s: join one, or leave --cluster out")

    def _look(self) -> None:
        now = self._clock()
        nodes = {node.id: node for node in self.fleet.nodes() if node.cpus}
        for name, seat in [*self._seats.items()]:
            if seat.node.id not in nodes:
                self._lose(name, "went with its node")
        for node in nodes.values():
            there = sum(seat.node.id == node.id for seat in self._seats.values())
            if node.id in self._refused or now < self._quiet_until.get(node.id, 0.0):
                continue
            for _ in range(node.cpus - there):
                self._number += 1
                name = f"match-player-{self._number}"
                self._seats[name] = _Seat(node, now)
                self.fleet.start(name, node, False)
        if nodes and nodes.keys() <= self._refused.keys():
            self._fail(f"no node of the cluster can play: {self._refused[next(iter(nodes))]}")

    def _hear(self, name: str, seat: _Seat, answer: dict[str, Any] | Gone) -> None:
        seat.waiting = False
        if isinstance(answer, Gone):
            self._lose(name, answer.text)
        elif not seat.greeted:
            seat.greeted = True
            for fact, wanted in self._expected.items():
                if answer.get(fact) != wanted:
                    what = "another az (its engine's sources differ)" if fact == "engine" else f"another {fact}"
                    told = one_line(str(answer.get(fact)), MOST_TEXT)
                    self._refuse(seat.node, f"it has {what}: {told}, and the head has {wanted}")
                    return
        elif "refused" in answer:
            self._refuse(seat.node, one_line(str(answer["refused"]), MOST_TEXT))
        else:
            seat.known = set(answer["known"])
            self._take(name, seat, answer)

    def _take(self, name: str, seat: _Seat, answer: dict[str, Any]) -> None:
        match, unit = seat.match, seat.unit
        if match is None or unit is None:
            return
        if "games" in answer:
            try:
                records = replayed(self.game, unit.starts, answer["games"])
            except Refused as refusal:
                self._refuse(seat.node, f"it sent a game that was not played: {refusal}")
                return
            seat.match = seat.unit = None
            for record in records:
                match.records[record.number] = record
                match.finished(record.result)
        elif text := str(answer.get("error") or answer.get("crash") or "").strip():
            last = one_line(text[-4 * MOST_TEXT :].splitlines()[-1], MOST_TEXT)
            match.fails[unit.starts[0][0]] += 1
            if match.fails[unit.starts[0][0]] >= MOST_FAILS:
                match.error = CannotPlayError(last)
            self._lose(name, f"ended: {last}")

    def _ask(self, name: str, seat: _Seat) -> None:
        unit = None
        if seat.unit is None:
            match = next((one for one in self._matches if one.todo and one.error is None), None)
            if match is None:
                return
            left = sum(len(one.todo) for one in self._matches)
            count = max(2, min(MOST_UNIT, left // (2 * len(self._seats)) // 2 * 2))
            starts = [match.todo.popleft() for _ in range(min(count, len(match.todo)))]
            seat.match, seat.unit = match, Unit(match.a, match.b, match.seed, starts)
            unit = seat.unit
        needed = {unit.a.model, unit.b.model} - {""} - seat.known if unit is not None else set[str]()
        seat.waiting, seat.asked = True, self._clock()
        self.fleet.ask(name, {"models": {m: self._models[m] for m in needed}, "unit": unit, "wait": WAIT})

    # -- ends ----------------------------------------------------------------------------------------------------

    def _drop(self, name: str) -> int:
        """Its games are played again by others."""
        seat = self._seats.pop(name)
        self.fleet.end(name)
        if seat.match is None or seat.unit is None:
            return 0
        seat.match.todo.extendleft(reversed(seat.unit.starts))
        return len(seat.unit.starts)

    def _lose(self, name: str, text: str) -> None:
        node = self._seats[name].node
        again = self._drop(name)
        self._say(f"a player on node {node.name} {text}: {counted(again, 'game')} to be played again")
        self._ends[node.id] += 1
        self._quiet_until[node.id] = self._clock() + LOOK_EVERY  # it may be on its way out
        if self._ends[node.id] > MOST_ENDS * max(1, node.cpus):
            self._refuse(node, f"its players end again and again, the last: {text}")

    def _refuse(self, node: Node, reason: str) -> None:
        for name in [name for name, seat in self._seats.items() if seat.node.id == node.id]:
            self._drop(name)
        if node.id not in self._refused:
            self._refused[node.id] = reason
            self._say(f"node {node.name} is left out: {reason.rstrip('.')}")
            self._looked = -1e9

    def _fail(self, reason: str) -> None:
        with self._news:
            for match in self._matches:
                match.error = match.error or CannotPlayError(reason.rstrip(".") + ".")
            self._news.notify_all()


def replayed(game: Game, starts: Starts, data: object) -> list[GameRecord]:
    """What a node sent, played through by the rules. Raises Refused where that is not these games to their ends."""
    most = sum(64 + 12 * game.max_plies for _ in starts)
    if not isinstance(data, bytes) or len(data) > most:
        raise Refused(f"a message that is no list of games, or above {most:,} bytes.")
    try:
        found = {int(number): [int(action) for action in actions] for number, actions in json.loads(data)}
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise Refused("a message that is no list of games.") from None
    if found.keys() != {number for number, _ in starts}:
        raise Refused("other games than were asked for.")
    return [_replay(game, number, opening, found[number]) for number, opening in starts]


def _replay(game: Game, number: int, opening: Opening, actions: list[int]) -> GameRecord:
    if tuple(actions[: len(opening)]) != tuple(opening) or len(actions) > game.max_plies:
        raise Refused(f"game {number} does not begin with its opening, or is too long.")
    state = game.new_state()
    for action in actions:
        legal = game.outcome(state) == ONGOING and 0 <= action < game.num_actions and game.mask(state)[action]
        if not legal:
            raise Refused(f"game {number} holds action {action} where it is not legal.")
        game.apply(state, action)
    outcome, a_is = game.outcome(state), number % 2
    if outcome == ONGOING:
        raise Refused(f"game {number} is not over.")
    result = int(outcome if state[0] == a_is else -outcome)
    return GameRecord(number, a_is, len(opening), tuple(actions), result)


@contextmanager
def matches_on(address: str, game: Game, say: Say) -> Generator[Matches]:
    """A hall on a Ray cluster (HOST:PORT, or `local`). Raises WrongRequest without ray, Refused without a cluster."""
    from az.train.cluster.bridge import prepare
    from az.train.cluster.request import check_address

    check_address(address)
    prepare(address)
    from az.train.cluster.ray_fleet import RayFleet

    hall = Matches(RayFleet(address, MatchJob(game.name)), game, say)
    try:
        yield hall
    finally:
        hall.close()
