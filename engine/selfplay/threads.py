"""Several batches of games in one process, so that the device is never idle: while one waits for the network the others
walk. Each has its own thread and its own games; walking and waiting both leave Python's lock to the rest.

Which games are played does not depend on how many threads there are, since a game is a function of its number; only the
order in which they end does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from queue import SimpleQueue

from az.engine.game import Game
from az.engine.inference.evaluator import Evaluator
from az.engine.records.format import FinishedGame
from az.engine.selfplay.batch import SelfplayBatch, SelfplayConfig
from az.engine.selfplay.checks import SearchFault

NextGame = Callable[[], tuple[int, Evaluator] | None]
DONE = object()


class GameThreads:
    """`count` SelfplayBatches side by side, of config.slots games each. One plays in the thread of its caller."""

    def __init__(self, game: Game, config: SelfplayConfig, seed: int, count: int) -> None:
        self.batches = [SelfplayBatch(game, config, seed, config.slots) for _ in range(count)]
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._said: SimpleQueue[FinishedGame | BaseException | object] = SimpleQueue()

    @property
    def simulations(self) -> int:
        """Made so far in games that ended."""
        return sum(batch.simulations for batch in self.batches)

    def walks(self) -> int:
        """Simulations begun so far."""
        return sum(batch.walks() for batch in self.batches)

    def take_faults(self) -> list[SearchFault]:
        """The games stopped since the last call."""
        return [batch.faults.pop(0) for batch in self.batches for _ in range(len(batch.faults))]

    def lost(self) -> list[SearchFault]:
        """The last faults of games that failed a second time: they will not come."""
        return [fault for batch in self.batches for fault in batch.lost()]

    def play(self, next_game: NextGame, pause: Callable[[], None] | None = None) -> Generator[FinishedGame]:
        """Yield games as they end. `next_game` is never called twice at once; `pause` is called in every thread."""
        if len(self.batches) == 1:
            yield from self.batches[0].play(next_game, pause)
            return
        threads = [
            threading.Thread(target=self._play, args=(batch, next_game, pause), daemon=True) for batch in self.batches
        ]
        for thread in threads:
            thread.start()
        try:
            flying = len(threads)
            while flying:
                said = self._said.get()
                if said is DONE:
                    flying -= 1
                elif isinstance(said, FinishedGame):
                    yield said
                else:
                    assert isinstance(said, BaseException)
                    raise said
        finally:
            self._closed.set()
            for thread in threads:
                thread.join()

    def _play(self, batch: SelfplayBatch, next_game: NextGame, pause: Callable[[], None] | None) -> None:
        def one_at_a_time() -> tuple[int, Evaluator] | None:
            with self._lock:
                return None if self._closed.is_set() else next_game()

        try:
            for finished in batch.steps(one_at_a_time, pause):
                for game in finished:
                    self._said.put(game)
                if self._closed.is_set():
                    break
        except BaseException as error:
            self._said.put(error)
        finally:
            self._said.put(DONE)
