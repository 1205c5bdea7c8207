"""Free-style Gomoku, 15 by 15. Black (X, player 0) begins; five or more in a row win; see `_gomoku.py`.

A move is a square, a1 (lower left) to o15. A position text: the rows from the top as X, O and numbers of empty squares,
parted by '/', a space, the side to move; or the squares played from the start.
"""

from az.engine.games._gomoku import make_game

GAME = make_game("gomoku", 15)
