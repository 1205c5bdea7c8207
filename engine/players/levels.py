"""Levels for people: a model that looks a little way ahead and does not always take what it likes best.

A level has a number of simulations and a temperature T. It draws its move with weights
exp((log prior + SHARPNESS * value) / T), the values from its search: a small mistake is likelier than a large one, and
an unlikely move is rare, so that it errs as people do. It never overlooks a win that its search has proven. The last
level plays the best move.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from az.engine.errors import WrongRequest
from az.engine.game import LOSS, WIN
from az.engine.inference.evaluator import Evaluator
from az.engine.rng import seed_words, uniform
from az.engine.search.params import SearchParams
from az.engine.search.result import SearchResult

SHARPNESS = 10.0  # what a value in [-1, 1] weighs beside the logarithm of the prior


@dataclass(frozen=True)
class Level:
    """simulations: a move. temperature: of the draw; 0 = the best move."""

    simulations: int
    temperature: float


LEVELS = (
    Level(8, 14.0),
    Level(8, 8.5),
    Level(8, 5.5),
    Level(8, 3.8),
    Level(8, 2.6),
    Level(10, 1.7),
    Level(24, 0.85),
    Level(64, 0.3),
    Level(200, 0.0),
    Level(800, 0.0),
)
# Where these stand too close or too far apart with the network that ships, a game has its own (docs/strength.md).
OF_GAMES = {
    "connect4": (
        Level(8, 30.0),
        Level(8, 15.0),
        Level(8, 10.2),
        Level(8, 7.75),
        Level(8, 5.95),
        Level(8, 4.45),
        Level(8, 3.15),
        Level(8, 1.95),
        Level(24, 1.2),
        Level(800, 0.0),
    ),
    "checkers": (
        Level(8, 9.0),
        Level(8, 5.6),
        Level(8, 3.7),
        Level(10, 2.6),
        Level(14, 1.7),
        Level(24, 1.0),
        Level(48, 0.45),
        Level(96, 0.1),
        Level(200, 0.0),
        Level(800, 0.0),
    ),
}


def level_of(number: int, game: str = "") -> Level:
    """Level 1 (a beginner) to the last (full strength), of a game by its name. Raises WrongRequest."""
    if not 1 <= number <= len(LEVELS):
        raise WrongRequest(f"there is no level {number}: levels go from 1 to {len(LEVELS)}.")
    return OF_GAMES.get(game, LEVELS)[number - 1]


def params_of(level: Level, params: SearchParams) -> SearchParams:
    """The search of a level: of the last ones `params`, else a look at every move that is at all likely."""
    if level.temperature == 0:
        return replace(params, simulations=level.simulations)
    return replace(params, simulations=level.simulations, algorithm="gumbel", gumbel_scale=0.0, prove=0, leaves=1)


def drawn(result: SearchResult, temperature: float, key: int) -> int:
    """The action that a level with this temperature plays after its search."""
    if temperature == 0 or result.root_proven == WIN:
        return result.best
    values = np.where(result.proven == LOSS, -1.0, result.values).astype(np.float64)
    logs = (np.log(np.maximum(result.priors.astype(np.float64), 1e-6)) + SHARPNESS * values) / temperature
    weights = np.exp(logs - logs.max())
    words = np.zeros(4, np.int64)
    seed_words(key, words)
    place = int(np.searchsorted(np.cumsum(weights), float(uniform(words)) * float(weights.sum()), side="right"))
    return int(result.actions[min(place, len(weights) - 1)])


class LevelPlayer:
    """A model at a level; an answer depends on its position and its key alone."""

    def __init__(self, evaluator: Evaluator, number: int, params: SearchParams | None = None) -> None:
        self.evaluator, self.game = evaluator, evaluator.game
        self.number, self.level = number, level_of(number, self.game.name)
        self.params = params_of(self.level, params or SearchParams())
        self.name = f"level:{number}@{evaluator.name}"

    def choose(self, states: NDArray[np.integer], keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """[n] actions for states [n, S] (none of them over) and keys [n]."""
        from az.engine.search.many import search_many  # the search compiles for seconds: only those who need it wait

        results = search_many(self.game, self.evaluator, states, self.params, keys.tolist())
        pairs = zip(results, keys.tolist(), strict=True)
        return np.array([drawn(result, self.level.temperature, key) for result, key in pairs], np.int64)
