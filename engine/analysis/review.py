"""A game judged move by move: what each cost, by a search of every position.

A move's cost is what the win chance of its player fell by, from the search of the position before it to that of the
position after it: 0.10 is ten points of a hundred. The search's own choice costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from az.engine.game import DRAW, LOSS, ONGOING, Game, State
from az.engine.search.whole_moves import SearchStates, WholeResult, ranked, whole_results

MARKS = ((0.20, "blunder"), (0.10, "mistake"), (0.05, "inaccuracy"))  # the least cost of each
TOGETHER = 4  # positions that are searched at once


@dataclass(frozen=True)
class Judged:
    """A position of a game, and the move that was played from it, where one was."""

    ply: int  # whole moves before it
    to_move: int
    value: float  # in [-1, +1], of player 0
    answer: WholeResult | None  # the search's; None where the game is over
    played: str | None = None
    cost: float = 0.0  # 0 to 1
    mark: str | None = None  # a name of MARKS
    share: float = 0.0  # of the search's visits that the move got


@dataclass(frozen=True)
class Side:
    """How one player did."""

    moves: int
    agreed: int  # moves that the search would have played
    cost: float | None  # mean; None without a move
    marks: dict[str, int]  # how many of each


def review_game(
    game: Game, states: Sequence[State], texts: Sequence[str], search: SearchStates, simulations: int
) -> Iterator[list[Judged]]:
    """The positions of a game in their order, several at a time as they are known; at last an empty list at most.

    states: one more than there are moves. Raises what the search raises.
    """
    answers, known = list[WholeResult | None](), 0
    for begin in range(0, len(states), TOGETHER):
        some = states[begin : begin + TOGETHER]
        going = [state for state in some if game.outcome(state) == ONGOING]
        found = search(going, simulations) if going else []
        whole = iter(whole_results(game, going, found, search))
        answers += [next(whole) if game.outcome(state) == ONGOING else None for state in some]
        last = len(answers) - (0 if len(answers) == len(states) else 1)  # a cost needs the position after the move
        yield [_judged(game, states, texts, answers, ply) for ply in range(known, last)]
        known = last


def _value(game: Game, state: State, answer: WholeResult | None) -> float:
    """Of a position, in the view of player 0."""
    outcome = int(game.outcome(state))
    value = answer.value if answer is not None else float(outcome if outcome in (LOSS, DRAW) else 1)
    return value if state[0] == 0 else -value


def _judged(
    game: Game, states: Sequence[State], texts: Sequence[str], answers: Sequence[WholeResult | None], ply: int
) -> Judged:
    answer, mover = answers[ply], int(states[ply][0])
    value = _value(game, states[ply], answer)
    if answer is None or ply >= len(texts):
        return Judged(ply, mover, value, answer)
    after = _value(game, states[ply + 1], answers[ply + 1])
    played = texts[ply]
    cost = 0.0 if played == answer.best.text else max(0.0, (1 - 2 * mover) * (value - after) / 2)
    mark = next((name for least, name in MARKS if cost >= least), None)
    share = next((move.share for move in ranked(answer) if move.text == played), 0.0)
    return Judged(ply, mover, value, answer, played, cost, mark, share)


def side_of(rows: Sequence[Judged], player: int) -> Side:
    """How a player did in a game."""
    own = [row for row in rows if row.to_move == player and row.played is not None]
    agreed = sum(row.answer is not None and row.played == row.answer.best.text for row in own)
    cost = sum(row.cost for row in own) / len(own) if own else None
    return Side(len(own), agreed, cost, {name: sum(row.mark == name for row in own) for _, name in MARKS})


def worst_of(rows: Sequence[Judged]) -> Judged | None:
    """The move that cost most; None where none cost anything."""
    return max((row for row in rows if row.cost), key=lambda row: row.cost, default=None)
