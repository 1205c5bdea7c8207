"""NBoard's protocol, version 2 (version 1 is a part of it), for Othello: what the NBoard program sends and expects.

Described in NBoard's own page on the protocol (Chris Welty). Lines that az does not know are ignored, as it demands.
What is wrong with a line is told as the engine's status, which NBoard shows.
"""

from __future__ import annotations

import re
import threading
from typing import BinaryIO, TextIO

from az.engine.errors import WrongRequest
from az.engine.game import ONGOING, State
from az.engine.notation import GameText, Move, read_games
from az.engine.notation.candidates import PASSES
from az.engine.printable import quoted
from az.engine.protocols.brain import Brain, Json, Limit, value_of
from az.engine.protocols.speaker import Speaker

SIZES = {"othello": 8, "othello6": 6}
MOST_HINTS = 64
WAITING = "status"  # nothing to say


class NBoard(Speaker):
    """A conversation with NBoard."""

    def __init__(self, brain: Brain, stdin: BinaryIO, stdout: TextIO, limit: Limit) -> None:
        if brain.game.name not in SIZES:
            raise WrongRequest(f"NBoard is for Othello, and this is {brain.game.name}: az gtp speaks for every game.")
        super().__init__(brain, stdin, stdout)
        self.limit, self.discs = limit, SIZES[brain.game.name] ** 2
        self.current = GameText(self.game.name)
        self.states = [self.game.new_state()]

    def answer(self, line: str) -> bool:
        """One command of the program."""
        command, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        if command == "quit":
            return False
        if command == "nboard":
            self.output.say(f"set myname {self.brain.name}")
        elif command == "set":
            self._set(*[*rest.split(None, 1), "", ""][:2])
        elif command == "move":
            self._move(rest)
        elif command == "hint":
            self._hint(rest)
        elif command == "go":
            self._go()
        elif command == "ping":
            self.stop()
            self.output.say(f"pong {quoted(rest, 20)}")
        elif command == "learn":  # az learns from its own games alone
            self.output.say("learned")
        elif command == "analyze":
            self._analyze()
        elif re.fullmatch(r"[A-Ha-h][1-8]|[Pp][Aa]", command):  # a move as version 1 of the program sent it
            self._move(command)
        return True

    def complain(self, sentence: str) -> None:
        """As the status line."""
        self.output.say(f"status {sentence}")

    def _set(self, what: str, value: str) -> None:
        if what == "depth":
            if not re.fullmatch(r"\d{1,3}", value):
                raise WrongRequest(f"set depth: '{quoted(value, 20)}' is not a depth such as 10.")
            self.stop()
            self.limit = Limit.depth(int(value))
            self.output.say(f"set myname {self.brain.name}, depth {int(value)}")
        elif what == "game":
            self.stop()
            found = read_games(value, self.game, "ggf")[0]
            self.current, self.states = found, found.states(self.game)

    def _move(self, text: str) -> None:
        self.stop()
        square, value, seconds = [part.strip() for part in [*text.split("/", 2), "", ""][:3]]
        written = "pass" if square.lower() in PASSES else square.lower()
        actions = self.game.parse_move(self.states[-1], written)
        self.current.moves.append(Move(written, actions, value=_number(value), clock=_number(seconds)))
        self.states.append(self.game.play(self.states[-1], actions))

    def _open(self) -> State:
        state = self.states[-1]
        if self.game.outcome(state) != ONGOING:
            raise WrongRequest("the game is over: there is no move to find.")
        return state

    def _go(self) -> None:
        state = self._open()
        self.output.say("status az is thinking")

        def done(answer: Json) -> None:
            if answer["moves"]:
                self._search(answer, 1)
            value = value_of(answer)
            told = "" if value is None else f"{self.discs * value:.2f}"
            self.output.say(f"=== {_square(answer['best'])}/{told}/{answer['seconds']:.2f}\n{WAITING}")

        self.begin(state, lambda: self.limit, done, lambda answer: self._search(answer, 1))

    def _hint(self, count: str) -> None:
        if not re.fullmatch(r"\d{1,3}", count):
            raise WrongRequest(f"hint: '{quoted(count, 20)}' is not a number of moves.")
        state, most = self._open(), max(1, min(int(count), MOST_HINTS))
        self.output.say("status az is analyzing")

        def done(answer: Json) -> None:
            self._search(answer, most)
            self.output.say(WAITING)

        self.begin(state, lambda: self.limit, done, lambda answer: self._search(answer, most))

    def _search(self, answer: Json, most: int) -> None:
        """A line for each of the best moves, the best one last: that is the one a program keeps, if it keeps one."""
        lines = list[str]()
        alone: Json = {"text": answer["best"]}  # of a player without a network
        for move in answer["moves"][:most] or [alone]:
            value, line = value_of(move) or 0.0, list[str](move.get("line") or [move["text"]])
            depth = "100%W" if move.get("proven") is not None else f"{len(line)}"
            path = "-".join(_square(text) for text in line)
            lines.append(f"search {path} {self.discs * value:.2f} 0 {depth} {answer['visits']} simulations")
        self.output.say("\n".join([*reversed(lines), f"nodestats {answer['visits']} {answer['seconds']:.2f}"]))

    def _analyze(self) -> None:
        """Every position of the game from its end: `analysis {moves made} {evaluation for the player to move}`."""
        positions = list(enumerate(self.states))
        self.output.say("status az is analyzing the game")

        def work() -> None:
            for made, state in reversed(positions):
                if self.stopping.is_set():
                    break
                value = self._final(state) if self.game.outcome(state) != ONGOING else self._value(state, self.stopping)
                self.output.say(f"analysis {made} {value:.2f}")
            self.output.say(WAITING)

        self.work(work)

    def _value(self, state: State, stop: threading.Event) -> float:
        answer = self.brain.think(state, lambda: self.limit, stop)
        return self.discs * (value_of(answer) or 0.0)

    def _final(self, state: State) -> float:
        signs = self.game.position_text(state)[:-2]
        lead = signs.count("X") - signs.count("O")
        return float(lead if state[0] == 0 else -lead)


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"[+-]?\d{1,9}(?:\.\d{1,9})?", text) else None


def _square(text: str) -> str:
    return "PA" if text == "pass" else text.upper()
