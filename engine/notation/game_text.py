"""A game that was read from text, or is to be written: its moves as actions, and all that stood beside them."""

from __future__ import annotations

from dataclasses import dataclass, field

from az.engine.game import DRAW, LOSS, ONGOING, Game, State, load_game

Hops = tuple[int, ...]
MOST_TEXT = 8_000_000  # characters of one text
MOST_GAMES = 100_000  # games of one text
MOST_PLIES = 20_000  # moves of one game, those of its variations too
MOST_WORDS = 100_000  # words of one game in PDN: headers, moves, numbers, marks, comments
MOST_DEPTH = 100  # variations inside of one another
RESULTS = ("1-0", "0-1", "1/2-1/2", "*")


class LoadedGames(dict[str, Game]):
    """Games by their names, each loaded once: to load one looks through every package that is installed."""

    def __missing__(self, name: str) -> Game:
        self[name] = load_game(name)
        return self[name]


@dataclass
class Move:
    """One whole move and what stood beside it."""

    text: str  # az's own text of it, such as 22x15 or c4
    actions: Hops  # az's action numbers, one a hop
    comments: list[str] = field(default_factory=list)  # after the move
    nags: list[int] = field(default_factory=list)  # $1 …; 1 is !, 2 is ?
    clock: float | None = None  # seconds: PDN's [%clk …] left after it, GGF's seconds that it took
    value: float | None = None  # what a program said of it, in the format's own unit
    variations: list[list[Move]] = field(default_factory=list)  # other moves in place of this one, and on from them
    variation_comments: list[str] = field(default_factory=list)  # before the first move of variation k; "" for none


@dataclass
class GameText:
    """One game of a text. Two are equal where all but `notes` is."""

    game: str  # az's name of it
    moves: list[Move] = field(default_factory=list)
    start: str | None = None  # the game's own position text; None: the start position
    headers: dict[str, str] = field(default_factory=dict)  # as written, in their order; not what has a field here
    comments: list[str] = field(default_factory=list)  # before the first move
    result: str = "*"  # one of RESULTS, of player 0 against player 1
    notes: list[str] = field(default_factory=list, compare=False)  # guessed or ambiguous: "line 3, '1-10': read as …"

    def start_state(self, game: Game | None = None) -> State:
        """The position before the first move."""
        rules = load_game(self.game) if game is None else game
        return rules.new_state() if self.start is None else rules.parse_position(self.start)

    def texts(self) -> list[str]:
        """The moves of the main line in az's own notation."""
        return [move.text for move in self.moves]

    def beside(self) -> bool:
        """Whether anything stands beside the moves: comments, marks, clocks, values or variations."""
        return bool(self.comments) or any(
            move.comments or move.nags or move.variations or move.clock is not None or move.value is not None
            for move in self.moves
        )

    def states(self, game: Game | None = None) -> list[State]:
        """Every position of the main line: one more than there are moves."""
        rules = load_game(self.game) if game is None else game
        found = [self.start_state(rules)]
        for move in self.moves:
            found.append(rules.play(found[-1], move.actions))
        return found


def result_of(game: Game, state: State) -> str:
    """What the board says: one of RESULTS, "*" while the game goes on."""
    outcome = int(game.outcome(state))
    if outcome in (DRAW, ONGOING):
        return "1/2-1/2" if outcome == DRAW else "*"
    return ("1-0", "0-1")[1 - int(state[0]) if outcome == LOSS else int(state[0])]
