"""One game at the board: its state, its words and whose turn it is."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TextIO

from rich.console import Console
from rich.text import Text

from az.engine.analysis.review import Judged
from az.engine.game import DRAW, LOSS, ONGOING, WIN, Game, State
from az.engine.notation import Move
from az.engine.search.params import UNKNOWN
from az.engine.search.whole_moves import Hops, SearchStates, WholeResult
from az.engine.selfplay.warmup import compiling, search_is_cold
from az.engine.terminal.board import Look, draw, ending, player_name

PROVEN = {WIN: "a proven win", DRAW: "a proven draw", LOSS: "a proven loss"}
SHOWN = 40  # characters of a mistyped line that are repeated


class Thinker(Protocol):
    """The engine's side of the board: a search, or a player without a network."""

    name: str
    effort: str  # how hard it thinks about a move, for people: "thinks for …"

    def begin(self) -> None:
        """Get ready for the first thought while the person looks at the board."""
        ...

    def prepare(self) -> None:
        """Whatever is needed once before the first thought."""
        ...

    def think(self, state: State) -> WholeResult:
        """The move it plays in an unfinished position, an answer in whole moves."""
        ...

    def advise(self, state: State) -> WholeResult:
        """The best it knows of that position: for the person who asks for a hint."""
        ...

    def at_level(self, level: int | None, seed: int, /) -> None:
        """Play at a level from now on (None: at full strength). Raises WrongRequest."""
        ...

    def searcher(self) -> SearchStates:
        """The search behind a review, ready. Raises WrongRequest where it has none."""
        ...


@dataclass(frozen=True)
class Played:
    """One whole move of the game at the board."""

    before: State
    text: str
    actions: Hops
    comments: tuple[str, ...] = ()  # of the file that it came from
    nags: tuple[int, ...] = ()  # its marks there: 1 is !, 2 is ?
    clock: float | None = None  # and what else it said of the move, as in `engine/notation/game_text.py`
    value: float | None = None
    variations: tuple[tuple[Move, ...], ...] = ()  # what might have been played in its place, and on from there
    variation_comments: tuple[str, ...] = ()  # before the first move of each; "" for none


@dataclass(frozen=True)
class Line:
    """A line of play that waits while a variation of it is shown."""

    history: list[Played]
    future: list[Played]
    told: str
    judged: dict[int, Judged]
    resigned: int | None


class _Moving:
    """Words for a wait, and what is being compiled meanwhile: rich asks again for every drawing."""

    def __init__(self, words: str) -> None:
        self.words = words

    def __rich__(self) -> Text:
        return Text(" ".join(filter(None, (self.words, compiling()))))


