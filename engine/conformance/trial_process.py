"""The process in which a game is tried (`game_trial.py`): lines of JSON say how far it is and what it found."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from az.engine.conformance.laws import RULE_LAWS, Report, examine, playthrough
from az.engine.errors import AzError, Refused
from az.engine.game import Game, compile_rules, import_game
from az.engine.jit import python_first

CALL_SECONDS = 3.0  # of the CPU for one call of a rule or a text
LOAD_SECONDS = 30.0  # of the CPU for importing its file, which may bring a large package
SLEEP_SECONDS = 60.0  # for a call that waits for something
SEARCH_SECONDS = 600.0  # of the CPU for all searches
PYTHON_SECONDS = 10.0  # of the CPU for the rules as Python, where the check is whole; a compiled rule is much faster
TRIAL_SECONDS = 2.0  # the same before the first use
GAME_SECONDS = 120.0  # of the CPU for the first game with compiled rules


class Watch:
    """Ends the process, with a sentence, when one call does not come back."""

    def __init__(self, name: str, out: TextIO) -> None:
        self.name, self.out = name, out
        self.limit = CALL_SECONDS
        self._call: tuple[str] | None = None  # a new object for each call
        self._main = threading.main_thread().ident
        threading.Thread(target=self._watch, daemon=True).start()

    def call(self, name: str | None) -> None:
        """A rule or a text is called (None: it has come back)."""
        self._call = None if name is None else (name,)

    def say(self, **told: Any) -> None:
        """One line for the parent."""
        self.out.write(json.dumps(told) + "\n")
        self.out.flush()

    def _watch(self) -> None:
        seen, cpu, wall = None, 0.0, 0.0
        while True:
            time.sleep(0.1)
            call = self._call
            if call is not seen or call is None:
                seen, cpu, wall = call, time.process_time(), time.monotonic()
            elif time.process_time() - cpu > self.limit or time.monotonic() - wall > SLEEP_SECONDS + 10 * self.limit:
                self._stop(call[0])

    def _stop(self, name: str) -> None:
        text = f"{name} does not come back{self._line()}"
        if name == "load":
            self.say(refused=f"the game '{self.name}' cannot be loaded: its file {text.removeprefix('load ')}.")
        else:
            law = f"every rule and every text answers within {CALL_SECONDS:g} seconds"
            self.say(broken=[f"{self.name} breaks 'returns': {law} ({text})."], laws=["returns"])
        self.say(finished=True)
        os._exit(0)

    def _line(self) -> str:
        """Where the main thread is: the innermost line that is not of Python's or az's own."""
        frame = sys._current_frames().get(self._main or 0)
        own = Path(__file__).resolve().parent.parent
        while frame is not None:
            path = Path(frame.f_code.co_filename)
            outside = path.is_file() and (own not in path.resolve().parents or path.resolve().parent.name == "games")
            if outside and path.stem not in ("threading", "random", "contextlib"):
                return f", {path.name} line {frame.f_lineno}"
            frame = frame.f_back
        return ""


class _Budget:
    """So many seconds of the CPU."""

    def __init__(self, seconds: float) -> None:
        self.end = time.process_time() + seconds

    def more(self, _: Report) -> bool:
        """Whether some are left."""
        return time.process_time() < self.end


def main() -> None:
    """`python -c … PATHS JOB`; stdout is the parent's pipe, which the game's own printing must not reach."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    job = json.loads(sys.argv[2])
    watch = Watch(job["game"], out)
    try:
        _try(watch, **{key: job[key] for key in ("games", "seed", "whole")})
    except Refused as refusal:
        watch.say(refused=str(refusal))
    except AzError as error:
        watch.say(wrong=str(error))
    watch.say(finished=True)
    os._exit(0)  # whatever the game has started ends with this process


def _try(watch: Watch, games: int, seed: int, whole: bool) -> None:
    watch.say(stage="load")
    watch.limit = LOAD_SECONDS
    watch.call("load")
    game = import_game(watch.name)
    watch.call(None)
    watch.limit = CALL_SECONDS
    python_first()
    watch.say(stage="python")
    # Unsigned numbers wrap alike in Python and compiled, and bitboards mean them to.
    over = "ignore" if game.dtype.kind == "u" else "raise"
    with np.errstate(over=over, divide="raise", invalid="raise"):
        budget = _Budget(PYTHON_SECONDS if whole else TRIAL_SECONDS)
        first = examine(game, games, seed, budget.more, watch.call)
        if first.broken and not first.broken.keys() & set(RULE_LAWS):  # what breaks a text may hide what breaks a rule
            budget = _Budget(TRIAL_SECONDS)
            first.broken |= examine(game, games, seed, budget.more, watch.call, texts=False).broken
    if _told(watch, first, whole) or not whole:
        return
    python_first(False)
    watch.say(stage="compile")
    try:
        compile_rules(game)
    except Refused as refusal:
        watch.say(broken=[str(refusal)], laws=["compiled"])
        return
    watch.say(stage="compiled")
    budget = _Budget(GAME_SECONDS)
    second = examine(game, games, seed, lambda report: bool(report.games) or budget.more(report), watch.call)
    if not second.games and not second.broken:
        second.demand("length", False, f"seed {seed}: game 0 goes on after {second.plies} plies and {GAME_SECONDS:g} s")
    differing = [k for k, (one, two) in enumerate(zip(first.games, second.games, strict=False)) if one != two]
    if _told(watch, second, whole):
        return
    if differing:
        law = "the compiled rules answer as the same rules in Python"
        sentence = f"{game.name} breaks 'compiled': {law} (seed {seed}, game {differing[0]})."
        watch.say(broken=[sentence], laws=["compiled"])
        return
    _search(watch, game, games, seed)


def _told(watch: Watch, report: Report, whole: bool) -> bool:
    """Say what is broken; before the first use only what search and training cannot do without."""
    laws = [law for law in report.broken if whole or law in RULE_LAWS]
    if laws:
        watch.say(broken=[report.broken[law] for law in laws], laws=laws)
    return bool(laws)


def _search(watch: Watch, game: Game, games: int, seed: int) -> None:
    from az.engine.search.invariants import check_search
    from az.engine.selfplay.warmup import compile_search

    watch.say(stage="search")
    compile_search(game)
    watch.limit = SEARCH_SECONDS
    watch.call("the search")
    try:
        broken = check_search(game, min(games, 20), seed)
    except Exception as error:
        broken = [f"{game.name} cannot be searched: {type(error).__name__}: {error}."]
    watch.call(None)
    if broken:
        watch.say(broken=broken, laws=["search"])
        return
    watch.say(playthrough=playthrough(game, seed))


if __name__ == "__main__":
    main()
