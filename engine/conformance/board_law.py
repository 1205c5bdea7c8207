"""The law of a game's board (`engine/board.py`): whatever draws it meets known signs, squares inside, and texts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from az.engine.board import EMPTY, NO_SQUARE, Board, Colors, Piece
from az.engine.game import DRAW, LOSS, ONGOING, Game, State
from az.engine.printable import one_line, quoted

COLOR = re.compile(r"#[0-9a-fA-F]{6}")
Size = tuple[int, int]  # rows, columns


def fault_of_facts(board: Any) -> str | None:
    """What is wrong with the description before any function of it is called, as half a sentence; None: nothing."""
    if board is None:
        return None
    if not isinstance(board, Board):
        return f"board is {type(board).__name__}: write Board(cells=…, pieces=…)"
    return next(_facts(board), None)


def fault_in(game: Game, board: Board, state: State, size: Size | None) -> tuple[str | None, Size]:
    """(what is wrong with the drawing of this position, or None; rows and columns). size: of the game's first one."""
    grid = board.cells(state)
    fault, found = _grid(board, grid)
    if fault is None and size is not None and found != size:
        fault = f"cells gives {_by(found)} squares here and {_by(size)} at the start"
    return fault or next(_position(game, board, state, grid, found), None), found


def _facts(board: Board) -> Iterator[str]:
    for field in ("cells", "winning"):
        if not callable(getattr(board, field)):
            yield f"{field} is {_shown(getattr(board, field))}: it must be a function"
    for field in ("move_cells", "counts", "ending"):
        if getattr(board, field) is not None and not callable(getattr(board, field)):
            yield f"{field} is {_shown(getattr(board, field))}: it must be a function or None"
    if not isinstance(board.pieces, Mapping) or not board.pieces:
        yield f"pieces is {_shown(board.pieces)}: write a dict from signs to Piece(player, glyph, letter)"
        return
    for sign, piece in board.pieces.items():
        yield from _piece(sign, piece)
    if board.below not in (0, 1):
        yield f"below is {_shown(board.below)}: write 0 or 1, the player whose side lies below in cells"
    if board.edges is not None and board.edges not in ((0, 1), (1, 0)):
        yield f"edges is {_shown(board.edges)}: write (0, 1) or (1, 0), or None"
    if board.slanted and board.flips:
        yield "slanted and flips are both true: a rhombus is not turned round"
    if not _texts(board.players, 2):
        yield f"players is {_shown(board.players)}: write two names"
    yield from _colors(board.colors)
    if not isinstance(board.labels, Mapping):
        yield f"labels is {_shown(board.labels)}: write a dict from (row, column) to a text"


def _piece(sign: Any, piece: Any) -> Iterator[str]:
    if not isinstance(sign, str) or sign in (EMPTY, NO_SQUARE):
        yield f"pieces has the sign {_shown(sign)}: write a text that is neither '{EMPTY}' nor empty"
    elif not isinstance(piece, Piece) or piece.player not in (0, 1):
        yield f"the piece '{quoted(sign)}' is not a Piece of player 0 or 1"
    elif not all(isinstance(one, str) and len(one) == 1 for one in (piece.glyph, piece.letter)):
        yield f"glyph and letter of the piece '{quoted(sign)}' must be one character each"


def _colors(colors: Any) -> Iterator[str]:
    if not isinstance(colors, Colors) or not _texts(colors.players, 2):
        yield f"colors is {_shown(colors)}: write Colors(ground=…, players=(…, …))"
        return
    for field, value in vars(colors).items():
        for one in value if field == "players" else (value,):
            if not (isinstance(one, str) and (COLOR.fullmatch(one) or (field == "alternate" and not one))):
                yield f"the color {field} is {_shown(one)}: write #rrggbb"


def _grid(board: Board, grid: Any) -> tuple[str | None, Size]:
    rows = isinstance(grid, list) and len(grid) > 0 and all(isinstance(row, list) and row for row in grid)
    if not rows:
        return f"cells answered {_shown(grid)}: a list of rows, each a list of signs", (0, 0)
    size = len(grid), len(grid[0])
    if len({len(row) for row in grid}) > 1:
        return f"cells gives rows of different lengths: {', '.join(str(len(row)) for row in grid[:12])}", size
    known = {*board.pieces, EMPTY, NO_SQUARE}
    for row, signs in enumerate(grid):
        for column, sign in enumerate(signs):
            if not isinstance(sign, str) or sign not in known:
                return f"cells puts {_shown(sign)} on row {row}, column {column}, which is no key of pieces", size
    return None, size


def _position(game: Game, board: Board, state: State, grid: list[list[str]], size: Size) -> Iterator[str]:
    for field, most in (("row_labels", size[0]), ("column_labels", size[1])):
        names = getattr(board, field)
        if len(names) not in (0, most) or not _texts(list(names), len(names)):
            yield f"{field} has {len(names)} texts for {most} {field.partition('_')[0]}s"
    for cell, label in board.labels.items():
        if not _inside(cell, size) or not isinstance(label, str):
            yield f"labels has {_shown(label)} at {_shown(cell)}, on a board of {_by(size)} squares"
    if board.move_cells is not None:
        for text, actions in game.moves(state).items():
            cells = board.move_cells(state, actions)
            if not isinstance(cells, tuple) or not all(_inside(cell, size) for cell in cells):
                yield f"move_cells of '{quoted(text)}' is {_shown(cells)}, on a board of {_by(size)} squares"
    won = board.winning(grid)
    if not isinstance(won, set) or not all(_inside(cell, size) for cell in won):
        yield f"winning answered {_shown(won)}: a set of (row, column) on a board of {_by(size)} squares"
    if board.counts is not None:
        counts = board.counts(state)
        if not isinstance(counts, tuple) or len(counts) != 2:
            yield f"counts answered {_shown(counts)}: a number for each player"
    outcome, mover = int(game.outcome(state)), int(state[0])
    if board.ending is not None and outcome != ONGOING:
        winner = None if outcome == DRAW else 1 - mover if outcome == LOSS else mover
        ending = board.ending(state, winner, False)
        if not isinstance(ending, str):
            yield f"ending answered {_shown(ending)}: a sentence"


def _inside(cell: Any, size: Size) -> bool:
    pair = isinstance(cell, tuple) and len(cell) == 2 and all(hasattr(at, "__index__") for at in cell)
    return pair and all(0 <= at < most for at, most in zip(cell, size, strict=True))


def _texts(value: Any, count: int) -> bool:
    return isinstance(value, Sequence) and len(value) == count and all(isinstance(one, str) for one in value)


def _by(size: Size) -> str:
    return f"{size[0]} by {size[1]}"


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return f"'{quoted(value, 40)}'"
    simple = isinstance(value, int | float | list | dict | tuple | set) or value is None
    return one_line(repr(value), 80) if simple else type(value).__name__
