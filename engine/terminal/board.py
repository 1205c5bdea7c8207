"""Draws the board that a game describes (`engine/board.py`): colors where there are colors, letters where not."""

from __future__ import annotations

import io
from dataclasses import dataclass

from rich.console import Console, RenderableType
from rich.text import Text

from az.engine.board import EMPTY, NO_SQUARE, Board, Cell, Grid, Piece, placed
from az.engine.game import DRAW, LOSS, Game, State

CELL, NUMBERED = 3, 4  # columns of a square; of one that shows its number beside the piece


@dataclass(frozen=True)
class Look:
    """What this terminal can show."""

    width: int
    color: bool
    unicode: bool

    @classmethod
    def of(cls, console: Console) -> Look:
        """The look of a console: plain in a pipe, under NO_COLOR and on a dumb terminal."""
        color = console.is_terminal and console.color_system is not None and not console.no_color
        return cls(console.width, color, not console.options.ascii_only)


def player_name(game: Game, player: int, look: Look | None = None) -> str:
    """`Black`; with a look `Red (●)` or `Black (X)` where the name alone does not say which sign on the board it is."""
    board = game.board
    if board is None:
        return ("First player", "Second player")[player]
    name = board.players[player]
    piece = next((piece for piece in board.pieces.values() if piece.player == player), None)
    if not look or piece is None or piece.letter == name or (look.color and not board.signs_beside_names):
        return name
    return f"{name} ({_sign(piece, look)})"


def _sign(piece: Piece, look: Look) -> str:
    return piece.glyph if look.color and look.unicode else piece.letter


def ending(game: Game, state: State, repeated: bool = False) -> str:
    """How the game ended, in its own terms. `repeated`: the last position stood here for the third time."""
    outcome, mover = int(game.outcome(state)), int(state[0])
    winner = None if outcome == DRAW else 1 - mover if outcome == LOSS else mover
    if game.board is not None and game.board.ending is not None:
        return game.board.ending(state, winner, repeated)
    return "Drawn." if winner is None else f"{player_name(game, winner)} wins."


def draw(game: Game, state: State, look: Look, previous: State | None = None, flipped: bool = False) -> Text:
    """The board. `previous` (the position before the last move) marks that move; `flipped` turns the board round."""
    board = game.board
    if board is None:
        return _plain(game, state, look)
    drawing = _Drawing(game, board, state, look, previous, flipped and board.flips)
    for text in drawing.versions():
        if max(len(line) for line in text.plain.split("\n")) <= look.width:
            return text
    return drawing.bare()


def _plain(game: Game, state: State, look: Look) -> Text:
    text = Text(game.render(state))
    if look.color:
        text.highlight_regex(r"(?<!\w)[Xbx](?!\w)", "bold bright_red")
        text.highlight_regex(r"(?<!\w)[Owo](?!\w)", "bold bright_cyan")
    return text


