"""`az play`: a game against the engine in the terminal, or through a pipe."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from contextlib import suppress
from difflib import get_close_matches
from io import TextIOWrapper
from typing import TYPE_CHECKING, TextIO

from rich.console import Console, ConsoleDimensions

from az.engine.errors import WrongRequest
from az.engine.game import Game, State
from az.engine.inference.evaluator import Evaluator
from az.engine.inference.model_resolver import LateEvaluator
from az.engine.players.opponent import whole_move, without_opinion
from az.engine.search.params import SearchParams
from az.engine.search.whole_moves import SearchStates, WholeResult, quiet, searcher, whole_results
from az.engine.selfplay.warmup import compile_search
from az.engine.terminal.commands import COMMANDS, find_command
from az.engine.terminal.files import Loaded, adopt, tell_loaded
from az.engine.terminal.replay import arrive, forward
from az.engine.terminal.session import Session, Thinker, printable

if TYPE_CHECKING:
    from az.engine.search.tree_search import TreeSearch


HEAD_START = 0.1  # seconds from the board to the first thing that happens behind it: the prompt needs some of them


class Engine:
    """The search behind the engine's moves and hints; nothing is compiled or loaded before `begin` or `prepare`."""

    def __init__(
        self, game: Game, evaluator: Evaluator, params: SearchParams, simulations: int | None, seconds: float | None
    ) -> None:
        if simulations is not None and simulations < 0:
            raise WrongRequest(f"the number of simulations is {simulations}; it must be 0 or more.")
        if seconds is not None and not 0 < seconds < float("inf"):
            raise WrongRequest(f"the thinking time is {seconds} seconds; it must be more than 0.")
        if seconds is not None and params.algorithm == "gumbel":
            raise WrongRequest("gumbel search needs its simulations in advance; give simulations in place of seconds.")
        self.game = game
        self.evaluator = evaluator
        self.name = f"the model {evaluator.name}"
        self.params = quiet(params, params.simulations if simulations is None else simulations)
        self.seconds = seconds
        budget = f"{seconds:g} seconds" if seconds is not None else f"{self.params.simulations:,} simulations"
        self.effort = f"thinks for {budget} a move"
        self.after_hops: SearchStates = searcher(game, evaluator, self.params)
        self.full_effort = self.effort
        self.level: int | None = None  # None: it plays as well as it can
        self.seed = 0  # of what a level draws
        self._asked = 0
        self._tree: TreeSearch | None = None
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()  # not a join: broken off by a signal it takes the thread for ended
        self._error: BaseException | None = None

    def begin(self) -> None:
        if self._tree is not None:
            return
        self._thread = threading.Timer(HEAD_START, self._get_ready)
        self._thread.daemon = True
        self._thread.start()

    @property
    def loading(self) -> bool:
        """Whether the background is still at it."""
        return self._thread is not None and not self._ready.is_set()

    def _get_ready(self) -> None:
        """In the background: whatever goes wrong is said where the engine is needed."""
        try:
            self._load()
        except BaseException as error:
            self._error = error
        finally:
            self._ready.set()

    def _load(self) -> None:
        if isinstance(self.evaluator, LateEvaluator):
            self.evaluator.load()  # first: what may be refused
        compile_search(self.game)
        self._prepared()

    def _prepared(self) -> TreeSearch:
        if self._tree is None:
            from az.engine.search.tree_search import TreeSearch

            self._tree = TreeSearch(self.game, self.evaluator, self.params)
        return self._tree

    def prepare(self) -> None:
        while self.loading:  # in pieces: Ctrl-C gets through on every system
            self._ready.wait(0.2)
        if self._error is not None:
            raise self._error
        if self._tree is None:
            self._load()

    def at_level(self, level: int | None, seed: int, /) -> None:
        """Play at a level from now on; None: at full strength. Advice stays as good as it can be."""
        from az.engine.players.levels import LEVELS, level_of

        if level is not None:
            level_of(level)
        self.level, self.seed = level, seed
        self.effort = self.full_effort if level is None else f"plays at level {level} of {len(LEVELS)}"

    def searcher(self) -> SearchStates:
        self.prepare()
        return self.after_hops

    def think(self, state: State) -> WholeResult:
        if self.level is None:
            return self.advise(state)
        from az.engine.players.levels import LevelPlayer

        self._asked += 1
        player = LevelPlayer(self.evaluator, self.level, self.params)
        hops = whole_move(player, state, self.seed, self._asked)
        return without_opinion(self.game, state, hops, player.params.simulations)

    def advise(self, state: State) -> WholeResult:
        tree = self._prepared()
        if self.seconds is None:
            result = tree.search(state, simulations=self.params.simulations)
        else:
            result = tree.search(state, seconds=self.seconds)
        return whole_results(self.game, [state], [result], self.after_hops)[0]


