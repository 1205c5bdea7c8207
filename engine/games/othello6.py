"""Othello on 6 by 6 squares: small enough that perfect play is known. All else as in `othello.py`."""

from az.engine.games._othello import make_game

GAME = make_game("othello6", 6)
