"""A game from text that someone pasted, or from a record of self-play.

Text may be in any format of `engine/notation/`, or a position in the game's own text.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from az.engine.errors import Refused, WrongRequest
from az.engine.game import Game
from az.engine.notation import GameText, Move, read_games, write_games
from az.engine.records.format import read_records
from az.engine.web.position import Line, follow
from az.engine.web.recorded import recorded_moves

Json = dict[str, Any]


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


def _records(game: Game, data: bytes) -> Any:
    with tempfile.TemporaryDirectory(prefix="az-") as folder:
        path = Path(folder) / "records.npz"
        path.write_bytes(data)
        try:
            return read_records(path, game)
        except Refused as error:
            raise Refused(str(error).replace(str(path), "the file")) from None
