"""The formats by their names; which one a text is in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from az.engine.game import Game
from az.engine.notation.game_text import GameText

FORMATS = ("pdn", "ggf", "columns", "saved", "moves")


def format_of(text: str) -> str:
    """The format that a text is most likely in: one of FORMATS."""
    raise NotImplementedError


def read_games(text: str, game: Game | None = None, form: str | None = None) -> list[GameText]:
    """All games of a text, at least one.

    game: what it must be a game of; None: what the text says (PDN is checkers, GGF names its game, digits 1–7 are
    connect four); move lists need it. form: one of FORMATS; None: found by the content. Raises WrongRequest with one
    sentence that names line and token, or game number and move, of what is wrong.
    """
    raise NotImplementedError


def read_game_file(path: Path, game: Game | None = None, form: str | None = None) -> list[GameText]:
    """The games of a file (UTF-8, else Latin-1). Raises WrongRequest for one that is missing, too large or wrong."""
    raise NotImplementedError


def write_games(games: Sequence[GameText], form: str | None = None) -> str:
    """The games as text that `read_games` reads back equal.

    form None: the game's own (checkers: pdn, Othello: ggf, else moves). Raises WrongRequest for a game that the
    format cannot hold.
    """
    raise NotImplementedError
