"""Boards as people like to see them: colour where there is colour, letters where there is none.

A drawing reads the position's text form, which is fixed for every game, never the layout of the state. A game without
a drawing of its own shows what its `render` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rich.console import Console, RenderableType
from rich.text import Text

from az.engine.game import DRAW, LOSS, Game, State

Grid = list[list[str]]  # one sign per square, "" where there is none to play on

PLAYERS: Mapping[str, tuple[str, str]] = {
    "tictactoe": ("X", "O"),
    "connect4": ("Red", "Yellow"),
    "othello": ("Black", "White"),
    "othello6": ("Black", "White"),
    "checkers": ("Black", "White"),
}
LETTERS = {"connect4": ("X", "O"), "othello": ("X", "O"), "othello6": ("X", "O"), "checkers": ("b", "w")}
MOVE_HELP = {
    "tictactoe": "the number of a square, 1 to 9",
    "connect4": "the number of a column, 1 to 7",
    "othello": "a square such as c4, or pass",
    "othello6": "a square such as c4, or pass",
    "checkers": "from and to, such as 11-15; a capture such as 22x15 or 26x17x10",
}

# Every sign is told from its ground by luminance, also with a colour blindness, and the last move by a sign beside it:
# tests/test_contrast.py measures both, so a hue alone never carries anything.
FRAME = "#8088a0 on #1d2433"
STYLES = {
    "tictactoe": {"X": "bold #ff8a7a on #1d2433", "O": "bold #7fdfff on #1d2433", "-": "#a0a8b8 on #1d2433"},
    "connect4": {"X": "bold #ff7a6b on #0b1f4b", "O": "bold #ffe14d on #0b1f4b", "-": "#8090b8 on #0b1f4b"},
    "othello": {"X": "bold #101010 on #3a9055", "O": "bold #ffffff on #3a9055", "-": "#0b2612 on #3a9055"},
    "checkers": {"b": "bold #101010 on #6f8f48", "w": "bold #ffffff on #6f8f48", "-": "#1a260a on #6f8f48"},
}
LAST_GROUND = {
    "connect4": " on #222e70",
    "othello": " on #8a7512",
    "checkers": " on #96740e",
    "tictactoe": " on #2e2e66",
}


@dataclass(frozen=True)
class Look:
    """What this terminal can show."""

    width: int
    colour: bool
    unicode: bool

    @classmethod
    def of(cls, console: Console) -> Look:
        """The look of a console: plain in a pipe, under NO_COLOR and on a dumb terminal."""
        colour = console.is_terminal and console.color_system is not None and not console.no_color
        return cls(console.width, colour, not console.options.ascii_only)


# What people call things.


def player_name(game: Game, player: int, look: Look | None = None) -> str:
    """`Black`; with a look `Red (●)` or `Black (X)` where the name alone does not say which sign on the board it is."""
    name = PLAYERS.get(game.name, ("First player", "Second player"))[player]
    if look and game.name in LETTERS and (not look.colour or game.name == "connect4"):  # red is no sign without hue
        return f"{name} ({_disc(LETTERS[game.name][player], look)})"
    return name


def verdict(game: Game, state: State, repeated: bool = False) -> str:
    """How the game ended, in its own terms. `repeated`: the last position stood here for the third time."""
    outcome = int(game.outcome(state))
    mover = int(state[0])
    if outcome == DRAW:
        return _draw_verdict(game, repeated)
    winner, loser = (1 - mover, mover) if outcome == LOSS else (mover, 1 - mover)
    won, lost = player_name(game, winner), player_name(game, loser)
    if game.name == "tictactoe":
        return f"{won} has three in a row and wins."
    if game.name == "connect4":
        return f"{won} has four in a row and wins."
    if game.name == "checkers":
        signs = [sign for row in grid(game, state) or [] for sign in row]
        left = any(sign in ("bB", "wW")[loser] for sign in signs if sign)
        return f"{lost} {'cannot move' if left else 'has no pieces left'}: {won} wins."
    if game.name.startswith("othello"):
        counts = disc_counts(game, state)
        return f"{won} wins by {counts[winner]} discs to {counts[loser]}."
    return f"{won} wins."


def _draw_verdict(game: Game, repeated: bool) -> str:
    if game.name == "checkers":
        reason = (
            "the position stood for the third time" if repeated else "40 moves a side without a capture or a man's move"
        )
        return f"Drawn: {reason}."
    if game.name.startswith("othello"):
        return "Drawn: both have as many discs."
    return "Drawn: the board is full." if game.name in PLAYERS else "Drawn."


def disc_counts(game: Game, state: State) -> tuple[int, int]:
    """Discs of each player on an Othello board."""
    squares = game.position_text(state).split()[0]
    return squares.count("X"), squares.count("O")


# Reading the position.


def grid(game: Game, state: State) -> Grid | None:
    """The board row by row from the top: `-` empty, the players' letters; None for a game without a drawing."""
    reader = READERS.get(game.name)
    return reader(game.position_text(state)) if reader else None


