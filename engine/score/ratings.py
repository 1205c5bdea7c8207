"""One Elo scale for players of whom not all have met: the ratings that make the results of all games most likely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from az.engine.arena.elo import Z95

SCALE = 400.0 / np.log(10.0)  # Elo points of a unit of the logistic curve
STEPS = 100
_linalg: Any = np.linalg  # its stubs leave types open


@dataclass(frozen=True)
class Rating:
    """A player's Elo above the first player's, with its 95 % interval."""

    name: str
    elo: float
    low: float
    high: float
    games: int


def ratings(names: Sequence[str], results: Mapping[tuple[int, int], tuple[float, int]]) -> list[Rating]:
    """Ratings by maximum likelihood (Bradley & Terry 1952), a draw as half a win; the first player has 0.

    results: (i, j) → (points of i, games). Every player must be joined to the first by games. Each pair that has met
    is given one more game, half won and half lost, so that a score of 100 % has a finite rating; intervals come from
    the curvature there, as if games were independent.
    """
    count = len(names)
    points, games = np.zeros((count, count)), np.zeros((count, count))
    for (i, j), (won, played) in results.items():
        points[i, j] += won + 0.5
        points[j, i] += played - won + 0.5
        games[i, j] += played + 1
        games[j, i] += played + 1
    rating = np.zeros(count)
    information = np.eye(max(0, count - 1))
    for _ in range(STEPS):
        expected = 1.0 / (1.0 + np.exp(rating[None, :] - rating[:, None]))
        gradient = (points - games * expected).sum(1)[1:]
        weight = games * expected * (1.0 - expected)
        information = (np.diag(weight.sum(1)) - weight)[1:, 1:]
        step: NDArray[np.float64] = _linalg.solve(information, gradient) if count > 1 else np.zeros(0)
        rating[1:] += np.clip(step, -1.0, 1.0)
        if not len(step) or np.abs(step).max() < 1e-9:
            break
    spread = np.concatenate([[0.0], _deviations(information)])
    played = np.array([sum(n for pair, (_, n) in results.items() if i in pair) for i in range(count)])
    low, high = rating - Z95 * spread, rating + Z95 * spread
    return [
        Rating(name, float(SCALE * rating[i]), float(SCALE * low[i]), float(SCALE * high[i]), int(played[i]))
        for i, name in enumerate(names)
    ]


def _deviations(information: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sqrt(np.diag(np.linalg.inv(information))) if len(information) else np.zeros(0)
