"""A game from text that someone pasted, or from a record of self-play.

Text may be in any format of `engine/notation/`, or a position in the game's own text.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from az.engine.errors import Refused, WrongRequest
from az.engine.game import ONGOING, Game, State
from az.engine.notation import GameText, Move, read_games, write_games
from az.engine.records.format import Records, read_records
from az.engine.web.position import Line, follow

Json = dict[str, Any]
MOST_LOOKED = 200_000  # positions tried for the moves between two recorded ones


def load_text(game: Game, text: str) -> Line:
    """The first game that a text holds. Raises WrongRequest that says what is wrong with the text."""
    if not text.strip():
        raise WrongRequest("there is nothing to load: paste moves, PDN or a position.")
    found = read_games(text, game)[0]
    return follow(game, found.start, found.texts())


def pdn(line: Line, result: str) -> str:
    """The game as text: PDN for checkers, else the same form with the game's own moves."""
    game = line.game
    moves = [Move(text, actions) for text, actions in zip(line.texts, line.actions, strict=True)]
    return write_games([GameText(game.name, moves, line.text_of_start(), result=result)], "pdn")


def record_games(game: Game, data: bytes) -> Json:
    """The games of a record file of self-play: {"games": [{"k", "plies", "outcome"}]}. Raises Refused."""
    header = _records(game, data).header
    return {"games": [{"k": k, "plies": plies, "outcome": outcome} for k, plies, outcome, _ in header["games"]]}


def record_game(game: Game, data: bytes, k: int) -> Json:
    """Game k of a record file, as `recorded_moves` tells it. Raises Refused or WrongRequest."""
    return recorded_moves(game, _records(game, data), k)


def recorded_moves(game: Game, records: Records, k: int) -> Json:
    """Game k of a record file, {"moves", "start", "note"}: as far as its recorded positions tell its moves.

    Self-play records only the positions that it searched in full; the moves between two of them are looked for.
    """
    rows = np.flatnonzero(records.games == k)
    if not len(rows):
        raise WrongRequest(f"the file holds no game {k}: choose one of its list.")
    rows = rows[np.argsort(records.plies[rows])]
    states, plies = [records.states[row] for row in rows], [int(records.plies[row]) for row in rows]
    if plies[0] != 0:
        states, plies = [game.new_state(), *states], [0, *plies]
    actions, at = list[int](), 1
    while at < len(states):
        path = _between(game, states[at - 1], states[at], plies[at] - plies[at - 1])
        if path is None:
            break
        actions += path
        at += 1
    note = "" if at == len(states) else f"The record does not tell the moves after action {plies[at - 1]}."
    return {"start": None, "moves": _whole(game, states[0], actions), "note": note}


def _records(game: Game, data: bytes) -> Any:
    with tempfile.TemporaryDirectory(prefix="az-") as folder:
        path = Path(folder) / "records.npz"
        path.write_bytes(data)
        try:
            return read_records(path, game)
        except Refused as error:
            raise Refused(str(error).replace(str(path), "the file")) from None


def _between(game: Game, begin: State, end: State, plies: int) -> list[int] | None:
    """Actions from one position to another so many plies later; None where none of those tried lead there."""
    waiting, looked = [(begin, list[int]())], 0
    for _ in range(plies):
        following = list[tuple[State, list[int]]]()
        seen = set[bytes]()
        for state, path in waiting:
            if game.outcome(state) != ONGOING:
                continue
            for action in np.flatnonzero(game.mask(state)).tolist():
                after = game.play(state, (action,))
                looked += 1
                if looked > MOST_LOOKED:
                    return None
                if (key := after.tobytes()) not in seen:
                    seen.add(key)
                    following.append((after, [*path, action]))
        waiting = following
    return next((path for state, path in waiting if np.array_equal(state, end)), None)


def _whole(game: Game, state: State, actions: list[int]) -> list[str]:
    texts, at = list[str](), 0
    while at < len(actions):
        legal = game.moves(state).items()
        found = next(((text, h) for text, h in legal if tuple(actions[at : at + len(h)]) == h), None)
        if found is None:  # the last recorded position stands in the middle of a multiple jump
            break
        texts.append(found[0])
        state, at = game.play(state, found[1]), at + len(found[1])
    return texts
