"""HUB, version 2, for checkers (variant english): the protocol of Scan and of the Hub GUI, spoken by draughts programs.

Described by its author in Scan's protocol.txt (Fabien Letouzey, 2017). Unknown commands and arguments are ignored.
"""

from __future__ import annotations

import math
import re
from importlib.metadata import version
from typing import BinaryIO, TextIO

from az.engine.errors import WrongRequest
from az.engine.game import State
from az.engine.players.levels import LEVELS
from az.engine.printable import quoted
from az.engine.protocols.brain import Brain, Json, Limit, value_of
from az.engine.protocols.hub_moves import PYDRAUGHTS, STANDARD, TURNED, Frame, find_frame, follow_hub, hub_move
from az.engine.protocols.speaker import Speaker

ARGUMENT = re.compile(r'([^\s="]+)(?:\s*=\s*("[^"]*"|[^\s"]+))?')
NO_MOVE = "0-0"  # where there is none, or the position could not be read: the client waits for an answer
MEN = 10.0  # the score in men of a value of 1
MOST_SIMULATIONS = 1_000_000
BOARDS: dict[str, Frame] = {"standard": STANDARD, "pydraughts": PYDRAUGHTS, "turned": TURNED}


class Hub(Speaker):
    """A conversation in HUB."""

    def __init__(self, brain: Brain, stdin: BinaryIO, stdout: TextIO, limit: Limit) -> None:
        if brain.game.name != "checkers":
            raise WrongRequest(f"HUB is for checkers, and this is {brain.game.name}: az gtp speaks for every game.")
        super().__init__(brain, stdin, stdout)
        self.usual = self.limit = limit
        self.state: State | None = self.game.new_state()
        self.frame, self.board = STANDARD, "auto"
        self.pondering = False

    def answer(self, line: str) -> bool:
        """One command with its arguments."""
        words = line.split(None, 1)
        if not words:
            return True
        arguments = {name: value.strip('"') for name, value in ARGUMENT.findall(words[1] if len(words) > 1 else "")}
        command = words[0]
        if command == "quit":
            return False
        if command == "stop":
            self.stop()
        elif command == "ping":
            self.output.say("pong")
        elif command == "ponder-hit":
            self.pondering = False
        elif command == "hub":
            self._introduce()
        elif command == "set-param":
            self._set(arguments.get("name", ""), arguments.get("value", ""))
        elif command in ("init", "pos", "level", "go", "new-game"):
            self.stop()  # a client sends none of these during a search
            self._prepare(command, arguments)
        return True

    def complain(self, sentence: str) -> None:
        """As the protocol's error."""
        self.output.say(f'error message="{sentence.replace(chr(34), chr(39))}"')

    def _prepare(self, command: str, arguments: dict[str, str]) -> None:
        if command == "init":
            self.brain.load()
            self.output.say("ready")
        elif command == "new-game":
            self.brain.forget()
        elif command == "pos":
            self._position(arguments.get("pos", ""), arguments.get("moves", "").split())
        elif command == "level":
            self.limit = _limit(arguments, self.usual)
        else:
            self._go(next(iter(arguments), "think"))

    def _introduce(self) -> None:
        name = self.brain.name.replace('"', "'")
        self.output.say(f'id name="{name}" version={version("az-engine")} author="the authors of az"')
        self.output.say('param name=variant value=english type=enum values="english"')
        self.output.say(f"param name=skill value=0 type=int min=0 max={len(LEVELS)}")
        self.output.say(f'param name=board value=auto type=enum values="auto {" ".join(BOARDS)}"')
        self.output.say("wait")

    def _set(self, name: str, value: str) -> None:
        if name == "variant" and value != "english":
            raise WrongRequest(f"variant '{quoted(value, 20)}' is not played: english is.")
        if name == "skill":
            if not re.fullmatch(r"\d{1,3}", value):
                raise WrongRequest(f"skill is a number from 0 to {len(LEVELS)}, not '{quoted(value, 20)}'.")
            self.brain.set_level(int(value))
        if name == "board":
            if value not in ("auto", *BOARDS):
                raise WrongRequest(f"board is one of auto {' '.join(BOARDS)}, not '{quoted(value, 20)}'.")
            self.board = value

    def _position(self, text: str, moves: list[str]) -> None:
        self.state = None  # a position that cannot be read leaves none
        if self.board == "auto":
            self.state, self.frame = find_frame(self.game, text, moves, self.frame)
        else:
            self.frame = BOARDS[self.board]
            self.state = follow_hub(self.game, text, moves, self.frame)

    def _go(self, mode: str) -> None:
        state, frame = self.state, self.frame
        if state is None or not self.game.moves(state):
            why = "no position was read" if state is None else "the position has no legal move"
            self.complain(f"{why}: send pos first.")
            self.output.say(f"done move={NO_MOVE}")
            return
        self.pondering = mode == "ponder"
        limit = self.limit if mode == "analyze" or len(self.game.moves(state)) > 1 else Limit(simulations=1)

        def limit_now() -> Limit:
            return Limit() if self.pondering else limit

        def tell(answer: Json) -> None:
            self.output.say(self._info(state, answer, frame))

        def done(answer: Json) -> None:
            if answer["moves"]:
                tell(answer)
            line = _line(answer)
            best = hub_move(self.game, state, line[0], frame)
            after = self.game.play(state, self.game.moves(state)[line[0]])
            reply = next((text for text in line[1:2] if text in self.game.moves(after)), None)
            ponder = f" ponder={hub_move(self.game, after, reply, frame)}" if reply else ""
            self.output.say(f"done move={best}{ponder}")

        self.begin(state, limit_now, done, tell)

    def _info(self, state: State, answer: Json, frame: Frame) -> str:
        moves, line = list[str](), _line(answer)
        for text in line:
            legal = self.game.moves(state)
            if text not in legal:
                break
            moves.append(hub_move(self.game, state, text, frame))
            state = self.game.play(state, legal[text])
        seconds, visits = answer["seconds"], answer["visits"]
        speed = visits / max(seconds, 1e-3) / 1e6  # millions a second, as Scan counts
        score = _score(answer, len(moves))
        told = f" score={score:.2f}" if score is not None else ""
        return f'info depth={len(moves)}{told} nodes={visits} time={seconds:.3f} nps={speed:.6f} pv="{" ".join(moves)}"'


