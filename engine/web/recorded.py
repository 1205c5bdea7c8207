"""The moves of a game of self-play, as far as its recorded positions tell them.

Self-play records only the positions that it searched in full. The moves between two of them are looked for: first
among those that put a piece where it stands in the later position, in an order that leads there; then among those that
put one on any square that is taken there; then among all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from az.engine.errors import WrongRequest
from az.engine.game import ONGOING, Game, State
from az.engine.records.format import Records
from az.engine.search.whole_moves import Hops
from az.engine.web.position import Line

Json = dict[str, Any]
MOST_IN_GAME = 30_000  # positions tried for the moves of a game
MOST_AT_ONCE = 5_000  # of those, in one search between two positions


@dataclass(frozen=True)
class Part:
    """Moves from a recorded position on; between two parts none were found that lead from one to the other."""

    before: int  # actions of the game before it
    line: Line


@dataclass
class Looking:
    """How many positions may still be tried."""

    in_game: int = MOST_IN_GAME
    at_once: int = MOST_AT_ONCE

    def begin(self) -> Looking:
        """For one more search."""
        self.at_once = MOST_AT_ONCE
        return self

    def tried(self) -> bool:
        """Count one; False where there were too many."""
        self.in_game -= 1
        self.at_once -= 1
        return min(self.in_game, self.at_once) >= 0


def recorded_moves(game: Game, records: Records, k: int) -> Json:
    """Game k of a record file, {"moves", "start", "note"}: up to where its moves are told. Raises WrongRequest."""
    first, *others = recorded_parts(game, records, k)
    told = sum(len(hops) for hops in first.line.actions)
    note = f"The record does not tell the moves after action {told}." if others else ""
    return {"start": None, "moves": first.line.texts, "note": note}


def recorded_parts(game: Game, records: Records, k: int) -> list[Part]:
    """All of game k that a record file tells, one part or more. Raises WrongRequest where it holds no such game."""
    rows = np.flatnonzero(records.games == k)
    if not len(rows):
        raise WrongRequest(f"the file holds no game {k}: choose one of its list.")
    rows = rows[np.argsort(records.plies[rows])]
    states, plies = [records.states[row] for row in rows], [int(records.plies[row]) for row in rows]
    if plies[0] != 0:
        states, plies = [game.new_state(), *states], [0, *plies]
    parts, begin, actions, looking = list[Part](), 0, list[int](), Looking()
    for at in range(1, len(states)):
        path = _between(game, states[at - 1], states[at], plies[at] - plies[at - 1], looking)
        if path is None:
            parts.append(Part(plies[begin], line_of(game, states[begin], actions)))
            begin, actions = at, []
        else:
            actions += path
    return [*parts, Part(plies[begin], line_of(game, states[begin], actions))]


def line_of(game: Game, state: State, actions: Sequence[int]) -> Line:
    """The whole moves that these actions make; the last one is left out where it is not complete."""
    line, at = Line(game, [state], [], []), 0
    while at < len(actions):
        legal = game.moves(line.last).items()
        found = next(((text, hops) for text, hops in legal if tuple(actions[at : at + len(hops)]) == hops), None)
        if found is None:  # the last recorded position stands in the middle of a multiple jump
            break
        text, hops = found
        line, at = longer(line, text, hops), at + len(hops)
    return line


def longer(line: Line, text: str, hops: Hops) -> Line:
    """A line with one more move."""
    states = [*line.states, line.game.play(line.last, hops)]
    return Line(line.game, states, [*line.texts, text], [*line.actions, hops])


def _between(game: Game, begin: State, end: State, plies: int, looking: Looking) -> list[int] | None:
    """Actions from one position to another so many plies later; None where none of those tried lead there."""
    for change in (False, True):
        found = _by_placing(game, begin, end, plies, looking.begin(), change)
        if found is not None:
            return found
    return _by_any(game, begin, end, plies, looking.begin())


def _by_placing(game: Game, begin: State, end: State, plies: int, looking: Looking, change: bool) -> list[int] | None:
    """Depth first, by moves that put a piece on one square, and passes. change: a piece may become another's."""
    if game.board is None or game.board.move_cells is None:
        return None
    grid = game.board.cells(end)
    waiting, seen = [(begin, list[int]())], set[tuple[int, bytes]]()
    while waiting:
        state, path = waiting.pop()
        if len(path) == plies:
            if np.array_equal(state, end):
                return path
        elif game.outcome(state) == ONGOING:
            for action in _placed(game, state, grid, change):
                if not looking.tried():
                    return None
                after = game.play(state, (action,))
                if (key := (len(path), after.tobytes())) not in seen:
                    seen.add(key)
                    waiting.append((after, [*path, action]))
    return None


def _placed(game: Game, state: State, grid: Sequence[Sequence[str]], change: bool) -> Iterator[int]:
    """Such moves to squares that are taken in `grid`: by a piece of the mover's, or, with `change`, by any."""
    board, mover = game.board, int(state[0])
    assert board is not None
    assert board.move_cells is not None
    for hops in game.moves(state).values():
        (action, *more), cells = hops, board.move_cells(state, hops)
        if more or len(cells) > 1:
            continue
        piece = board.pieces.get(grid[cells[0][0]][cells[0][1]]) if cells else None
        if not cells or (piece is not None and (change or piece.player == mover)):
            yield action


def _by_any(game: Game, begin: State, end: State, plies: int, looking: Looking) -> list[int] | None:
    """Breadth first."""
    waiting = [(begin, list[int]())]
    for _ in range(plies):
        following = list[tuple[State, list[int]]]()
        seen = set[bytes]()
        for state, path in waiting:
            if game.outcome(state) != ONGOING:
                continue
            for action in np.flatnonzero(game.mask(state)).tolist():
                if not looking.tried():
                    return None
                after = game.play(state, (action,))
                if (key := after.tobytes()) not in seen:
                    seen.add(key)
                    following.append((after, [*path, action]))
        waiting = following
    return next((path for state, path in waiting if np.array_equal(state, end)), None)