def _tictactoe_grid(text: str) -> Grid:
    squares = ["-"] * 9
    for ply, square in enumerate(text):
        squares[int(square) - 1] = "XO"[ply % 2]
    return [squares[row : row + 3] for row in (0, 3, 6)]


def _connect4_grid(text: str) -> Grid:
    rows = [["-"] * 7 for _ in range(6)]
    heights = [0] * 7
    for ply, sign in enumerate(text):
        column = int(sign) - 1
        rows[5 - heights[column]][column] = "XO"[ply % 2]
        heights[column] += 1
    return rows


def _othello_grid(text: str) -> Grid:
    squares = text.split()[0]
    side = round(len(squares) ** 0.5)
    return [list(squares[row * side : (row + 1) * side]) for row in range(side)]


def _checkers_grid(text: str) -> Grid:
    rows = [["-" if (row + column) % 2 else "" for column in range(8)] for row in range(8)]
    for part in text.rstrip(".").split(":")[1:]:
        men, kings = ("b", "B") if part[0] == "B" else ("w", "W")
        for piece in filter(None, part[1:].split(",")):
            row, column = checkers_place(int(piece.lstrip("K")))
            rows[row][column] = kings if piece[0] == "K" else men
    return rows


def checkers_place(square: int) -> tuple[int, int]:
    """Row and column (from the top left) of a square 1–32."""
    row, offset = divmod(square - 1, 4)
    return row, 2 * offset + (1 - row % 2)


READERS: Mapping[str, Callable[[str], Grid]] = {
    "tictactoe": _tictactoe_grid,
    "connect4": _connect4_grid,
    "othello": _othello_grid,
    "othello6": _othello_grid,
    "checkers": _checkers_grid,
}


def placed(before: Grid | None, after: Grid | None) -> set[tuple[int, int]]:
    """Squares that were empty and are not any more: where the last move arrived."""
    if before is None or after is None:
        return set()
    return {
        (row, column)
        for row, signs in enumerate(after)
        for column, sign in enumerate(signs)
        if sign not in ("", "-") and before[row][column] == "-"
    }


# Drawing.


def draw(game: Game, state: State, look: Look, previous: State | None = None, flipped: bool = False) -> Text:
    """The board. `previous` (the position before the last move) marks that move; `flipped` turns a checkers board."""
    squares = grid(game, state)
    drawing = DRAWINGS.get(game.name)
    if squares is None or drawing is None:
        return _plain(game, state, look)
    last = placed(grid(game, previous), squares) if previous is not None else set()
    text = drawing(game, state, squares, last, look, flipped)
    if max(len(line) for line in text.plain.split("\n")) <= look.width:
        return text
    if game.name == "checkers":  # the same way up as in a wide window
        order = range(7, -1, -1) if flipped else range(8)
        return Text("\n".join("".join((squares[r][c] or " ").replace("-", ".") for c in order) for r in order))
    return _plain(game, state, look)


def _plain(game: Game, state: State, look: Look) -> Text:
    text = Text(game.render(state))
    if look.colour:
        text.highlight_regex(r"(?<!\w)[Xbx](?!\w)", "bold bright_red")
        text.highlight_regex(r"(?<!\w)[Owo](?!\w)", "bold bright_cyan")
    return text


def _cell(name: str, sign: str, shown: str, last: bool, look: Look, won: bool = False) -> Text:
    """One square: three columns wide; brackets mark the last move, angles a line that wins."""
    left, right = "<>" if won else "[]" if last else "  "
    if not look.colour:
        return Text(f"{left}{shown}{right}")
    style = STYLES[name].get(sign.lower() if name == "checkers" else sign, "bright_black")
    if last:
        style = style.split(" on ")[0] + LAST_GROUND[name]
    if name == "checkers":  # its cell is narrower
        return Text(f"{'*' if last else ' '}{shown} ", style)
    return Text(f"{left}{shown}{right}", style + " reverse" * won)


def _disc(sign: str, look: Look) -> str:
    """Players and holes differ in shape, not in colour alone."""
    if sign == "-":
        return "·" if look.unicode else "."
    return {"X": "●", "O": "○"}[sign] if look.colour and look.unicode else sign


def winning_line(squares: Grid, length: int) -> set[tuple[int, int]]:
    """The squares of every line of `length` equal signs, in any of the four directions."""
    found: set[tuple[int, int]] = set()
    for row, signs in enumerate(squares):
        for column, sign in enumerate(signs):
            for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
                line = [(row + k * down, column + k * right) for k in range(length)]
                inside = all(r < len(squares) and 0 <= c < len(signs) for r, c in line)
                if sign != "-" and inside and all(squares[r][c] == sign for r, c in line):
                    found.update(line)
    return found