def _line(answer: Json) -> list[str]:
    """The expected moves, the best one first."""
    best = next((move for move in answer["moves"] if move["text"] == answer["best"]), None)
    line = list(best.get("line", ())) if best else []
    return line if line[:1] == [answer["best"]] else [answer["best"]]


def _score(answer: Json, plies: int) -> float | None:
    """In men: near 100 what is proven, the sooner the nearer; None where nothing is known."""
    value = value_of(answer)
    if value is None:
        return None
    if answer.get("proven"):
        return math.copysign(100 - 0.01 * plies, value)
    return MEN * value


def _limit(arguments: dict[str, str], usual: Limit) -> Limit:
    """What `level` asks for. Raises WrongRequest for what is no number."""
    numbers = dict[str, float]()
    for name, value in arguments.items():
        if name in ("depth", "move-time", "time", "inc", "moves", "nodes"):
            if not re.fullmatch(r"-?\d{1,9}(?:\.\d{0,9})?", value):
                raise WrongRequest(f"level: {name} is '{quoted(value, 20)}' and must be a number.")
            numbers[name] = float(value)
    if "infinite" in arguments:
        return Limit()
    if "nodes" in numbers:
        return Limit(simulations=int(min(max(numbers["nodes"], 1), MOST_SIMULATIONS)))
    if "move-time" in numbers:
        return Limit(seconds=max(0.01, numbers["move-time"]))
    if "time" in numbers:
        moves = int(numbers["moves"]) if numbers.get("moves", 0) > 0 else None
        increment = max(0.0, numbers.get("inc", 0.0))
        return Limit.clock(max(0.02, numbers["time"] + increment), increment, moves)
    if "depth" in numbers:
        return Limit.depth(int(numbers["depth"]))
    return usual
