"""The kernels are compiled once for a version of the sources; this does it at a moment of our choosing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from az.engine.game import Game
from az.engine.jit import JIT_OFF, is_marked, mark


def search_is_cold(game: Game) -> bool:
    """Whether the search must still be compiled for this game's state dtype: half a minute in place of a second."""
    return not JIT_OFF and not is_marked(f"search-{game.dtype}")


def compile_search(game: Game) -> None:
    """Compile (or load) what a first search runs.

    In this process alone: a second one for the walk, which takes longest, loads numba and compiles what both need once
    more, and two threads of one core gained nothing from it (measured: 20 – 25 s in place of 14 – 17).
    """
    if JIT_OFF:
        return
    from az.engine.pointers import address
    from az.engine.search.answer import best_index, root_policy
    from az.engine.search.walk import expand, gather

    for rule in (game.start, game.apply, game.legal, game.outcome, game.encode):
        address(rule)
    for kernel in (expand, root_policy):
        kernel.compile()
    for states in (gather, best_index):
        states[game.dtype]
    mark(f"search-{game.dtype}")


def warm_up(game: Game, say: Callable[[str], None] | None = None) -> None:
    """Run every kernel of search and self-play once for this game's state dtype: later processes load them."""
    if is_marked(f"warm-{game.dtype}"):
        return
    if say is not None:
        say("compiling the search (once, about half a minute) …")
    compile_search(game)
    from az.engine.evaluator import UniformEvaluator
    from az.engine.search.many import search_many
    from az.engine.search.params import SearchParams
    from az.engine.selfplay import SelfplayBatch, SelfplayConfig  # records and the rest of self-play's kernels

    evaluator = UniformEvaluator(game)
    search_many(game, evaluator, np.stack([game.new_state()]), SearchParams(simulations=4), [0])
    config = replace(SelfplayConfig(), simulations=4, fast_simulations=2, reuse_tree=True)
    jobs = iter([(0, evaluator)])
    for _ in SelfplayBatch(game, config, 0, 1).play(lambda: next(jobs, None)):
        pass
    mark(f"warm-{game.dtype}")
