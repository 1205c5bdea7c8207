"""What thinks behind a protocol: a model's search that can be stopped, or a player without a network."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from az.engine.errors import WrongRequest
from az.engine.game import Game, State
from az.engine.inference.model_resolver import LateEvaluator, default_model
from az.engine.players import Player, is_model, make_player
from az.engine.players.levels import LEVELS
from az.engine.players.slices import Stop
from az.engine.selfplay.warmup import compile_search
from az.engine.web.thinking import Searcher, choice

Json = dict[str, Any]
WITHOUT_NETWORK = "rollouts:400"
MOST_VISITS = 500_000  # of a search without a limit
MOST_DEPTH = 16  # a depth d asks for 2**d simulations, this one and all deeper ones for 65,536
PAGE = "protocol"  # the name of the one tree


@dataclass(frozen=True)
class Limit:
    """How long to think: so many simulations, or seconds; neither: until it is stopped."""

    simulations: int | None = None
    seconds: float | None = None

    @staticmethod
    def depth(depth: int) -> Limit:
        """What a depth of other programs means here."""
        return Limit(simulations=2 ** max(0, min(depth, MOST_DEPTH)))

    @staticmethod
    def clock(left: float, increment: float = 0.0, moves: int | None = None) -> Limit:
        """A share of the seconds left, which stay enough for the rest of the game."""
        share = left / (moves + 1 if moves else 25) + 0.8 * increment
        return Limit(seconds=max(0.01, min(share, 0.5 * left)))


class Brain:
    """The player of a game."""

    def __init__(self, game: Game, text: str | None = None) -> None:
        """text: a model or a player; None: the shipped model, or random games where there is none."""
        shipped = default_model(game.name)
        self.game = game
        self.text = text or (str(shipped) if shipped is not None else WITHOUT_NETWORK)
        self.evaluator = LateEvaluator(self.text, game) if is_model(self.text) else None
        self._player: Player | None = None if self.evaluator else make_player(self.text, game)
        self.name = f"az {self.evaluator.name}" if self.evaluator else f"az {self.text}"
        self.level = 0  # of the levels for people; 0: full strength
        self._searcher: Searcher | None = None
        self._asked = 0

    def load(self) -> None:
        """Load the network and compile the search; at once where it is done. Raises Refused."""
        if self.evaluator is None or self._searcher is not None:
            return
        self.evaluator.load()
        compile_search(self.game)
        self._searcher = Searcher(self.game, self.evaluator)

    def forget(self) -> None:
        """A new game: the tree of the last one is of no use."""
        if self._searcher is not None and self.evaluator is not None:
            self._searcher = Searcher(self.game, self.evaluator)

    def set_level(self, level: int) -> None:
        """Play as a level for people does, 0: as well as it can. Raises WrongRequest."""
        if not 0 <= level <= len(LEVELS):
            raise WrongRequest(f"there is no level {level}: levels go from 1 to {len(LEVELS)}, and 0 is none.")
        if level and self.evaluator is None:
            raise WrongRequest(f"{self.text} has no levels: only models have.")
        self.level = level

    def can_analyze(self) -> bool:
        """Whether it knows more than its move."""
        return self.evaluator is not None

    def think(
        self,
        state: State,
        limit: Callable[[], Limit],
        stop: threading.Event,
        tell: Callable[[Json], None] | None = None,
    ) -> Json:
        """The last answer of a search (`Searcher.think`), at least a move, also where it is stopped at once.

        limit: asked again and again, because pondering turns into thinking; its seconds count from when there are any.
        tell: gets the answers on the way, a few a second.
        """
        self.load()
        first = limit()
        begun = since = time.monotonic()
        last, answer = None, None

        def over() -> bool:
            nonlocal since
            now = limit()
            if first == Limit() == now:  # it ponders: its time has not begun
                since = time.monotonic()
            return stop.is_set() or (now.seconds is not None and time.monotonic() - since >= now.seconds)

        for answer in self._steps(state, first, over):
            last = answer or last
            if answer is not None and tell is not None and not answer["done"]:
                tell(answer)
            now = limit()
            grown = first.simulations is None and now.simulations is not None  # pondering has turned into thinking
            if over() or (grown and last is not None and last["visits"] >= (now.simulations or 0)):
                break
        if self._searcher is not None and answer is None:  # it was stopped between two answers
            last = next(found for found in self._searcher.think(PAGE, state, simulations=0) if found is not None)
        assert last is not None  # a player without a network always answers
        return {**last, "seconds": time.monotonic() - begun}

    def _steps(self, state: State, limit: Limit, over: Stop) -> Iterator[Json | None]:
        self._asked += 1
        if self._searcher is None:
            assert self._player is not None
            return choice(self._player, state, 0, self._asked, stop=over)
        if self.level:
            return self._searcher.at_level(state, self.level, 0, self._asked)
        if limit.simulations is not None:
            return self._searcher.think(PAGE, state, simulations=limit.simulations)
        return self._searcher.think(PAGE, state, visits=MOST_VISITS)


def alive(game: Game, state: State) -> State:
    """The same position without its history, where the rules call it drawn by that and another program plays on."""
    if game.mask(state).any():
        return state
    return game.parse_position(game.position_text(state))


def value_of(answer: Json) -> float | None:
    """The value for the player to move, in [-1, 1]: what is proven, else what the search expects; None: unknown."""
    if answer.get("proven") is not None:
        return float(answer["proven"])
    value = answer.get("value")
    return None if value is None or math.isnan(value) else min(1.0, max(-1.0, float(value)))
