"""torch's, numpy's and Python's own random states, as they are before a step.

numpy takes 80 µs for its state and Python 15, so they are only asked where the memory of their generator is not what
it was when they were asked last. numpy tells its address; CPython has its numbers behind the object's head, which is
made sure of once.
"""

from __future__ import annotations

import ctypes
import random
import struct
import sys
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch

WORDS = 624  # of a Mersenne twister
NUMPY_BYTES = PYTHON_BYTES = 4 * WORDS + 4  # its words, and how far it has got


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


_of_numpy, _of_python = _Last(), _Last()


def _numpy_state() -> Any:
    """A second normal number may be kept for the next call, and taking it changes no memory: then it is asked. As long
    as there is none, none comes without a draw."""
    maker: Any = cast("Any", np.random).get_bit_generator()
    if type(maker) is not np.random.MT19937:
        return np.random.get_state(legacy=False)
    state = _of_numpy.state(ctypes.string_at(maker.ctypes.state_address, NUMPY_BYTES), np.random.get_state)
    return np.random.get_state() if state[3] else state


def _where_python_keeps_it(maker: random.Random) -> int:
    """The address of PYTHON_BYTES that are a generator's numbers; 0 where they do not lie where CPython has them."""
    at = id(maker) + object.__basicsize__
    if sys.implementation.name != "cpython" or maker.__sizeof__() < object.__basicsize__ + PYTHON_BYTES:
        return 0
    numbers = struct.unpack(f"{1 + WORDS}I", ctypes.string_at(at, PYTHON_BYTES))
    return at if maker.getstate()[1] == (*numbers[1:], numbers[0]) else 0


_maker: Any = cast("Any", random)._inst
_python_at = _where_python_keeps_it(_maker)


def _python_state() -> Any:
    """As for numpy: a second normal number may be kept."""
    if not _python_at or _maker.gauss_next is not None:
        return random.getstate()
    return _of_python.state(ctypes.string_at(_python_at, PYTHON_BYTES), random.getstate)


def generators() -> Callable[[], None]:
    """Puts torch's, numpy's and Python's own random states back to what they are now."""
    cpu, numbers, plain = torch.get_rng_state(), _numpy_state(), _python_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None  # asking for one would take longer

    def back() -> None:
        torch.set_rng_state(cpu)
        np.random.set_state(numbers)
        random.setstate(plain)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)

    return back
