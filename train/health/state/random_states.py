"""torch's, numpy's and Python's own random states, as they are before a step.

numpy takes 80 µs for its state, so it is only asked where the memory of its generator, whose address it tells, is not
what it was when it was asked last.
"""

from __future__ import annotations

import ctypes
import random
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch

NUMPY_BYTES = 4 * 624 + 4  # of numpy's Mersenne twister: its words, and how far it has got


class _Last:
    """The state that was asked for last, and the memory of then."""

    def __init__(self) -> None:
        self._memory: Any = None
        self._state: Any = None

    def state(self, memory: Any, ask: Callable[[], Any]) -> Any:
        """What `ask` gives; not asked where the memory is the same and not None."""
        if memory is None or memory != self._memory:
            self._memory, self._state = memory, ask()
        return self._state


_of_numpy = _Last()


def _numpy_state() -> Any:
    """A second normal number may be kept for the next call, and taking it changes no memory: then it is asked. As long
    as there is none, none comes without a draw."""
    maker: Any = cast("Any", np.random).get_bit_generator()
    if type(maker) is not np.random.MT19937:
        return np.random.get_state(legacy=False)
    state = _of_numpy.state(ctypes.string_at(maker.ctypes.state_address, NUMPY_BYTES), np.random.get_state)
    return np.random.get_state() if state[3] else state


def generators() -> Callable[[], None]:
    """Puts torch's, numpy's and Python's own random states back to what they are now."""
    cpu, numbers, plain = torch.get_rng_state(), _numpy_state(), random.getstate()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None  # asking for one would take longer

    def back() -> None:
        torch.set_rng_state(cpu)
        np.random.set_state(numbers)
        random.setstate(plain)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)

    return back
