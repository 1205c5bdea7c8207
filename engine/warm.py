"""The kernels are compiled once for a version of the sources; this does it at a moment of our choosing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from az.engine.evaluator import UniformEvaluator
from az.engine.game import Game
from az.engine.jit import CACHE_DIR, CACHE_IS_COLD
from az.engine.search.many import search_many
from az.engine.search.params import SearchParams


def warm_up(game: Game, say: Callable[[str], None] | None = None) -> None:
    """Run every search kernel once for this game's state dtype, so that later processes load them from the cache."""
    marker = CACHE_DIR / f"warm-{game.dtype}"
    if marker.exists():
        return
    if say is not None:
        say(f"compiling the search (once, about half a minute{'' if CACHE_IS_COLD else '; partly done'}) …")
    from az.engine.selfplay import SelfplayBatch, SelfplayConfig  # records and the rest of self-play's kernels

    evaluator = UniformEvaluator(game)
    search_many(game, evaluator, np.stack([game.new_state()]), SearchParams(simulations=4), [0])
    config = replace(SelfplayConfig(), simulations=4, fast_simulations=2, reuse_tree=True)
    jobs = iter([(0, evaluator)])
    for _ in SelfplayBatch(game, config, 0, 1).play(lambda: next(jobs, None)):
        pass
    CACHE_DIR.mkdir(parents=True, exist_ok=True)
    marker.touch()
