"""The kernels are compiled once for a version of the sources; this does it at a moment of our choosing."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np

from az.engine.game import Game
from az.engine.jit import JIT_OFF, cache_dir, is_marked, mark
from az.engine.system.waiting import Waiting

FUNCTIONS = 80  # that numba compiles for self-play, about: counted for tic-tac-toe


def search_is_cold(game: Game) -> bool:
    """Whether the search must still be compiled for this game's state dtype: half a minute in place of a second."""
    return not JIT_OFF and not is_marked(f"search-{game.dtype}")


def compile_search(game: Game) -> None:
    """Compile (or load) what a first search runs.

    In this process alone: a second one for the walk, which takes longest, loads numba and compiles again what both
    need, and two threads of one core gained nothing from it (measured: 20 – 25 s in place of 14 – 17).
    """
    if JIT_OFF:
        return
    try:
        with compile_progress(_remember):
            _compile_search(game)
    finally:
        _remember("")
    mark(f"search-{game.dtype}")


def compiling() -> str:
    """What this process is compiling for the search at this moment, for people; may be asked in any thread."""
    return _told[-1]


_told = [""]


def _remember(text: str) -> None:
    _told[-1] = text


def _compile_search(game: Game) -> None:
    from az.engine.jit.pointers import address
    from az.engine.search.policy import best_index, root_policy
    from az.engine.search.simulate import expand, gather

    for rule in (game.start, game.apply, game.legal, game.outcome, game.encode):
        address(rule)
    for kernel in (expand, root_policy):
        kernel.compile()
    for states in (gather, best_index):
        states[game.dtype]


def warm_up(
    game: Game, say: Callable[[str], None] | None = None, progress: Callable[[str], None] | None = None
) -> None:
    """Run every kernel of search and self-play once for this game's state dtype: later processes load them.

    say: told once, when something must be compiled. progress: told several times a second what is being compiled,
    and "" at the end; without one, a line on stderr shows it where that is a terminal.
    """
    if JIT_OFF or is_marked(f"warm-{game.dtype}"):
        return
    if say is not None:
        where = cache_dir()
        kept = "kept nowhere: no folder can be written, set AZ_CACHE_DIR" if where is None else "once"
        say(f"compiling the search ({kept}, about half a minute) …")
    if progress is None and sys.stderr.isatty():
        with Waiting() as waiting, compile_progress(waiting.stage):
            _warm_up(game)
    else:
        with compile_progress(progress):
            _warm_up(game)
        if progress is not None:
            progress("")
    mark(f"warm-{game.dtype}")


def _warm_up(game: Game) -> None:
    compile_search(game)
    from az.engine.inference.evaluator import UniformEvaluator
    from az.engine.search.many import search_many
    from az.engine.search.params import SearchParams
    from az.engine.selfplay.batch import SelfplayBatch, SelfplayConfig  # records and the rest of self-play's kernels

    evaluator = UniformEvaluator(game)
    search_many(game, evaluator, np.stack([game.new_state()]), SearchParams(simulations=4), [0])
    config = replace(SelfplayConfig(), simulations=4, fast_simulations=2, reuse_tree=True)
    jobs = iter([(0, evaluator)])
    for _ in SelfplayBatch(game, config, 0, 1).play(lambda: next(jobs, None)):
        pass


@contextmanager
def compile_progress(tell: Callable[[str], None] | None) -> Generator[None]:
    """Tell what numba compiles inside this block and thread, on every pass of its compiler over a function.

    numba tells of all threads, and holds LLVM's lock while it does: what a listener raises keeps that lock for ever,
    and every other thread that compiles waits for it. So nothing is raised here, also where `tell` fails.
    """
    if tell is None:
        yield
        return
    from numba.core import event

    done, passes, names, own = 0, 0, ["…"], threading.get_ident()

    class Listener(event.Listener):
        def on_start(self, event: Any) -> None:
            if threading.get_ident() != own:
                return
            if event.kind == "numba:compile":
                names.append(event.data["dispatcher"].py_func.__name__)
            self.tell()

        def on_end(self, event: Any) -> None:
            nonlocal done, passes
            if threading.get_ident() != own:
                return
            if event.kind == "numba:compile":
                done += 1
                del names[max(1, len(names) - 1) :]  # the first stays: a block may begin inside of a function
            else:
                passes += 1
            self.tell()

        def tell(self) -> None:
            with suppress(Exception):
                tell(f"compiling function {done + 1} of about {max(FUNCTIONS, done + 1)}: {names[-1]}, pass {passes:,}")

    listener = Listener()
    kinds = ("numba:compile", "numba:run_pass", "numba:llvm_lock")
    for kind in kinds:
        event.register(kind, listener)
    try:
        yield
    finally:
        for kind in kinds:
            event.unregister(kind, listener)
