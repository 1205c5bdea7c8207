"""How az compiles: explicit signatures, a cache folder keyed by the sources, rules by pointer.

numba's own cache keeps running an old helper after that helper was edited (foundations: measured), and a kernel
cached without bounds checks is loaded unchecked. So the cache folder carries a hash of every source that a kernel can
reach and of the flags; game rules reach kernels as typed function pointers, never as globals.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core import config
from numba.experimental.function_type import _get_wrapper_address

JIT_OFF = bool(config.DISABLE_JIT)  # pyright: ignore[reportAttributeAccessIssue]


def _sources() -> list[Path]:
    here = Path(__file__).resolve().parent
    found = [path for path in sorted(here.rglob("*.py")) if b"engine.jit" in path.read_bytes() or path.stem == "jit"]
    for point in entry_points(group="az.games"):
        with suppress(ImportError, ValueError):  # a broken package is load_game's to report
            spec = find_spec(point.value.partition(":")[0])
            if spec and spec.origin:
                found.append(Path(spec.origin))
    return found


def _cache_dir() -> Path:
    digest = hashlib.sha256()
    for path in _sources():
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    flags = (numba.__version__, np.__version__, os.environ.get("NUMBA_BOUNDSCHECK"), os.environ.get("NUMBA_OPT"))
    digest.update(repr(flags).encode())
    base = os.environ.get("AZ_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "az" / "numba" / digest.hexdigest()[:20]


CACHE_DIR = _cache_dir()
CACHE_IS_COLD = not JIT_OFF and not CACHE_DIR.exists()
config.CACHE_DIR = str(CACHE_DIR)  # pyright: ignore[reportAttributeAccessIssue]


def kernel(signature: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile for one explicit signature: cached, the GIL released, no fastmath."""
    return numba.njit(signature, cache=True, nogil=True, error_model="numpy")


def helper(function: Callable[..., Any]) -> Any:
    """Compile a small function that kernels call; its types come from the caller."""
    return numba.njit(cache=True, nogil=True, error_model="numpy")(function)


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


class Rules:
    """Decorators for the rules of one game: `rules = Rules(np.int64)`, then `@rules.start`, `@rules.apply`, …"""

    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        kinds = RuleTypes(self.dtype)
        self.start = kernel(kinds.start)
        self.apply = kernel(kinds.apply)
        self.legal = kernel(kinds.legal)
        self.outcome = kernel(kinds.outcome)
        self.encode = kernel(kinds.encode)


class RulePointer(types.WrapperAddressProtocol):
    """A rule's address, looked up once: numba looks a dispatcher's up at every call (measured: 80 µs for four)."""

    def __init__(self, rule: Any) -> None:
        self._signature = rule.nopython_signatures[0]
        self._address = _get_wrapper_address(rule, self._signature)
        self._rule = rule  # keeps the code alive

    def __wrapper_address__(self) -> int:
        return self._address

    def signature(self) -> Any:
        return self._signature


def pointer(rule: Any) -> Any:
    """What kernels are handed for a rule."""
    return rule if JIT_OFF else RulePointer(rule)


class StateKernel:
    """A kernel that takes states: compiled (or loaded) once per state dtype, at the first `kernel_name[dtype]`."""

    def __init__(self, function: Callable[..., Any], signature: Callable[[RuleTypes], Any]) -> None:
        self.function = function
        self.signature = signature
        self.compiled: dict[np.dtype[Any], Any] = {}

    def __getitem__(self, dtype: np.dtype[Any]) -> Callable[..., Any]:
        if dtype not in self.compiled:
            self.compiled[dtype] = kernel(self.signature(RuleTypes(dtype)))(self.function)
        return self.compiled[dtype]


def state_kernel(signature: Callable[[RuleTypes], Any]) -> Callable[[Callable[..., Any]], StateKernel]:
    """`@state_kernel(lambda t: types.void(t.states, t.pointer("apply"), …))`"""
    return lambda function: StateKernel(function, signature)
