"""A game and a position of it as JSON for a page: from the board description, else as the game's `render` says.

A page sends the start position's text and the moves since then; nothing is kept between two requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from az.engine.board import Board, Cell, placed
from az.engine.errors import WrongRequest
from az.engine.game import DRAW, LOSS, ONGOING, Game, State
from az.engine.printable import quoted
from az.engine.search.whole_moves import Hops

Json = dict[str, Any]
NAMES = ("First player", "Second player")
MOST_TEXT = 4000  # characters of a position's text


@dataclass(frozen=True)
class Line:
    """A start position and the whole moves played from it."""

    game: Game
    states: list[State]  # one more than there are moves
    texts: list[str]  # in the game's own notation
    actions: list[Hops]

    @property
    def last(self) -> State:
        """The position after all moves."""
        return self.states[-1]

    def text_of_start(self) -> str | None:
        """The start position's text; None for the game's own."""
        start = self.game.position_text(self.states[0])
        return None if start == self.game.position_text(self.game.new_state()) else start

    @property
    def over(self) -> bool:
        """Whether the game has ended there."""
        return self.game.outcome(self.last) != ONGOING


def follow(game: Game, start: str | None, moves: Sequence[str]) -> Line:
    """Play the moves from a position's text (None: the start position). Raises WrongRequest naming the wrong move."""
    if start is not None and len(start) > MOST_TEXT:
        raise WrongRequest(f"the position text has {len(start)} characters: {MOST_TEXT} are the most.")
    states = [game.new_state() if start is None else game.parse_position(start)]
    texts, actions = list[str](), list[Hops]()
    for number, text in enumerate(moves, 1):
        legal = game.moves(states[-1])
        try:
            hops = legal[text] if text in legal else game.parse_move(states[-1], text)
        except WrongRequest as error:
            raise WrongRequest(f"move {number}: {error}") from None
        texts.append(text if text in legal else next(t for t, found in legal.items() if found == hops))
        actions.append(hops)
        states.append(game.play(states[-1], hops))
    return Line(game, states, texts, actions)


def name_of(game: Game, player: int) -> str:
    """What a player is called."""
    return game.board.players[player] if game.board else NAMES[player]


def winner_of(game: Game, state: State) -> int | None:
    """The player who has won; None where the position is drawn or the game goes on."""
    outcome, mover = int(game.outcome(state)), int(state[0])
    return None if outcome in (DRAW, ONGOING) else 1 - mover if outcome == LOSS else mover


def ending_of(line: Line) -> str | None:
    """How the game ended, in its own terms; None while it goes on."""
    game, state = line.game, line.last
    if not line.over:
        return None
    winner = winner_of(game, state)
    if game.board is not None and game.board.ending is not None:
        text = game.position_text(state)
        stood = sum(game.position_text(before) == text for before in line.states[:-1])
        return game.board.ending(state, winner, stood >= 2)
    return "Drawn." if winner is None else f"{name_of(game, winner)} wins."


def facts_of(game: Game) -> Json:
    """What holds for every position of a game."""
    return {
        "game": game.name,
        "players": [name_of(game, player) for player in (0, 1)],
        "board": None if game.board is None else _board(game, game.board),
        "start": game.position_text(game.new_state()),
    }


def _board(game: Game, board: Board) -> Json:
    colors = board.colors
    return {
        "pieces": {
            sign: {"player": piece.player, "glyph": piece.glyph, "letter": piece.letter, "name": piece.name}
            for sign, piece in board.pieces.items()
        },
        "colors": {
            "ground": colors.ground, "alternate": colors.alternate, "noSquare": colors.no_square, "last": colors.last,
            "players": list(colors.players), "label": colors.label, "playable": colors.playable, "lines": colors.lines,
        },
        "labels": [[row, column, text] for (row, column), text in board.labels.items()],
        "rowLabels": list(board.row_labels),
        "columnLabels": list(board.column_labels),
        "columnsBelow": board.columns_below,
        "lines": board.lines,
        "slanted": board.slanted,
        "edges": board.edges,
        "flips": board.flips,
        "below": board.below,
        "byColumn": _by_column(game, board),
        "moveHelp": board.move_help,
    }  # fmt: skip


def _by_column(game: Game, board: Board) -> bool:
    """Whether a move is a column: then a click anywhere in it is one."""
    state = game.new_state()
    for text, hops in game.moves(state).items():
        cells = _cells(board, state, hops)
        if len(cells) != 1 or text not in board.column_labels or list(board.column_labels).index(text) != cells[0][1]:
            return False
    return True


def _cells(board: Board, state: State, hops: Hops) -> list[Cell]:
    return list(board.move_cells(state, hops)) if board.move_cells else []


def position_of(line: Line) -> Json:
    """The position after a line's moves: squares, pieces, legal moves with their squares, how it stands."""
    game, state, board = line.game, line.last, line.game.board
    legal = game.moves(state)
    found: Json = {
        "start": game.position_text(line.states[0]),
        "moves": line.texts,
        "text": game.position_text(state),
        "toMove": int(state[0]),
        "over": line.over,
        "ending": ending_of(line),
        "winner": winner_of(game, state),
        "legal": [{"text": text, "cells": _cells(board, state, h) if board else []} for text, h in legal.items()],
    }
    if board is None:
        return {**found, "render": game.render(state)}
    grid = board.cells(state)
    before = board.cells(line.states[-2]) if line.actions else None
    path = _cells(board, line.states[-2], line.actions[-1]) if line.actions else []
    return {
        **found,
        "cells": grid,
        "last": [list(cell) for cell in sorted(placed(before, grid))],
        "path": path,
        "won": [list(cell) for cell in sorted(board.winning(grid))],
        "counts": None if board.counts is None else list(board.counts(state)),
    }


def cells_of(game: Game, state: State, text: str) -> list[Cell]:
    """The squares of a legal move; none for a game without a board. Raises WrongRequest."""
    if game.board is None:
        return []
    legal = game.moves(state)
    if text not in legal:
        raise WrongRequest(f"'{quoted(text)}' is not a legal move here.")
    return _cells(game.board, state, legal[text])