class Session:
    """One person (or two) at the board."""

    def __init__(
        self,
        game: Game,
        engine: Thinker,
        human: int | None,
        console: Console,
        stdin: TextIO,
        start: State | None = None,
    ) -> None:
        self.game = game
        self.engine = engine
        self.human = human  # the player whom the person plays; None: both
        self.console = console
        self.stdin = stdin
        self.folder = Path()
        self.start = game.new_state() if start is None else start
        self.state = self.start.copy()
        self.history: list[Played] = []
        self.future: list[Played] = []  # moves after the position shown, while it is stepped through
        self.outer: list[Line] = []  # the lines that a variation shown stands in, the game first
        self.held = False  # the engine waits: a game was loaded, or is stepped through
        self.headers: dict[str, str] = {}  # of the file that the game came from
        self.comments: list[str] = []  # before its first move
        self.told = "*"  # its result, where the board does not say: only as long as nothing is changed
        self.judged: dict[int, Judged] = {}  # by ply, of the last review
        self.resigned: int | None = None
        self.leaving = False
        self.warm = False  # the first thought compiles or loads the search

    # The state of the game.

    @property
    def mover(self) -> int:
        """The player to move."""
        return int(self.state[0])

    @property
    def over(self) -> bool:
        """Whether the game has ended, or a player has resigned."""
        return self.resigned is not None or self.game.outcome(self.state) != ONGOING

    @property
    def engine_to_move(self) -> bool:
        """It is the engine's turn."""
        return not self.held and not self.over and self.human is not None and self.mover != self.human

    @property
    def plies(self) -> int:
        """Moves of the whole game."""
        return len(self.history) + len(self.future)

    def line(self) -> tuple[list[State], list[str]]:
        """Every position of the whole game, and its moves."""
        moves = [*self.history, *self.future]
        last = self.game.play(moves[-1].before, moves[-1].actions) if self.future else self.state
        return [*(move.before for move in moves), last], [move.text for move in moves]

    def seek(self, ply: int) -> None:
        """Show the position after so many moves; the others are kept and the engine waits."""
        states, moves = self.line()[0], [*self.history, *self.future]
        self.history, self.future, self.state = moves[:ply], moves[ply:], states[ply]
        self.held = True

    def play_on(self) -> None:
        """From here the game goes on: what came after is dropped."""
        if self.future:
            self.judged = {ply: row for ply, row in self.judged.items() if ply < len(self.history)}
        self.future.clear()
        self.held, self.told = False, "*"

    def push(self, text: str, actions: Hops) -> None:
        """Play one whole move; what came after the position shown is dropped."""
        self.play_on()
        self.history.append(Played(self.state, text, actions))
        self.state = self.game.play(self.state, actions)

    def reset(self) -> None:
        """Back to the start position."""
        self.outer.clear()
        self.history.clear()
        self.play_on()
        self.judged, self.headers, self.comments = {}, {}, []
        self.state = self.start.copy()
        self.resigned = None

    def ending(self) -> str:
        """Who won and how."""
        if self.resigned is not None:
            return f"{self.name(self.resigned)} resigns: {self.name(1 - self.resigned)} wins."
        text = self.game.position_text(self.state)
        before = sum(self.game.position_text(move.before) == text for move in self.history)
        return ending(self.game, self.state, repeated=before >= 2)

    # Words and pictures.

    def look(self) -> Look:
        """What the terminal shows now: a window may change its width."""
        return Look.of(self.console)

    def name(self, player: int) -> str:
        """The player as the game calls them."""
        return player_name(self.game, player, self.look())

    def say(self, text: str, style: str = "") -> None:
        """One message; colors where there are colors."""
        self.console.print(Text(text, style if self.look().color else ""), soft_wrap=False)

    def show(self) -> None:
        """The board, and what stands beside it."""
        previous = self.history[-1].before if self.history else None
        board = self.game.board  # one's own men stand below, where the board is turned round
        flipped = board is not None and self.human == 1 - board.below
        self.console.print()
        self.console.print(draw(self.game, self.state, self.look(), previous, flipped), no_wrap=True, crop=False)
        self.console.print()

    def show_ending(self) -> None:
        """The game's last words."""
        self.say(self.ending(), "bold green")
        if self.human is not None:
            won = winner(self)
            self.say("You win!" if won == self.human else "The engine wins." if won is not None else "A draw.")
        self.say("Type new for another game, or undo, save, quit.", "dim")

    # The conversation.

    def prompt(self) -> str:
        """What stands before the cursor."""
        if self.outer:
            return f"Variation, move {len(self.history)} of {self.plies}> "
        if self.future:
            return f"Move {len(self.history)} of {self.plies}> "
        if self.over:
            return "Game over> "
        return f"{self.name(self.mover)} to move> "

    @property
    def interactive(self) -> bool:
        """A person sits at a terminal."""
        return self.stdin is sys.stdin and self.stdin.isatty() and self.console.is_terminal

    def read(self) -> str:
        """One line from the person. Raises EOFError at the end."""
        prompt = self.prompt()
        if self.interactive:
            with suppress(ImportError):
                import readline  # noqa: F401  # line editing and history; it must know the prompt to redraw it
            return input(prompt)
        self.console.file.write(prompt)
        self.console.file.flush()
        line = self.stdin.readline()
        if not line:
            raise EOFError
        if not self.stdin.isatty():  # a transcript should show what was typed
            self.console.file.write(printable(line) + "\n")
        return line

    def greet(self) -> None:
        """Who plays whom, and how to get help."""
        if self.human is None:
            self.say(f"{self.game.name}: you play both sides; {self.engine.name} gives hints.", "bold")
        else:
            who = f"{self.game.name}: you are {self.name(self.human)} against {self.engine.name}."
            begins = "" if self.held else f" {self.name(self.mover)} begins."
            self.say(f"{who}{begins}", "bold")
        self.say(f"It {self.engine.effort}. Type a move, or help.", "dim")

    def turn(self, show: bool) -> None:
        """After any change: show the board, let the engine move while it is its turn, say when it is over."""
        if show:
            self.show()
        while self.engine_to_move:
            self.engine_move()
            self.show()
        if self.over:
            self.show_ending()

    def think(self, advice: bool = False) -> tuple[WholeResult, float]:
        """Ask the engine for its move, or for advice; seconds taken."""
        with self.busy("thinking …" if self.warm else self._first_words()):
            self.engine.prepare()
            begin = time.perf_counter()
            result = (self.engine.advise if advice else self.engine.think)(self.state)
        self.warm = True
        return result, time.perf_counter() - begin

    def _first_words(self) -> str:
        cold = "the search is being compiled, once, which takes about half a minute"
        return f"getting ready: {cold} …" if search_is_cold(self.game) else "getting ready …"

    @contextmanager
    def busy(self, words: str) -> Generator[Callable[[str], None]]:
        """A sign of life where a cursor can move, nothing in a pipe; yields what tells other words."""
        moving = _Moving(words)

        def tell(text: str) -> None:
            moving.words = text

        live = self.console.is_terminal and not self.console.is_dumb_terminal
        with self.console.status(moving) if live else nullcontext():
            yield tell

    def engine_move(self) -> None:
        """The engine thinks, moves and says what it thinks."""
        result, seconds = self.think()
        mover = self.name(self.mover)
        self.push(result.best.text, result.best.actions)
        self.say(f"{mover} (engine) plays {result.best.text}", "bold cyan")
        parts = [expectation(result)] if expectation(result) else []
        parts += [f"{result.simulations} simulations"] if result.simulations else []
        self.say(", ".join([*parts, f"{seconds:.1f} s"]), "dim")


def expectation(result: WholeResult) -> str:
    """What the engine expects for itself: what is proven, else its chance; nothing where it knows neither."""
    if result.proven != UNKNOWN:
        return f"for it {PROVEN[result.proven]}"
    return "" if math.isnan(result.value) else f"its win chance {win_chance(result.value)}"


def win_chance(value: float) -> str:
    """A value in [-1, +1] as people say it."""
    return f"{100 * (min(1.0, max(-1.0, value)) + 1) / 2:.0f} %"


def winner(session: Session) -> int | None:
    """The player who won a finished game; None: a draw."""
    if session.resigned is not None:
        return 1 - session.resigned
    outcome = int(session.game.outcome(session.state))
    return None if outcome == DRAW else session.mover if outcome == WIN else 1 - session.mover


def printable(line: str, most: int = SHOWN) -> str:
    """What was typed, short and without control characters."""
    line = "".join(sign if sign.isprintable() else "?" for sign in line.rstrip("\r\n"))
    return line if len(line) <= most else line[: most - 1] + "…"
