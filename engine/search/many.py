"""Independent searches of many positions in one batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from az.engine.game import Game
from az.engine.inference.evaluator import Evaluator
from az.engine.rng import stream
from az.engine.search.batch import BatchSearch
from az.engine.search.params import SearchParams
from az.engine.search.result import SearchResult

TREES_AT_ONCE = 256  # bounds the memory; an answer does not depend on it


def search_many(
    game: Game, evaluator: Evaluator, states: NDArray[np.integer], params: SearchParams, keys: Sequence[int]
) -> list[SearchResult]:
    """Search each of [n, S] unfinished states; answer i is a pure function of (model, states[i], params, keys[i])."""
    results: list[SearchResult] = []
    if len(states) == 0:
        return results
    search = BatchSearch(game, params, min(len(states), TREES_AT_ONCE))
    for begin in range(0, len(states), TREES_AT_ONCE):
        chunk = states[begin : begin + TREES_AT_ONCE]
        for b, state in enumerate(chunk):
            search.place(b, state, stream(int(keys[begin + b])))
            search.begin_as_asked(b)
        active = np.arange(len(chunk), dtype=np.int64)
        search.run(evaluator, active)
        results.extend(search.result(b) for b in range(len(chunk)))
    return results