class _Drawing:
    """One position of one board."""

    def __init__(
        self, game: Game, board: Board, state: State, look: Look, previous: State | None, flipped: bool
    ) -> None:
        self.game, self.board, self.state, self.look = game, board, state, look
        self.grid: Grid = board.cells(state)
        self.last = placed(None if previous is None else board.cells(previous), self.grid)
        self.won = board.winning(self.grid)
        self.playable = self._playable()
        self.numbered = any(len(label) > 1 for label in board.labels.values())
        rows, columns = len(self.grid), max(map(len, self.grid))
        self.rows = range(rows - 1, -1, -1) if flipped else range(rows)
        self.columns = range(columns - 1, -1, -1) if flipped else range(columns)
        self.flipped = flipped

    def _playable(self) -> set[Cell]:
        """The squares on which a legal move ends."""
        if not self.board.marks_moves or self.board.move_cells is None:
            return set()
        cells = (self.board.move_cells(self.state, actions) for actions in self.game.moves(self.state).values())
        return {touched[-1] for touched in cells if touched}

    def versions(self) -> list[Text]:
        """From the widest to the narrowest."""
        made = [self._whole(NUMBERED), self._whole(CELL)] if self.numbered else [self._whole(CELL)]
        return [*(made if self.flipped else [*made, _plain(self.game, self.state, self.look)]), self._tight()]

    def _tight(self) -> Text:
        """Two characters a square: the piece, and a mark behind the last move."""
        rows = [[self._letter(self.grid[r][c]) + " *"[(r, c) in self.last] for c in self.columns] for r in self.rows]
        return Text("\n".join("".join(row) for row in rows))

    def bare(self) -> Text:
        """A character a square."""
        rows = ("".join(self._letter(self.grid[row][column]) for column in self.columns) for row in self.rows)
        return Text("\n".join(rows))

    def _letter(self, sign: str) -> str:
        return {EMPTY: ".", NO_SQUARE: " "}.get(sign) or self.board.pieces[sign].letter

    def _whole(self, width: int) -> Text:
        board, lines = self.board, list[Text]()
        margin = "   " if board.row_labels else " " if self.numbered else ""
        heading = "".join(f" {board.column_labels[c]} " for c in self.columns) if board.column_labels else ""
        if heading and not board.columns_below:
            lines.append(Text((margin + heading).rstrip(), self._edge(0)))
        for number, row in enumerate(self.rows):
            if board.lines and number:
                lines.append(self._rule(len(self.columns), width))
            label = f"{board.row_labels[row]:>2} " if board.row_labels else margin
            line = Text(self._indent(number)).append(label, self._edge(1))
            for place, column in enumerate(self.columns):
                if board.lines and place:
                    line.append("│" if self.look.unicode else "|", self._style(board.colors.lines, bold=False))
                line.append_text(self._square((row, column), width))
            lines.append(line.append(f" {label.strip()}", self._edge(1)) if board.slanted else line)
        if heading and (board.columns_below or board.slanted):
            indent = self._indent(len(self.rows))
            bold = "bold" if self.look.color and board.edges is None else self._edge(0)
            lines.append(Text((indent + margin + heading).rstrip() if board.slanted else margin + heading, bold))
        lines += self._words()
        return Text("\n").join(lines)

    def _indent(self, row: int) -> str:
        """What a row of hexagonal cells is moved to the right: half a cell a row."""
        return " " * (CELL * row // 2) if self.board.slanted else ""

    def _edge(self, pair: int) -> str:
        """The style of labels along the upper and lower (0) or the left and right (1) edges."""
        edges = self.board.edges
        return f"bold {self.board.colors.players[edges[pair]]}" if edges and self.look.color else ""

    def _words(self) -> list[Text]:
        """Lines below the board: whose edges are which, what each player has."""
        board, lines = self.board, list[Text]()
        names = [player_name(self.game, player, self.look) for player in (0, 1)]
        if board.edges is not None:
            upper, left = (names[player] for player in board.edges)
            lines.append(Text(f"   {upper} connects top and bottom, {left} left and right"))
        if board.counts is not None:
            counted = zip(names, board.counts(self.state), strict=True)
            lines.append(Text("   " + ", ".join(f"{name} {count}" for name, count in counted)))
        return lines

    def _rule(self, columns: int, width: int) -> Text:
        bar, cross = ("─", "┼") if self.look.unicode else ("-", "+")
        return Text(cross.join([bar * width] * columns), self._style(self.board.colors.lines, bold=False))

    def _square(self, cell: Cell, width: int) -> Text:
        sign, colors = self.grid[cell[0]][cell[1]], self.board.colors
        last, won = cell in self.last, cell in self.won
        if sign == NO_SQUARE:
            return Text(" " * width, f"on {colors.no_square}" if self.look.color else "")
        ground = colors.last if last else self._ground(cell)
        label = self.board.labels.get(cell, "")
        if sign == EMPTY:
            return self._empty(cell, label, ground, width)
        piece = self.board.pieces[sign]
        style = self._style(colors.players[piece.player], ground)
        shown = _sign(piece, self.look)
        if not self.numbered:  # brackets mark the last move, angles a line that wins
            left, right = "<>" if won else "[]" if last else "  "
            return Text(f"{left}{shown}{right}", style + " reverse" * (won and self.look.color))
        text = Text(f"{'*' if last else ' '}{shown}", style)
        return text.append(f"{label:>2}" if width == NUMBERED else " ", self._style(colors.label, ground, bold=False))

    def _empty(self, cell: Cell, label: str, ground: str, width: int) -> Text:
        colors = self.board.colors
        if cell in self.playable:
            return Text(" * ", self._style(colors.playable, ground))
        if self.numbered:
            return Text(f"{label:>{width}}", self._style(colors.label, ground, bold=False))
        return Text(f" {label or ('·' if self.look.unicode else '.')} ", self._style(colors.label, ground, bold=False))

    def _ground(self, cell: Cell) -> str:
        return (sum(cell) % 2 and self.board.colors.alternate) or self.board.colors.ground

    def _style(self, color: str, ground: str | None = None, bold: bool = True) -> str:
        if not self.look.color:
            return ""
        return f"{'bold ' if bold else ''}{color} on {ground or self.board.colors.ground}"


def picture(renderable: RenderableType, title: str, width: int = 80) -> str:
    """A picture (SVG text) of what a color terminal shows: for the documentation."""
    console = Console(
        record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor", no_color=False
    )
    console.print(renderable)
    return console.export_svg(title=title)
