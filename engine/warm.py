"""The kernels are compiled once for a version of the sources; this does it at a moment of our choosing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from az.engine.evaluator import UniformEvaluator
from az.engine.game import Game
from az.engine.jit import CACHE_DIR, CACHE_IS_COLD, JIT_OFF
from az.engine.search.answer import best_index, root_policy
from az.engine.search.many import search_many
from az.engine.search.params import SearchParams
from az.engine.search.reuse import reroot
from az.engine.search.walk import expand


def warm_up(game: Game, say: Callable[[str], None] | None = None) -> None:
    """Run every search kernel once for this game's state dtype, so that later processes load them from the cache."""
    marker = CACHE_DIR / f"warm-{game.dtype}"
    if marker.exists():
        return
    if say is not None:
        say(f"compiling the search (once, about half a minute{'' if CACHE_IS_COLD else '; partly done'}) …")
    _compile_side_by_side(game)
    from az.engine.selfplay import SelfplayBatch, SelfplayConfig  # records and the rest of self-play's kernels

    evaluator = UniformEvaluator(game)
    search_many(game, evaluator, np.stack([game.new_state()]), SearchParams(simulations=4), [0])
    config = replace(SelfplayConfig(), simulations=4, fast_simulations=2, reuse_tree=True)
    jobs = iter([(0, evaluator)])
    for _ in SelfplayBatch(game, config, 0, 1).play(lambda: next(jobs, None)):
        pass
    CACHE_DIR.mkdir(parents=True, exist_ok=True)
    marker.touch()


def _compile_side_by_side(game: Game) -> None:
    """The walk takes as long as all other kernels together: another process compiles it into the shared cache."""
    if JIT_OFF or (os.cpu_count() or 1) < 2:
        return
    code = f"import numpy; from az.engine.search.walk import gather; gather[numpy.dtype('{game.dtype}')]"
    helper = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for kernel in (expand, root_policy, reroot):
            kernel.compile()
        best_index[game.dtype]
    finally:
        helper.wait()  # should it fail, this process compiles the walk itself
