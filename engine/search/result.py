"""What a search answers, for one root."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SearchResult:
    """All arrays run over the legal actions of the root, in the order of `actions`."""

    actions: NDArray[np.int64]  # [k] legal actions
    visits: NDArray[np.int64]  # [k]
    priors: NDArray[np.float32]  # [k] the network's probabilities over the legal actions, without noise
    values: NDArray[
        np.float32
    ]  # [k] mean value of each action, view of the root's player; the root's value if unvisited
    proven: NDArray[np.int8]  # [k] LOSS, DRAW, WIN in the view of the root's player, or UNKNOWN
    policy: NDArray[np.float64]  # [k] sums to 1: the search's answer (visit shares, or Gumbel's improved policy)
    value: float  # of the root, view of its player
    root_proven: int  # LOSS, DRAW, WIN or UNKNOWN
    simulations: int  # new walks that were made
    best: int  # the action to play: proven win first, never a proven loss when there is another, then by the search
    pv: tuple[int, ...]  # the line that the search expects, beginning with `best`
