"""Elo differences with an interval, and the sequential test that stops a match early.

Games of a match come in pairs: the same opening twice with colors swapped, so the two results lean on each other. The
score of a pair is one of five (0, 1/2, 1, 3/2, 2 points: "pentanomial"); its spread, not that of single games, says how
sure the match is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, log10, sqrt

from az.engine.errors import WrongRequest

Z95 = 1.959963984540054  # two-sided 95 % of the normal distribution
PAIR_SCORES = (0.0, 0.25, 0.5, 0.75, 1.0)  # mean score of a pair of games, lowest first


@dataclass(frozen=True)
class Elo:
    """How much stronger A is than B. Always finite, so it can be written as JSON."""

    elo: float
    low: float  # 95 % interval
    high: float


def elo_from_score(score: float) -> float:
    """Elo difference at which the expected score is `score`, 0 < score < 1 (logistic model: 400 log10(s / (1 - s)))."""
    return 400.0 * log10(score / (1.0 - score))


def score_from_elo(elo: float) -> float:
    """Expected score at an Elo difference."""
    return 1.0 / (1.0 + 10.0 ** (-elo / 400.0))


def elo_difference(wins: int, draws: int, losses: int, pairs: Sequence[int] | None = None) -> Elo:
    """Elo of A over B with a 95 % interval, from A's results.

    pairs: how many pairs of games scored 0, 1/2, 1, 3/2, 2 points for A. The games beyond them count as single games.
    The estimate is shrunken: one game more is counted, half won and half lost (the mean under Jeffreys' prior
    Beta(1/2, 1/2)), so 10 wins of 10 are +529 and not infinity. The interval is Wilson's (1927) for a number of games
    that is corrected by the measured spread: draws make it narrower than win-or-lose games would, pairs that lean on
    each other make it wider. The extra game is in the spread as well, so even equal results give no empty interval.
    """
    games = wins + draws + losses
    mean = (wins + 0.5 * draws + 0.5) / (games + 1.0)
    if pairs is None or sum(pairs) == 0:
        spread = _spread((losses + 0.5, draws, wins + 0.5), (0.0, 0.5, 1.0))
    else:  # half a pair is the same one extra game; a pair's mean varies half as much as a game where games are free
        spread = 2.0 * _spread((pairs[0] + 0.25, *pairs[1:4], pairs[4] + 0.25), PAIR_SCORES)
    low, high = wilson(mean, (games + 1.0) * mean * (1.0 - mean) / spread)
    return Elo(elo_from_score(mean), elo_from_score(low), elo_from_score(high))


def _spread(counts: Sequence[float], scores: Sequence[float]) -> float:
    """Variance of one draw."""
    total = sum(counts)
    mean = sum(n * x for n, x in zip(counts, scores, strict=True)) / total
    return sum(n * (x - mean) ** 2 for n, x in zip(counts, scores, strict=True)) / total


def wilson(share: float, trials: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share seen in this many (possibly not whole) trials: inside (0, 1) for any share."""
    weight = Z95 * Z95 / trials
    centre = (share + weight / 2.0) / (1.0 + weight)
    half = Z95 / (1.0 + weight) * sqrt(share * (1.0 - share) / trials + weight / (4.0 * trials))
    return centre - half, centre + half


@dataclass(frozen=True)
class Sprt:
    """Is A better by `elo1` ("H1") or only by `elo0` ("H0")? Wald's test, stopped as soon as one of them is shown.

    alpha: the chance of "H1" when elo0 is true; beta: of "H0" when elo1 is true.
    """

    elo0: float
    elo1: float
    alpha: float = 0.05
    beta: float = 0.05

    def __post_init__(self) -> None:
        if not self.elo0 < self.elo1:
            raise WrongRequest(f"the test of Elo {self.elo0:g} against {self.elo1:g} needs the lower number first.")
        if not (0.0 < self.alpha < 0.5 and 0.0 < self.beta < 0.5):
            raise WrongRequest(f"error rates {self.alpha:g} and {self.beta:g} must lie between 0 and 0.5.")

    @property
    def bounds(self) -> tuple[float, float]:
        """The log-likelihood ratio at which H0 and at which H1 is taken (Wald 1945)."""
        return log(self.beta / (1.0 - self.alpha)), log((1.0 - self.beta) / self.alpha)

    def llr(self, pairs: Sequence[int]) -> float:
        """Log-likelihood ratio of elo1 against elo0 after these pairs (counts by score, as in `elo_difference`).

        The generalised test in its normal approximation: N (s1 - s0) (2 mean - s0 - s1) / (2 variance), M. Van den
        Bergh, "A practical introduction to the GSPRT". The variance is taken with half a pair more in each of the five
        cells: the first few pairs are often all alike, and a variance of nearly nothing would end the test at once.
        """
        total = sum(pairs)
        if total == 0:
            return 0.0
        mean = sum(n * x for n, x in zip(pairs, PAIR_SCORES, strict=True)) / total
        variance = _spread([n + 0.5 for n in pairs], PAIR_SCORES)
        score0, score1 = score_from_elo(self.elo0), score_from_elo(self.elo1)
        return total * (score1 - score0) * (2.0 * mean - score0 - score1) / (2.0 * variance)

    def decision(self, pairs: Sequence[int]) -> str | None:
        """ "H0", "H1", or None while it is open."""
        llr, (lower, upper) = self.llr(pairs), self.bounds
        if llr <= lower:
            return "H0"
        return "H1" if llr >= upper else None

    def verdict(self, pairs: Sequence[int]) -> str | None:
        """The old name of `decision`, for one version."""
        return self.decision(pairs)
