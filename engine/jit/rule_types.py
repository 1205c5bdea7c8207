"""The numba types of a game's rules, as signatures and as function pointers. Imports numba; see az.engine.jit."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import types


class RuleTypes:
    """The numba types of the five rules for one state dtype."""

    def __init__(self, dtype: Any) -> None:
        state = types.Array(numba.from_dtype(np.dtype(dtype)), 1, "C")
        self.state = state
        self.states = types.Array(state.dtype, 2, "C")
        self.start = types.void(state)
        self.apply = types.void(state, types.int64)
        self.legal = types.void(state, types.boolean[::1])
        self.outcome = types.int64(state)
        self.encode = types.void(state, types.float32[:, :, ::1])

    def pointer(self, rule: str) -> Any:
        """The function-pointer type of a rule, for kernel signatures."""
        return types.FunctionType(getattr(self, rule))