def new_console() -> Console:
    """A console without surprises; of a dumb terminal rich believes that it has 80 columns, which then break words."""
    console = Console(highlight=False, markup=False, emoji=False)
    if console.is_dumb_terminal:
        console.size = ConsoleDimensions(*shutil.get_terminal_size())
    return console


def converse(session: Session, loaded: Loaded | None = None) -> None:
    """Talk until the person leaves."""
    if loaded is not None:
        adopt(session, loaded.game, loaded.game.start_state(session.game))
    session.greet()
    if loaded is not None:
        tell_loaded(session, loaded.game, loaded.number, loaded.of)
        arrive(session)
    else:
        session.turn(show=True)
    if session.interactive:
        session.engine.begin()
    while not session.leaving:
        line = session.read().strip()
        if not line and session.future:
            forward(session, "")
            continue
        if not line:
            session.say("Type a move, or help.", "dim")
            continue
        obey(session, line)


def obey(session: Session, line: str) -> None:
    """One line of the person: a command or a move."""
    word, _, rest = line.partition(" ")
    is_move = not session.over and session.game.moves(session.state).get(line.lower()) is not None
    command = None if is_move else find_command(word)
    if command is not None:
        command.run(session, rest.strip())
    elif session.over:
        session.say(f"The game is over, so '{printable(line)}' cannot be played; type new, undo, save or quit.")
    else:
        human_move(session, line)


def human_move(session: Session, line: str) -> None:
    """Play the person's move, or say what is legal."""
    try:
        actions = session.game.parse_move(session.state, line)
    except WrongRequest as error:
        session.say(_help_out(line, str(error)), "yellow")
        return
    text = next((t for t, hops in session.game.moves(session.state).items() if hops == actions), line)
    session.push(text, actions)
    session.turn(show=True)


def _help_out(line: str, error: str) -> str:
    near = get_close_matches(line.lower(), COMMANDS, 1, 0.5)
    return error if not near or error.endswith("?") else f"{error} Did you mean {near[0]}?"


def play(
    game: Game,
    evaluator: Evaluator,
    params: SearchParams,
    *,
    simulations: int | None = None,
    seconds: float | None = None,
    human: int | None = 0,
    start: State | None = None,
    loaded: Loaded | None = None,
    stdin: TextIO | None = None,
    console: Console | None = None,
    engine: Thinker | None = None,
) -> int:
    """Play in the terminal until the person leaves; returns the exit status, 0.

    simulations, seconds: how long the engine thinks about each move; default: the parameters' simulations.
    human: the player whom the person plays, 0 (begins) or 1; None: both sides.
    start: another start position. loaded: a game to begin with, to step through or to play on from.
    stdin, console, engine: replaced by tests.
    """
    if human not in (None, 0, 1):
        raise WrongRequest(f"the person's side is {human}; it must be 0, 1 or nothing for both.")
    console = console or new_console()
    thinker = engine or Engine(game, evaluator, params, simulations, seconds)
    reader = stdin or sys.stdin
    if isinstance(reader, TextIOWrapper):
        reader.reconfigure(errors="replace")  # odd bytes are a mistyped move, not a crash
    session = Session(game, thinker, human, console, reader, start)
    try:
        converse(session, loaded)
        session.say("Goodbye.")
    except (EOFError, KeyboardInterrupt):
        with suppress(BrokenPipeError):
            console.print("\nGoodbye.")
    except BrokenPipeError:  # the reader of our output has gone; leave without a second error when Python flushes
        if console.file is sys.stdout:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
