"""A cluster in one process: real players behind a fleet that can lose, silence and poison them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from pathlib import Path
from typing import Any, ClassVar

from az.engine.game import Game
from az.engine.inference.model_resolver import newest_model
from az.engine.inference.onnx_evaluator import OnnxEvaluator
from az.engine.records.format import FinishedGame, parse_records, unpack
from az.engine.selfplay.batch import SelfplayConfig
from az.train.cluster.dispatcher import Dispatcher, Model
from az.train.cluster.fleet import Gone, Node
from az.train.cluster.player import Player, PlayerJob, facts
from az.train.run.services import PoolStart

Spoil = Callable[[str, dict[str, Any]], "dict[str, Any] | Gone"]


class LocalFleet:
    """Players in threads of this process. spoil: given the node's id and an answer, gives the one that arrives."""

    def __init__(self, job: Any, spoil: Spoil = lambda _, answer: answer, make: Callable[..., Any] = Player) -> None:
        self.job, self.spoil, self.make = job, spoil, make
        self.there: list[Node] = []
        self.players: dict[str, tuple[Any, Node]] = {}
        self.asked: dict[Future[Any], str] = {}
        self.silent: set[str] = set()  # players that say nothing any more, and live
        self.threads = ThreadPoolExecutor(16)

    def nodes(self) -> list[Node]:
        return [*self.there]

    def start(self, player: str, node: Node, gpu: bool) -> None:
        assert not gpu
        self.players[player] = self.make(self.job, lambda handle: handle), node
        self.asked[self.threads.submit(self.players[player][0].hello)] = player

    def ask(self, player: str, orders: dict[str, Any]) -> None:
        self.asked[self.threads.submit(self.players[player][0].exchange, orders)] = player

    def answers(self, timeout: float) -> list[tuple[str, Any]]:
        heard = [future for future, player in self.asked.items() if player not in self.silent]
        if not heard:
            time.sleep(timeout)
        done, _ = wait_for(heard, timeout, "FIRST_COMPLETED")
        found = []
        for future in done:
            player = self.asked.pop(future)
            node = self.players[player][1]
            lost = node not in self.there
            found.append((player, Gone("ended") if lost else self.spoil(node.id, future.result())))
        return found

    def end(self, player: str) -> None:
        self.asked = {future: name for future, name in self.asked.items() if name != player}
        ended = self.players.pop(player, None)
        if ended is not None:
            ended[0]._batches = None
            ended[0]._paused = True

    def put(self, data: bytes) -> bytes:
        return data

    def close(self) -> None:
        for player in [*self.players]:
            self.end(player)
        self.threads.shutdown(wait=False, cancel_futures=True)


class Rig:
    """A dispatcher over such a fleet, and the run at the other end of the pipe."""

    def __init__(
        self, game: Game, model: Path, config: SelfplayConfig, seed: int, spoil: Spoil = lambda _, answer: answer,
        expected: dict[str, Any] | None = None, answers: str | None = None, exact: bool = True,
    ) -> None:  # fmt: skip
        self.game, self.seed = game, seed
        self.fleet = LocalFleet(PlayerJob(game.name, config, seed), spoil)
        self.now = 0.0  # seconds added to the clock
        clock = lambda: time.monotonic() + self.now  # noqa: E731
        self.dispatcher = Dispatcher(
            self.fleet, expected or facts(game), seed, self._hear, 2, False, config.header(), config.slots, clock
        )
        found = OnnxEvaluator(model, game)
        self.model = Model(
            found.model_id, model.name, model.read_bytes(), answers or (found.answers if exact else None)
        )
        self.dispatcher.model(self.model)
        self.said: list[str] = []
        self.notes: list[tuple[str, dict[str, Any]]] = []
        self.games: dict[int, FinishedGame] = {}
        self.twice: list[int] = []
        self.judge: Callable[[bytes], bool] = lambda _: True
        self.answers: list[tuple[int, bool]] = []
        self.simulations = 0

    def _hear(self, kind: str, *rest: Any) -> None:
        if kind == "say":
            self.said.append(rest[0])
        elif kind == "note":
            self.notes.append((rest[0], rest[1]))
        elif kind == "file":
            ticket, _, _, data, stats = rest
            accepted = self.judge(data)
            self.answers.append((ticket, accepted))
            if accepted:
                for game in unpack(parse_records(Path("file"), data, self.game)):
                    self.twice += [game.k] if game.k in self.games else []
                    self.games[game.k] = game
                self.simulations += stats["simulations"]

    def node(self, name: str, cpus: int = 1) -> Node:
        node = Node(name, name, cpus)
        self.fleet.there.append(node)
        return node

    def rounds(self, seconds: float = 120.0) -> Iterator[int]:
        """Rounds until the numbers are over; the number of games so far. Fails after so many seconds."""
        end = time.monotonic() + seconds
        while not self.dispatcher.leases.over():
            assert time.monotonic() < end, (len(self.games), self.said)
            self.dispatcher.step(0.05)
            while self.answers:
                self.dispatcher.judged(*self.answers.pop())
            yield len(self.games)

    def play(self, first: int, count: int) -> dict[int, FinishedGame]:
        self.dispatcher.supply(first, count)
        for _ in self.rounds():
            pass
        return self.games


class RigBridge:
    """As `pool.Bridge`, without Ray or a process: a dispatcher and real players. spoil: as in `LocalFleet`."""

    spoil: ClassVar[Spoil] = staticmethod(lambda _, answer: answer)
    names: ClassVar[tuple[str, ...]] = ("a",)
    made: ClassVar[list[RigBridge]] = []

    def __init__(self, start: PoolStart, _: str, first_game: int | None) -> None:
        config = start.config
        self._start, self._messages = start, deque[tuple[Any, ...]]()
        self.fleet = LocalFleet(PlayerJob(config.game, config.selfplay, config.seed), type(self).spoil)
        self.fleet.there += [Node(name, f"{name} (10.0.0.{n}, {name})", 1) for n, name in enumerate(type(self).names)]
        self.dispatcher = Dispatcher(
            self.fleet, facts(start.game), config.seed, self._tell, 1, False, config.selfplay.header(),
            config.selfplay.slots,
        )  # fmt: skip
        self._path: Path | None = None
        self.dispatcher.supply(first_game or 0)
        self.ready, self.lost = True, 0
        type(self).made.append(self)

    def _tell(self, kind: str, *rest: Any) -> None:
        if kind == "say":
            self._start.report(rest[0])
        elif kind == "note":
            self._start.note(*rest)
        else:
            self._messages.append(
                (kind, *rest, self.dispatcher.leases.next_number) if kind == "file" else (kind, *rest)
            )

    def read(self, timeout: float) -> tuple[Any, ...] | None:
        path = newest_model(self._start.folder.models)
        if path is not None and path != self._path:
            self._path = path
            data = path.read_bytes()
            self.dispatcher.model(Model(OnnxEvaluator(path, self._start.game).model_id, path.name, data))
        if not self._messages:
            self.dispatcher.step(timeout)
        return self._messages.popleft() if self._messages else None

    def begin_at(self, _: int) -> None: ...

    def pause(self, paused: bool) -> None:
        self.dispatcher.paused = paused

    def send(self, kind: str, *rest: Any) -> None:
        {"judged": self.dispatcher.judged, "refuse": self.dispatcher.refuse}[kind](*rest)

    def stop(self) -> None:
        self.fleet.close()
