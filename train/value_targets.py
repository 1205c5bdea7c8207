"""What the value learns: the game's result, or the search's later opinions of the same game."""

from __future__ import annotations

import numpy as np
from numba import types
from numpy.typing import NDArray

from az.engine.jit import kernel
from az.engine.records.format import FinishedGame, Records


def value_targets(records: Records, td_lambda: float) -> NDArray[np.float32]:
    """float32 [R], in [-1, 1], view of each row's player: the lambda-return of the rows that follow in its game.

    G(t) = (1 - lambda) v(t + 1) + lambda G(t + 1), with v the value of the search's root and the sign changed where
    the player changes; the game's result after its last row (Sutton & Barto 2018, section 12.1). 1 is the result alone.
    Below 1, a root value of exactly 1 or -1 is a proof and the return begins again from it: a mistake later in the
    game says nothing about a position that was won.
    """
    if td_lambda >= 1.0:
        return records.outcomes
    targets = np.empty(len(records), np.float32)
    movers = np.ascontiguousarray(records.states[:, 0], np.int64)
    lambda_returns(
        records.outcomes, records.root_values, movers, records.games, records.plies, float(td_lambda), targets
    )
    return targets


def game_targets(game: FinishedGame, td_lambda: float) -> NDArray[np.float32]:
    """`value_targets` of one game that is not in a file: float32 [rows]."""
    outcomes, rows = np.array(game.outcomes, np.float32), game.rows
    if td_lambda >= 1.0:
        return outcomes
    targets = np.empty_like(outcomes)
    lambda_returns(
        outcomes,
        np.array([row.root_value for row in rows], np.float32),
        np.array([row.state[0] for row in rows], np.int64),
        np.zeros(len(rows), np.int64),
        np.array([row.ply for row in rows], np.int32),
        float(td_lambda),
        targets,
    )
    return targets


@kernel(
    types.void(
        types.float32[::1],
        types.float32[::1],
        types.int64[::1],
        types.int64[::1],
        types.int32[::1],
        types.float64,
        types.float32[::1],
    )
)
def lambda_returns(
    outcomes: NDArray[np.float32],
    root_values: NDArray[np.float32],
    movers: NDArray[np.int64],
    games: NDArray[np.int64],
    plies: NDArray[np.int32],
    td_lambda: float,
    targets: NDArray[np.float32],
) -> None:
    """Write the lambda-return of every row [R] into targets [R]."""
    for row in range(len(targets) - 1, -1, -1):
        after = row + 1
        if abs(root_values[row]) == 1.0:
            targets[row] = root_values[row]
        elif after < len(targets) and games[after] == games[row] and plies[after] > plies[row]:
            sign = 1.0 if movers[after] == movers[row] else -1.0
            targets[row] = sign * ((1.0 - td_lambda) * root_values[after] + td_lambda * targets[after])
        else:
            targets[row] = outcomes[row]
