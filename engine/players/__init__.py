"""Who can sit at the board: random, rollouts, minimax, and models."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from az.engine.errors import WrongRequest
from az.engine.game import Game
from az.engine.inference.evaluator import Evaluator
from az.engine.players.minimax import MinimaxPlayer
from az.engine.players.rollouts import RolloutPlayer
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


def make_player(text: str, game: Game, simulations: int = 200, params: SearchParams | None = None) -> Player:
    """The player of that name: "random", "rollouts:N", "minimax:D", or any model argument.

    simulations: of a model's search, for each move; 0 = the network alone. params: its other settings.
    Raises WrongRequest.
    """
    kind, colon, number = text.partition(":")
    if kind == "random":
        if colon:
            raise WrongRequest(f"'{text}' is no player: random takes no number.")
        return RandomPlayer(game)
    if kind == "rollouts":
        return RolloutPlayer(game, _number(text, number, "rollouts:N with N random games for each move", 10_000_000))
    if kind == "minimax":
        return MinimaxPlayer(game, _number(text, number, "minimax:D with D actions to look ahead", 1000))
    if simulations < 0:
        raise WrongRequest(f"{simulations} simulations are impossible; 0 is the network alone.")
    from az.engine.inference.model_resolver import load_evaluator

    return ModelPlayer(load_evaluator(text, game), replace(params or SearchParams(), simulations=simulations))


def _number(text: str, number: str, form: str, most: int) -> int:
    if not (number.isascii() and number.isdigit() and len(number) < 12 and 1 <= int(number) <= most):
        raise WrongRequest(f"'{text}' is no player: write {form}, a whole number from 1 to {most}.")
    return int(number)
