"""Elo and the sequential test against numbers worked out by hand."""

from __future__ import annotations

import json
from math import log, log10, sqrt

import numpy as np
import pytest

from az.engine.arena.elo import PAIR_SCORES, Sprt, elo_difference, elo_from_score, score_from_elo
from az.engine.errors import WrongRequest

pytestmark = pytest.mark.nojit

Z2 = 3.841458820694124  # 95 % quantile of chi squared with one degree of freedom = z squared


def even_high(trials: float) -> float:
    """Wilson's upper end for a share of 1/2 simplifies to 1/2 + 1/2 sqrt(z^2 / (n + z^2))."""
    return elo_from_score(0.5 + 0.5 * sqrt(Z2 / (trials + Z2)))


def test_the_logistic_model():
    assert elo_from_score(10 / 11) == pytest.approx(400)  # odds of ten to one
    assert score_from_elo(400) == pytest.approx(10 / 11)
    assert elo_from_score(0.5) == 0


def test_one_win_and_one_loss():
    """With the extra game three trials of spread 1/4, all of them plain win or loss."""
    elo = elo_difference(1, 0, 1)
    assert elo.elo == pytest.approx(0)
    assert elo.high == pytest.approx(even_high(3))
    assert elo.low == pytest.approx(-even_high(3))


def test_draws_say_more():
    """Four draws and one game: variance (1/2 * 1/4 + 1/2 * 1/4) / 5 = 1/20: as sure as 5 * (1/4) / (1/20) = 25."""
    assert elo_difference(0, 4, 0).high == pytest.approx(even_high(25))


def test_pairs_that_cancel_say_more_and_pairs_that_agree_say_less():
    """Two pairs. Each 1:1: pair variance (1/4 * 1/4 * 2) / 2.5 = 1/20, a game's 1/10: 12.5 trials. 2:0 and 0:2: pair
    variance 1/4, a game's 1/2: 2.5 trials. Games alone: 5 trials."""
    assert elo_difference(2, 0, 2, (0, 0, 2, 0, 0)).high == pytest.approx(even_high(12.5))
    assert elo_difference(2, 0, 2, (1, 0, 0, 0, 1)).high == pytest.approx(even_high(2.5))
    assert elo_difference(2, 0, 2).high == pytest.approx(even_high(5))


def test_all_won_is_finite_and_json():
    elo = elo_difference(10, 0, 0, (0, 0, 0, 0, 5))
    assert elo.elo == pytest.approx(400 * log10(21))  # (10 + 1/2) / 11 against (1/2) / 11
    share, trials = 21 / 22, 5.5  # two games of one pair say the same thing
    centre, half = share + Z2 / (2 * trials), sqrt(Z2) * sqrt(share * (1 - share) / trials + Z2 / (4 * trials**2))
    assert elo.low == pytest.approx(elo_from_score((centre - half) / (1 + Z2 / trials)))
    assert elo.high == pytest.approx(elo_from_score((centre + half) / (1 + Z2 / trials)))
    for wins in (1, 100, 1_000_000):
        best = elo_difference(wins, 0, 0)
        assert best.low < best.elo < best.high
        json.dumps([best.low, best.elo, best.high], allow_nan=False)
    assert elo_difference(0, 0, 0).elo == 0


def test_mirrored():
    for pairs in ((3, 1, 7, 2, 9), (0, 0, 0, 1, 4)):
        points = [n * score for n, score in zip(pairs, (0, 1, 2, 3, 4), strict=True)]
        wins, draws = sum(points) // 2, sum(points) % 2
        losses = 2 * sum(pairs) - wins - draws
        ours, theirs = elo_difference(wins, draws, losses, pairs), elo_difference(losses, draws, wins, pairs[::-1])
        assert (ours.elo, ours.low, ours.high) == pytest.approx((-theirs.elo, -theirs.high, -theirs.low))


def test_the_interval_holds_what_it_promises():
    """True score 0.65 with correlated pairs: 95 % of 400 intervals hold it, give or take three standard errors."""
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        dice = rng.random((40, 2))
        same = rng.random(40) < 0.5
        dice[same, 1] = dice[same, 0]
        results = np.where(dice < 0.5, 2, np.where(dice < 0.8, 1, 0))
        pairs = [int(n) for n in np.bincount(results.sum(axis=1), minlength=5)]
        wins, draws, losses = (int((results == points).sum()) for points in (2, 1, 0))
        elo = elo_difference(wins, draws, losses, pairs)
        held += elo.low <= elo_from_score(0.65) <= elo.high
    assert held / 400 == pytest.approx(0.95, abs=3 * sqrt(0.95 * 0.05 / 400))


def test_llr_by_hand():
    """s0 = 1/2, s1 = 3/4. Pairs 1, 1, 2, 2 points: mean 3/4; with the five halves the variance is 4.28125 / 42.25."""
    sprt = Sprt(0.0, 400 * log10(3))
    assert sprt.bounds == pytest.approx((-log(19), log(19)))
    assert sprt.llr((0, 0, 2, 0, 2)) == pytest.approx(4 * 0.25 * (1.5 - 1.25) / (2 * 4.28125 / 42.25))
    assert sprt.llr((0, 0, 0, 0, 0)) == 0


def test_one_pair_decides_nothing():
    sprt = Sprt(0.0, 100.0)
    assert sprt.decision((0, 0, 0, 0, 1)) is None
    assert sprt.decision((1, 0, 0, 0, 0)) is None
    assert sprt.decision((0, 0, 0, 0, 60)) == "H1"
    assert sprt.decision((60, 0, 0, 0, 0)) == "H0"


@pytest.mark.parametrize(("elo", "wrong"), [(0.0, "H1"), (80.0, "H0")])
def test_the_test_is_rarely_wrong(elo: float, wrong: str):
    sprt, rng, errors = Sprt(0.0, 80.0), np.random.default_rng(3), 0
    share = score_from_elo(elo) - 0.15  # wins; three draws in ten
    for _ in range(150):
        counts, decision = [0] * 5, None
        while decision is None:
            dice = rng.random(2)
            counts[int((dice < share).sum() * 2 + ((dice >= share) & (dice < share + 0.3)).sum())] += 1
            decision = sprt.decision(counts)
        errors += decision == wrong
    assert errors / 150 < 0.05 + 3 * sqrt(0.05 * 0.95 / 150)


def test_bad_tests_are_refused():
    for elo0, elo1, alpha in ((5.0, 5.0, 0.05), (0.0, 5.0, 0.0), (0.0, 5.0, 0.7), (float("nan"), 5.0, 0.05)):
        with pytest.raises(WrongRequest):
            Sprt(elo0, elo1, alpha)


def test_pair_scores():
    assert PAIR_SCORES == (0, 0.25, 0.5, 0.75, 1)
