"""GTP, version 2, for every game of az: the Go Text Protocol's framing and commands, with the game's own moves.

Framing, errors and commands follow "GTP Version 2 draft" (Gunnar Farnebäck, 2002). A vertex is a move as az writes it
in that game: 11-15, c4, 4. lz-analyze is as in Leela Zero. Commands of az's own begin with az-.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import BinaryIO, TextIO

from az.engine.errors import AzError, WrongRequest
from az.engine.game import ONGOING, Game, State
from az.engine.notation.game_text import result_of
from az.engine.protocols.brain import Brain, Json, Limit, alive, value_of
from az.engine.protocols.speaker import Speaker

COLORS = {"b": 0, "black": 0, "w": 1, "white": 1}
NAMES = ("black", "white")
INTERVAL = 1.0  # seconds between two lines of lz-analyze, where none is given


class Wrong(Exception):
    """What is answered with `?`."""


class Gtp(Speaker):
    """A conversation in GTP."""

    def __init__(self, brain: Brain, stdin: BinaryIO, stdout: TextIO, limit: Limit) -> None:
        super().__init__(brain, stdin, stdout)
        self.limit = limit
        self.states = [self.game.new_state()]
        self.settings: tuple[float, float, int] | None = None  # main seconds, seconds of a period, its moves
        self.left: dict[int, tuple[float, int]] = {}  # of a player: seconds, moves to make in them (0: all)
        self.identity = ""
        self.commands: dict[str, Callable[[Sequence[str]], str | None]] = {
            "protocol_version": lambda _: "2",
            "name": lambda _: "az",
            "version": lambda _: f"{version('az-engine')} ({self.brain.name.removeprefix('az ')})",
            "known_command": lambda words: "true" if words and words[0] in self.all_commands() else "false",
            "list_commands": lambda _: "\n".join(self.all_commands()),
            "boardsize": self._boardsize,
            "clear_board": self._clear,
            "komi": lambda words: self._number(words) and "",
            "play": self._play,
            "genmove": lambda words: self._genmove(words, play=True),
            "reg_genmove": lambda words: self._genmove(words, play=False),
            "undo": self._undo,
            "showboard": lambda _: f"\n{self.game.render(self.states[-1])}",
            "time_settings": self._time_settings,
            "time_left": self._time_left,
            "final_score": self._final_score,
            "az-game": lambda _: self.game.name,
            "az-legal_moves": lambda _: " ".join(self.game.moves(self.states[-1])),
            "az-position": self._position,
            "az-to_move": lambda _: NAMES[int(self.states[-1][0])],
        }

    def all_commands(self) -> list[str]:
        """Their names, in order."""
        return [*self.commands, *(["lz-analyze"] if self.brain.can_analyze() else []), "quit"]

    def answer(self, line: str) -> bool:
        """One command: its id, its name, its arguments."""
        line = re.sub(r"[^\t -~\u0080-\U0010ffff]", "", line).replace("\t", " ").partition("#")[0].strip()
        if not line:
            return True
        self.wait_for_analysis()
        words = line.split()
        self.identity = words.pop(0) if re.fullmatch(r"\d{1,9}", words[0]) and len(words) > 1 else ""
        name = words.pop(0)
        if name == "quit":
            self._say("=", "")
            return False
        if name == "lz-analyze" and self.brain.can_analyze():
            self._guarded(self._analyze, words)
        elif name in self.commands:
            found = self._guarded(self.commands[name], words)
            if found is not None:
                self._say("=", found)
        else:
            self._say("?", "unknown command")
        return True

    def _guarded(self, run: Callable[[Sequence[str]], str | None], words: Sequence[str]) -> str | None:
        """What a command says; an error has been told."""
        try:
            return run(words)
        except (Wrong, AzError) as error:
            self._say("?", str(error))
            return None

    def complain(self, sentence: str) -> None:
        """As a failure of the command that is being answered."""
        self._say("?", sentence)

    def _say(self, sign: str, text: str) -> None:
        body = "\n".join(line.rstrip() or "." for line in text.split("\n")[1:]) if "\n" in text else ""
        first = text.partition("\n")[0]
        self.output.say(f"{sign}{self.identity} {first}".rstrip() + (f"\n{body}" if body else "") + "\n")

    # The board.

    def _state(self) -> State:
        return self.states[-1]

    def _boardsize(self, words: Sequence[str]) -> str:
        if not words or not re.fullmatch(r"\d{1,3}", words[0]):
            raise Wrong("syntax error: boardsize is a number")
        if int(words[0]) not in _sizes(self.game):
            raise Wrong("unacceptable size")
        return self._clear(words)

    def _clear(self, _: Sequence[str]) -> str:
        self.states = [self.game.new_state()]
        self.brain.forget()
        self.left.clear()
        return ""

    def _mover(self, words: Sequence[str], most: int) -> None:
        """The color in the first word is the one to move. Raises Wrong."""
        if not words or words[0].lower() not in COLORS:
            raise Wrong("syntax error: a color is b or w")
        if len(words) > most:
            raise Wrong("syntax error: too many words")
        self._over()
        mover = int(self._state()[0])
        if COLORS[words[0].lower()] != mover:
            raise Wrong(f"illegal move: {NAMES[mover]} is to move")

    def _over(self) -> None:
        """Raises Wrong where nothing can be played. A draw by repetition or count is played on."""
        state = self._state()
        if self.game.outcome(state) != ONGOING:
            fresh = alive(self.game, state)
            if not self.game.moves(fresh):
                raise Wrong("illegal move: the game is over")
            self.states[-1] = fresh

    def _play(self, words: Sequence[str]) -> str:
        self._mover(words, 2)
        if len(words) != 2:
            raise Wrong("syntax error: play COLOR MOVE")
        try:
            actions = self.game.parse_move(self._state(), words[1])
        except WrongRequest as error:
            raise Wrong(f"illegal move: {error}") from None
        self.states.append(self.game.play(self._state(), actions))
        return ""

    def _undo(self, _: Sequence[str]) -> str:
        if len(self.states) == 1:
            raise Wrong("cannot undo")
        self.states.pop()
        return ""

    def _position(self, words: Sequence[str]) -> str:
        if words:
            self.states = [self.game.parse_position(" ".join(words))]
            self.brain.forget()
        return self.game.position_text(self._state())

    def _final_score(self, _: Sequence[str]) -> str:
        state = self._state()
        result = result_of(self.game, state)
        if result == "*":
            raise Wrong("cannot score: the game is not over")
        if result == "1/2-1/2":
            return "0"
        counts = self.game.board.counts(state) if self.game.board and self.game.board.counts else None
        margin = abs(counts[0] - counts[1]) if counts else 1
        return f"{'B' if result == '1-0' else 'W'}+{max(1, margin)}"

    # Thinking.

    def _genmove(self, words: Sequence[str], play: bool) -> str | None:
        self._mover(words, 1)
        state, identity = self._state(), self.identity
        found = list[Json]()
        limit = self._limit(int(state[0]))
        self.begin(state, lambda: limit, found.append)
        self.wait()
        if not found:
            return None  # it was told why
        self.identity = identity
        text = found[0]["best"]
        if play:
            self.states.append(self.game.play(state, self.game.moves(state)[text]))
        return text

    def _analyze(self, words: Sequence[str]) -> None:
        """Lines of info until the next command comes."""
        rest = [word for word in words if word.lower() not in COLORS and word != "interval"]
        if words and words[0].lower() in COLORS:
            self._mover(words[:1], 1)
        self._over()
        hundredths = int(rest[0]) if rest and re.fullmatch(r"\d{1,6}", rest[0]) else int(100 * INTERVAL)
        state, told = self._state(), [0.0]
        self.output.say(f"={self.identity}")

        def tell(answer: Json) -> None:
            if answer["seconds"] - told[0] >= hundredths / 100:
                told[0] = answer["seconds"]
                self.output.say(_info(answer))

        def done(answer: Json) -> None:
            self.output.say(_info(answer) + "\n")

        self.begin(state, Limit, done, tell)

    def wait_for_analysis(self) -> None:
        """The next command ends it."""
        self.stop()

    # The clock.

    def _number(self, words: Sequence[str], at: int = 0) -> str:
        if len(words) <= at or not re.fullmatch(r"[+-]?\d{1,8}(?:\.\d{1,8})?", words[at]):
            raise Wrong("syntax error: a number is missing")
        return words[at]

    def _time_settings(self, words: Sequence[str]) -> str:
        main, period, moves = (float(self._number(words, at)) for at in range(3))
        if min(main, period, moves) < 0:
            raise Wrong("syntax error: times are 0 or more")
        self.left.clear()
        self.settings = None if period > 0 and moves == 0 else (main, period, int(moves))  # that means no limit
        return ""

    def _time_left(self, words: Sequence[str]) -> str:
        if not words or words[0].lower() not in COLORS:
            raise Wrong("syntax error: a color is b or w")
        seconds, moves = float(self._number(words, 1)), int(float(self._number(words, 2)))
        self.left[COLORS[words[0].lower()]] = (max(0.0, seconds), max(0, moves))
        return ""

    def _limit(self, player: int) -> Limit:
        if player in self.left:
            seconds, moves = self.left[player]
            return Limit.clock(seconds, 0.0, moves or None)
        if self.settings is not None:
            main, period, moves = self.settings
            return Limit.clock(main) if main else Limit.clock(period, 0.0, moves)
        return self.limit


def _sizes(game: Game) -> set[int]:
    """The numbers that may be called the size of its board."""
    if game.board is None:
        return set(game.planes_shape[1:])
    grid = game.board.cells(game.new_state())
    return {len(grid), len(grid[0])}


def _info(answer: Json) -> str:
    """As Leela Zero's lz-analyze: shares of visits, chances in ten-thousandths, lines."""
    parts = list[str]()
    for order, move in enumerate(answer["moves"]):
        visits = round(move["share"] * answer["visits"])
        if not visits and order:
            continue
        chance = round(5000 * (1 + (value_of(move) or 0.0)))
        line = " ".join(move["line"] or [move["text"]])
        prior = round(10_000 * move["prior"])
        parts.append(f"info move {move['text']} visits {visits} winrate {chance} prior {prior} order {order} pv {line}")
    return " ".join(parts)
