"""The game contract. One file in `engine/games/` defines one game; it is found by its file name.

A state is a fixed-length integer array; `state[0]` is the player to move, 0 or 1. All that the rules need is in it.
Every value in az is in [-1, +1], from the view of the player to move. Every input plane is in [-1, +1].
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import InitVar, dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from az.engine.board import Board
from az.engine.errors import Refused, WrongRequest
from az.engine.game_facts import fault_of
from az.engine.jit import CannotCompile, Kernel
from az.engine.printable import quoted

State = NDArray[Any]  # [state_size], integers of the game's dtype
Mask = NDArray[np.bool_]  # [num_actions], True = legal
Planes = NDArray[np.float32]  # [C, H, W]
Permutation = NDArray[np.int64]

LOSS, DRAW, WIN, ONGOING = -1, 0, 1, 2  # what `outcome` returns, of the player to move
MOST_LISTED = 40  # moves that a sentence lists
MOST_TYPED = 40  # characters of a mistyped move that are repeated


@dataclass(frozen=True)
class Symmetry:
    """A relabelling of the board that the rules do not notice.

    `actions[a]` is the image of action a; `squares[s]` is the image of square s (row-major index in a plane):
    image_planes[c].flat[squares[s]] == planes[c].flat[s], image_mask[actions[a]] == mask[a].
    """

    actions: Permutation  # [num_actions]
    squares: Permutation  # [H * W]


@dataclass(frozen=True)
class Game:
    """Five compiled rules, a few facts, and plain Python for people."""

    name: str
    version: int  # raise it when the rules or the encoding change
    dtype: np.dtype[Any]
    state_size: int
    num_actions: int
    planes_shape: tuple[int, int, int]  # [C, H, W]
    max_plies: int  # longest game, in actions
    start: Callable[[State], None]  # writes the start position; the five rules are made with az.engine.jit.Rules
    apply: Callable[[State, int], None]  # in place; the action is legal
    legal: Callable[[State, Mask], None]  # writes every entry; all False when the game is over
    outcome: Callable[[State], int]  # LOSS, DRAW, WIN of the player to move, or ONGOING
    encode: Callable[[State, Planes], None]  # writes every entry, seen by the player to move
    render: Callable[[State], str]  # the board in plain text with the game's own coordinates
    moves: Callable[[State], Mapping[str, tuple[int, ...]]]  # text of every whole legal move -> its actions (hops)
    parse_position: Callable[[str], State]  # raises WrongRequest
    position_text: Callable[[State], str]
    normalize_move: Callable[[State, str], str] = lambda state, text: text.strip().lower()  # noqa: ARG005
    key_words: int = 0  # states alike in so many first words have the same future, however they came about; 0 = all
    symmetries: tuple[Symmetry, ...] = ()  # without the identity
    board: Board | None = None  # how it is drawn; None: as `render` says
    normalise_move: InitVar[Callable[[State, str], str] | None] = None  # the old name of `normalize_move`

    def __post_init__(self, normalise_move: Callable[[State, str], str] | None) -> None:
        if normalise_move is not None:  # for one version
            object.__setattr__(self, "normalize_move", normalise_move)

    def new_state(self) -> State:
        """The start position."""
        state = np.zeros(self.state_size, self.dtype)
        self.start(state)
        return state

    def mask(self, state: State) -> Mask:
        """[num_actions], True = legal."""
        mask = np.zeros(self.num_actions, np.bool_)
        self.legal(state, mask)
        return mask

    def planes(self, state: State) -> Planes:
        """[C, H, W], what the network sees."""
        planes = np.zeros(self.planes_shape, np.float32)
        self.encode(state, planes)
        return planes

    def parse_move(self, state: State, text: str) -> tuple[int, ...]:
        """The actions of one whole move written as people write it. Raises WrongRequest that lists the legal moves."""
        legal = self.moves(state)
        typed = quoted(text, MOST_TYPED)
        if not legal:
            raise WrongRequest(f"'{typed}' cannot be played: the game is over.")
        key = self.normalize_move(state, text)
        if key not in legal:
            near = get_close_matches(typed.lower(), legal, 1, 0.5)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise WrongRequest(f"'{typed}' is not a legal move here; legal: {_listed([*legal])}.{hint}")
        return legal[key]

    def action_text(self, state: State, action: int) -> str:
        """The whole move that begins with this action (the first of them, where several do)."""
        for text, actions in self.moves(state).items():
            if actions[0] == action:
                return text
        raise ValueError(f"action {action} is not legal")

    def play(self, state: State, actions: tuple[int, ...]) -> State:
        """A new state: these actions applied to a copy."""
        after = state.copy()
        for action in actions:
            self.apply(after, action)
        return after


def _listed(moves: list[str]) -> str:
    """All of them, or a few of many: Hex begins with 121."""
    if len(moves) <= MOST_LISTED:
        return " ".join(moves)
    return f"{' '.join(moves[:3])} … {moves[-1]} ({len(moves)} moves)"


def game_names() -> list[str]:
    """Names of all games: the files of `engine/games/` and the entry points of the group `az.games`."""
    folder = Path(__file__).resolve().parent / "games"
    own = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")}
    return sorted(own | {point.name for point in entry_points(group="az.games")})


def known_game(name: str) -> str:
    """The name, where there is such a game. Raises WrongRequest naming the games there are."""
    names = game_names()
    if name not in names:
        near = get_close_matches(name, names, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise WrongRequest(f"there is no game '{name}': {hint}the games are {', '.join(names)}.")
    return name


def load_game(name: str) -> Game:
    """The game of that name, once a short game of it has been played in a process of its own (`game_trial.py`).

    Raises WrongRequest naming the games there are, or Refused for a file that does not give a game which can be played.
    """
    from az.engine.game_trial import try_game

    try_game(known_game(name))
    game = import_game(name)
    if _point_of(name):  # a rule of another package's that cannot be compiled must say so while that package is named
        compile_rules(game)
    return game


def _point_of(name: str) -> EntryPoint | None:
    return next((point for point in entry_points(group="az.games") if point.name == name), None)


def import_game(name: str) -> Game:
    """The game of that name as its file gives it, its facts checked. Raises Refused."""
    point = _point_of(name)
    where = f"'{point.value}'" if point else f"engine/games/{name}.py"
    try:
        with redirect_stdout(sys.stderr):  # stdout is for answers, such as JSON
            loaded: Any = import_module(point.module if point else f"az.engine.games.{name}")
            for part in (point.attr if point else "GAME").split("."):
                loaded = getattr(loaded, part, None) if part else loaded
    except (Exception, SystemExit) as error:  # a file that is being written can fail in any way
        raise Refused(f"the game '{name}' cannot be loaded from {where} ({_told(error)}).") from error
    game = loaded.GAME if isinstance(loaded, ModuleType) and hasattr(loaded, "GAME") else loaded
    if not isinstance(game, Game):
        missing = game is None or isinstance(game, ModuleType)
        got = "it has no GAME" if missing else f"its GAME is of the type {type(game).__name__}"
        raise Refused(f"the game '{name}' cannot be loaded from {where}: {got}; end the file with GAME = Game(...).")
    if fault := fault_of(game, name):
        raise Refused(f"the game '{name}' cannot be used, from {where}: {fault}.")
    return game


def _told(error: BaseException) -> str:
    """What an exception says, with the line of the file where there is one."""
    if isinstance(error, SyntaxError) and error.lineno:
        return f"{type(error).__name__}: {error.msg}, line {error.lineno}"
    return f"{type(error).__name__}: {error}".rstrip(": ")


def compile_rules(game: Game) -> None:
    """Compile the five rules, or load them. Raises Refused for one that cannot be compiled."""
    for rule in (game.start, game.apply, game.legal, game.outcome, game.encode):
        if isinstance(rule, Kernel):
            try:
                rule.compile()
            except CannotCompile as fault:
                raise Refused(str(fault)) from fault
