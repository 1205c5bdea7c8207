"""Games as text: read into `GameText` and written back, one file a format.

`read_games` finds the format by the content; `FORMATS` names them: pdn (checkers), ggf (Othello), columns (connect
four), saved (what `save` of `az play` wrote), moves (az's own move texts, any game).
"""

from az.engine.notation.formats import FORMATS, format_of, read_game_file, read_games, write_games
from az.engine.notation.game_text import MOST_GAMES, MOST_TEXT, GameText, Move

__all__ = [
    "FORMATS",
    "MOST_GAMES",
    "MOST_TEXT",
    "GameText",
    "Move",
    "format_of",
    "read_game_file",
    "read_games",
    "write_games",
]
