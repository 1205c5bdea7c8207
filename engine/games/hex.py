"""Hex, 11 by 11, with the swap rule. Red (X, player 0) begins and connects the upper edge with the lower one; Blue (O)
the left edge with the right one. Cells a1 (upper left) to k11, rows counted from the top; see `_hex.py`.

`swap` answers the first stone: it is reflected in the long diagonal and turns blue. A position text: the rows from the
top as X, O and numbers of empty cells, parted by '/', a space, the side to move; or the moves from the start.
"""

from az.engine.games._hex import make_game

GAME = make_game("hex", 11)
