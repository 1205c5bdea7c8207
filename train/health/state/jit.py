"""Whether the passes of `kernels` are compiled by numba. They are where it was asked for (`use_numba`), else never.

Importing and compiling take seconds, a fault of the compiler would end a healthy loop, and torch alone is as fast where
steps are made again (docs/decisions.md). The recorder needs torch and numpy only; under the name az.train.health it
compiles as az does, with az's cache.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

JIT_OFF = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")
_is_on = False


def compiled() -> bool:
    """Whether there are compiled passes."""
    return _is_on


def switch(on: bool) -> None:
    """Use compiled passes from now on, or no more. What was laid out before stays as it is."""
    global _is_on
    _is_on = on and not JIT_OFF


def kernel(signature: Any, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator: compiled for this signature, without Python's lock. Raises ImportError without numba."""
    if __name__.startswith("az."):
        from az.engine.jit import kernel as az_kernel

        return az_kernel(signature, **options)
    import numba

    njit: Any = numba.njit
    return njit(signature, **{"nogil": True, "error_model": "numpy", **options})
