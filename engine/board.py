"""What the board of a game looks like: a description, beside its rules, from which every board is drawn.

The terminal draws it, and a page may: which piece stands on which square, what the players and squares are called, the
squares of a move, the colors. A game without a description is shown as its `render` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from typing import Any

from numpy.typing import NDArray

Grid = list[list[str]]  # rows from the top: a key of `Board.pieces`, EMPTY, or NO_SQUARE where nothing can stand
Cell = tuple[int, int]  # row from the top, column from the left

EMPTY, NO_SQUARE = "-", ""


@dataclass(frozen=True)
class Piece:
    """One kind of piece."""

    player: int  # whose it is, 0 or 1
    glyph: str  # one character, where there are colors: the kinds of the two players may share it
    letter: str  # one character of its own, where there are no colors
    name: str = "piece"  # its kind, for those who hear the board


@dataclass(frozen=True)
class Colors:
    """Of the board, as "#rrggbb". Pieces and labels must stand out from each ground under every color blindness: a
    ratio of 3 by WCAG 2.1, which tests/test_contrast.py measures."""

    ground: str = "#1d2433"
    alternate: str = ""  # of every second square, where squares side by side differ
    no_square: str = "#e3d3ad"
    last: str = "#2e2e66"  # the ground of the squares on which the last move ended
    players: tuple[str, str] = ("#ff8a7a", "#7fdfff")
    label: str = "#a0a8b8"  # what is written on empty squares
    playable: str = "#f4ffe0"  # the mark of a square where the player to move may place a piece
    lines: str = "#8088a0"


@dataclass(frozen=True)
class Board:
    """`Game(…, board=Board(cells, pieces, …))`.

    labels: what is written on a square, such as its number; longer ones than a character are shown beside pieces too.
    move_cells: the squares of a whole move (its actions, in this position), in the order in which it touches them, the
    one where it ends last; () for a pass.
    ending: the sentence for how a game ended, from its last position, who won (None: drawn), and whether that position
    stood for the third time.
    """

    cells: Callable[[NDArray[Any]], Grid]
    pieces: Mapping[str, Piece]
    players: tuple[str, str] = ("First player", "Second player")
    colors: Colors = Colors()
    move_cells: Callable[[NDArray[Any], tuple[int, ...]], tuple[Cell, ...]] | None = None
    move_help: str = "as `moves` lists them"
    labels: Mapping[Cell, str] = field(default_factory=dict)
    row_labels: Sequence[str] = ()  # from the top; the names of the rows, where moves use them
    column_labels: Sequence[str] = ()
    columns_below: bool = False
    lines: bool = False  # lines between the squares
    signs_beside_names: bool = False  # players are named by a color, which some cannot see: say their piece too
    marks_moves: bool = False  # mark the squares where the player to move may place a piece
    slanted: bool = False  # hexagonal cells: each row is drawn half a cell further to the right than the one above
    edges: tuple[int, int] | None = None  # whose are the upper and lower edges, and the left and right ones
    flips: bool = False  # the player at the board sees their own side below
    below: int = 1  # whose side that is in `cells`: the other player sees the board turned round
    winning: Callable[[Grid], set[Cell]] = lambda _: set()  # the squares of a line that has won
    counts: Callable[[NDArray[Any]], tuple[int, int]] | None = None  # what each player has, where it decides the game
    ending: Callable[[NDArray[Any], int | None, bool], str] | None = None
    turns: InitVar[bool] = False  # the old name of `flips`, for one version

    def __post_init__(self, turns: bool) -> None:
        if turns:
            object.__setattr__(self, "flips", True)


def line_of(length: int) -> Callable[[Grid], set[Cell]]:
    """For `Board.winning`: the squares of every line of `length` equal pieces, in any of the four directions."""

    def found(grid: Grid) -> set[Cell]:
        lines: set[Cell] = set()
        for row, signs in enumerate(grid):
            for column, sign in enumerate(signs):
                for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
                    line = [(row + k * down, column + k * right) for k in range(length)]
                    inside = all(r < len(grid) and 0 <= c < len(signs) for r, c in line)
                    if sign not in (EMPTY, NO_SQUARE) and inside and all(grid[r][c] == sign for r, c in line):
                        lines.update(line)
        return lines

    return found


def placed(before: Grid | None, after: Grid | None) -> set[Cell]:
    """Where the last move ended: squares that were empty and are not any more; where there are none, those on which
    another piece stands (a piece was taken by the one that took its place)."""
    if before is None or after is None:
        return set()
    stands = {
        (row, column): before[row][column]
        for row, signs in enumerate(after)
        for column, sign in enumerate(signs)
        if sign not in (EMPTY, NO_SQUARE) and sign != before[row][column]
    }
    return {cell for cell, sign in stands.items() if sign == EMPTY} or set(stands)
