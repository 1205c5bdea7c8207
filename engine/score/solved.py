"""Solved positions: how often a network's move gives the outcome away, and how its value fits the known outcomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import comb
from typing import Any

import numpy as np

from az.engine.arena.elo import wilson
from az.engine.game import Game
from az.engine.inference.evaluator import Evaluator
from az.engine.score.positions import SolvedPosition
from az.engine.search.params import SearchParams

CHUNK = 256  # positions searched between two reports, at most,
SIMULATIONS = 51_200  # and about so many simulations: some ten seconds on two cores


@dataclass(frozen=True)
class Share:
    """A share of positions with its 95 % interval (Wilson 1927)."""

    count: int
    of: int

    def to_json(self) -> dict[str, Any]:
        """share, low and high are None where there was no position."""
        if not self.of:
            return {"count": 0, "of": 0, "share": None, "low": None, "high": None}
        low, high = wilson(self.count / self.of, float(self.of))
        return {"count": self.count, "of": self.of, "share": self.count / self.of, "low": low, "high": high}


@dataclass(frozen=True)
class Answer:
    """What a network with so many simulations says of one position."""

    action: int
    value: float  # view of the player to move


@dataclass(frozen=True)
class Solved:
    """Figures over the positions of one phase; `for_values` says by which of them the value is judged."""

    thrown: Share  # the move's outcome is worse than the best move's
    value_wrong: Share  # |value - outcome| is above 2/3: another outcome is nearer, halves apart
    value_error: float  # mean squared error of the value against the outcome; 0 without positions of known outcome

    def to_json(self) -> dict[str, Any]:
        """For the report."""
        return asdict(self) | {"thrown": self.thrown.to_json(), "value_wrong": self.value_wrong.to_json()}


def answers(
    game: Game,
    evaluator: Evaluator,
    positions: Sequence[SolvedPosition],
    params: SearchParams,
    done: Callable[[int], None] = lambda _: None,
) -> list[Answer]:
    """The move and the value of each position; `params.simulations` 0 is the network alone."""
    from az.engine.search.many import search_many

    found: list[Answer] = []
    chunk = max(1, min(CHUNK, SIMULATIONS // max(1, params.simulations)))
    for begin in range(0, len(positions), chunk):
        states = np.array([one.state for one in positions[begin : begin + chunk]], game.dtype)
        results = search_many(game, evaluator, states, params, [0] * len(states))
        found += [Answer(result.best, result.value) for result in results]
        done(len(found))
    return found


def keeps(one: SolvedPosition, answer: Answer) -> bool:
    """Whether the move's outcome is the best one; True where nothing is known of the move."""
    return bool(np.sign(one.scores.get(answer.action, one.best)) == np.sign(one.best))


Pair = tuple[SolvedPosition, Answer]


def for_values(pairs: Sequence[Pair]) -> list[Pair]:
    """By which positions the value is judged: those without known moves, if there are any, since those with moves were
    chosen by them (none of them is lost); else all whose outcome is known.
    """
    known = [pair for pair in pairs if pair[0].value is not None]
    return [pair for pair in known if not pair[0].scores] or known


def by_phase(positions: Sequence[SolvedPosition], given: Sequence[Answer]) -> dict[str, Solved]:
    """The figures of each phase, in the order in which phases come, and of all positions as "all"."""
    pairs = list(zip(positions, given, strict=True))
    phases = dict.fromkeys(one.phase for one in positions)
    parts = {phase: [pair for pair in pairs if pair[0].phase == phase] for phase in phases}
    return {name: _figures(part) for name, part in (parts | {"all": pairs}).items()}


def _figures(pairs: Sequence[Pair]) -> Solved:
    judged = [(one, answer) for one, answer in pairs if answer.action in one.scores]
    thrown = sum(not keeps(one, answer) for one, answer in judged)
    errors = np.array([answer.value - (one.value or 0) for one, answer in for_values(pairs)])
    wrong = int((np.abs(errors) > 2 / 3).sum())
    return Solved(
        Share(int(thrown), len(judged)), Share(wrong, len(errors)), float((errors**2).mean()) if len(errors) else 0.0
    )


@dataclass(frozen=True)
class Bin:
    """Positions to which the network gives a value of this range: what it said, and what was true, on average."""

    count: int
    said: float
    true: float


def calibration(positions: Sequence[SolvedPosition], given: Sequence[Answer], bins: int = 8) -> list[Bin]:
    """The value against the outcome, by the value, in equal ranges of [-1, 1]; empty ranges are left out."""
    judged = for_values(list(zip(positions, given, strict=True)))
    pairs = np.array([(answer.value, one.value) for one, answer in judged]).reshape(-1, 2)
    place = np.clip(((pairs[:, 0] + 1.0) / 2.0 * bins).astype(int), 0, bins - 1)
    parts = [pairs[place == i] for i in range(bins)]
    return [Bin(len(part), float(part[:, 0].mean()), float(part[:, 1].mean())) for part in parts if len(part)]


def unlearned(before: Sequence[bool], now: Sequence[bool]) -> float:
    """How unlikely it is that a network which got these positions right before is as good now: a p-value.

    One-sided sign test on the positions judged differently (McNemar 1947, in its exact form).
    """
    lost = sum(was and not is_ for was, is_ in zip(before, now, strict=True))
    won = sum(is_ and not was for was, is_ in zip(before, now, strict=True))
    changed = lost + won
    return sum(comb(changed, k) for k in range(lost, changed + 1)) / 2**changed if lost > won else 1.0
