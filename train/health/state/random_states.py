"""torch's, numpy's and Python's own random states, as they are before a step."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

WORDS = 4 * 624 + 4  # bytes of numpy's Mersenne twister: its key and how far it has got


class _NumpyState:
    """`np.random.get_state()`, which takes 80 µs; asked only where the generator's memory is not what it was."""

    def __init__(self) -> None:
        self._words, self._state = b"", None

    def read(self) -> Any:
        maker: Any = np.random.get_bit_generator()
        if type(maker) is not np.random.MT19937:
            return np.random.get_state()
        words = ctypes.string_at(maker.ctypes.state_address, WORDS)
        # A second normal number may be kept for the next call (`[3]`), which then takes it without any draw.
        if self._state is None or words != self._words or self._state[3]:
            self._state, self._words = np.random.get_state(), words
        return self._state


_numpy = _NumpyState()


def generators() -> Callable[[], None]:
    """Puts torch's, numpy's and Python's own random states back to what they are now."""
    cpu, numbers, plain = torch.get_rng_state(), _numpy.read(), random.getstate()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None  # asking for one would take longer

    def back() -> None:
        torch.set_rng_state(cpu)
        np.random.set_state(numbers)
        random.setstate(plain)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)

    return back
