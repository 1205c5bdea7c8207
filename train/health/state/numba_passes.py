"""The choice of numba for the passes over memory."""

from __future__ import annotations

import numpy as np

from . import jit


def use_numba() -> bool:
    """Copy and read the state by compiled passes from now on; whether that can be.

    Compiles now, which takes a few seconds; False, and nothing changes, where numba is missing or fails. Call it before
    the recorder is made. It saves time where the state is copied before every step (`interval=1`).
    """
    if jit.JIT_OFF:
        return False
    try:
        from .kernels import copy, look, same_words  # imports numba

        numbers, into, out = np.ones(4, np.float32), np.zeros(4, np.float32), np.zeros(3)
        at, sizes, to = (np.array([number], np.int64) for number in (numbers.ctypes.data, 4, into.ctypes.data))
        copy(at, sizes, to)
        look(at, sizes, np.zeros(1, np.bool_), to, out)
        well = same_words(numbers.view(np.uint64), into.view(np.uint64)) and not out.any()
    except Exception:  # numba has a dozen kinds, and bugs of its own
        return False
    jit.switch(well)
    return well
