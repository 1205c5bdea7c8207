"""Othello, 8 by 8. Black (X, player 0) begins; squares a1–h8, rows counted from the top; see `_othello.py`.

A pass is a ply, legal only where there is no other move and the opponent has one; the game ends when neither can move,
and then more discs win. A position text: squares row by row as X, O and -, a space, the side to move.
"""

from az.engine.games._othello import make_game

GAME = make_game("othello", 8)