def _draw_tictactoe(_game: Game, _state: State, squares: Grid, last: set, look: Look, _flipped: bool) -> Text:
    text, won = Text(), winning_line(squares, 3)
    bar, line = ("│", "───┼───┼───") if look.unicode else ("|", "---+---+---")
    for row, signs in enumerate(squares):
        text.append("\n" + line + "\n" if row else "", FRAME if look.colour else "")
        for column, sign in enumerate(signs):
            text.append(bar if column else "", FRAME if look.colour else "")
            shown = str(3 * row + column + 1) if sign == "-" else sign
            text.append_text(_cell("tictactoe", sign, shown, (row, column) in last, look, (row, column) in won))
    return text


def _draw_connect4(_game: Game, _state: State, squares: Grid, last: set, look: Look, _flipped: bool) -> Text:
    text, won = Text(), winning_line(squares, 4)
    for row, signs in enumerate(squares):
        for column, sign in enumerate(signs):
            shown = _disc(sign, look)
            text.append_text(_cell("connect4", sign, shown, (row, column) in last, look, (row, column) in won))
        text.append("\n")
    text.append("".join(f" {column} " for column in range(1, 8)), "bold" if look.colour else "")
    return text


def _draw_othello(game: Game, state: State, squares: Grid, last: set, look: Look, _flipped: bool) -> Text:
    legal = set(game.moves(state))
    heading = "   " + "".join(f" {letter} " for letter in "abcdefgh"[: len(squares)])
    text = Text(heading.rstrip() + "\n")
    for row, signs in enumerate(squares):
        text.append(f"{row + 1:>2} ")
        for column, sign in enumerate(signs):
            playable = f"{'abcdefgh'[column]}{row + 1}" in legal
            shown = "*" if playable and sign == "-" else _disc(sign, look)
            cell = _cell("othello", sign, shown, (row, column) in last, look)
            if look.colour and (row + column) % 2 and (row, column) not in last:
                cell.stylize("on #328049")  # squares side by side differ: a grid without lines
            if playable and look.colour:
                cell.stylize("bold #f4ffe0")
            text.append_text(cell)
        text.append("\n")
    black, white = disc_counts(game, state)
    text.append(f"   {player_name(game, 0, look)} {black}, {player_name(game, 1, look)} {white}")
    return text


def _draw_checkers(_game: Game, _state: State, squares: Grid, last: set, look: Look, flipped: bool) -> Text:
    wide = look.width >= 34
    numbers = {checkers_place(square): square for square in range(1, 33)}
    order = range(7, -1, -1) if flipped else range(8)
    lines: list[Text] = []
    for row in order:
        line = Text(" ")
        for column in order:
            sign, number = squares[row][column], numbers.get((row, column), 0)
            line.append_text(_checkers_cell(sign, number, (row, column) in last, look, wide))
        lines.append(line)
    return Text("\n").join(lines)


def _checkers_cell(sign: str, number: int, last: bool, look: Look, wide: bool) -> Text:
    """Four columns: the piece and, small, the number of its square; three in a narrow window."""
    light = Text((" " * 4 if wide else " " * 3), "on #e3d3ad" if look.colour else "")
    if not sign:
        return light
    if sign == "-":
        text = Text(f"  {number:>2}" if wide else f" {number:>2}", STYLES["checkers"]["-"] if look.colour else "dim")
        return text if look.colour else Text(text.plain)
    shown = {"b": "●", "w": "●", "B": "♛", "W": "♛"}[sign] if look.colour and look.unicode else sign
    cell = _cell("checkers", sign, shown, last, look)
    if not wide:
        return cell
    piece = cell[:2] if look.colour else Text(("*" if last else " ") + shown)
    ground = (LAST_GROUND["checkers"] if last else " on #6f8f48").strip()
    return Text.assemble(piece, (f"{number:>2}", f"#1a260a {ground}" if look.colour else ""))


Drawing = Callable[[Game, State, Grid, set, Look, bool], Text]
DRAWINGS: Mapping[str, Drawing] = {
    "tictactoe": _draw_tictactoe,
    "connect4": _draw_connect4,
    "othello": _draw_othello,
    "othello6": _draw_othello,
    "checkers": _draw_checkers,
}


def picture(renderable: RenderableType, title: str, width: int = 80) -> str:
    """A picture (SVG text) of what a colour terminal shows: for the documentation."""
    import io

    console = Console(
        record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor", no_color=False
    )
    console.print(renderable)
    return console.export_svg(title=title)
