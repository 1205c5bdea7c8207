"""What a player is, and the two simplest: random moves, and a model with a search."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from az.engine.game import Game, State
from az.engine.inference.evaluator import Evaluator
from az.engine.players.slices import Stop
from az.engine.rng import below, seed_words
from az.engine.search.params import SearchParams

States = NDArray[np.integer]  # [n, state_size], of the game's dtype
Keys = NDArray[np.int64]  # [n], 0 <= key < 2^63


class Player(Protocol):
    """Anything that chooses moves. An answer may depend on its own row and key alone, never on its neighbours."""

    name: str
    game: Game

    def choose(self, states: States, keys: Keys) -> NDArray[np.int64]:
        """[n] one legal action for each of the n states [n, S], none of them over. Several threads may call it."""
        ...


@runtime_checkable
class StoppablePlayer(Protocol):
    """A player whose choice may take minutes, and that can give the best it knows before."""

    def choose_until(self, state: State, key: int, stop: Stop) -> int:
        """The action that `choose` would give for one state [S] and key; once stop() is true the best one so far."""
        ...


class RandomPlayer:
    """Every legal action alike."""

    name = "random"

    def __init__(self, game: Game) -> None:
        self.game = game

    def choose(self, states: States, keys: Keys) -> NDArray[np.int64]:
        """[n] actions for states [n, S] and keys [n]."""
        chosen = np.zeros(len(states), np.int64)
        words = np.zeros(4, np.int64)
        for i, state in enumerate(states):
            seed_words(int(keys[i]), words)
            actions = np.flatnonzero(self.game.mask(state))
            chosen[i] = actions[below(words, len(actions))]
        return chosen


class ModelPlayer:
    """A model with a search; `params.simulations == 0` is the network alone."""

    def __init__(self, evaluator: Evaluator, params: SearchParams, name: str | None = None) -> None:
        self.evaluator = evaluator
        self.params = params
        self.game = evaluator.game
        self.name = evaluator.name if name is None else name

    def choose(self, states: States, keys: Keys) -> NDArray[np.int64]:
        """[n] actions for states [n, S] and keys [n]."""
        from az.engine.search.many import search_many  # the search compiles for seconds: only those who need it wait

        results = search_many(self.game, self.evaluator, states, self.params, keys.tolist())
        return np.array([result.best for result in results], np.int64)
