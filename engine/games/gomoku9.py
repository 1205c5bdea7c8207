"""Free-style Gomoku on 9 by 9 squares: small enough to be trained in hours. All else as in `gomoku.py`."""

from az.engine.games._gomoku import make_game

GAME = make_game("gomoku9", 9)
