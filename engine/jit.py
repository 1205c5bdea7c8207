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
from numba.core import cgutils, config
from numba.experimental.function_type import _get_jit_address
from numba.extending import intrinsic
from numba.np.numpy_support import as_dtype

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


_njit: Any = numba.njit
# No reference counts: numba's are atomic, for every array that a helper is handed (perf: a fifth of self-play's time).
_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy", "_nrt": False}


def kernel(signature: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile for one explicit signature: cached, the GIL released, no fastmath, nothing allocated inside."""
    return _njit(signature, **_OPTIONS)


def helper(function: Callable[..., Any]) -> Any:
    """Compile a small function that kernels call; its types come from the caller."""
    return _njit(**_OPTIONS)(function)


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


def address(rule: Any) -> Any:
    """What the search's kernels are handed for a rule: its address, or the rule itself without the compiler.

    Four function objects as arguments took most of an empty call's 124 µs (measured), which is many simulations.
    """
    return rule if JIT_OFF else _get_jit_address(rule, rule.nopython_signatures[0])


def _rule_at(rule: str) -> Any:
    """`rule_at(address, state)` in a kernel: the rule that stands at this address, for states like this one."""
    if JIT_OFF:
        return lambda address, state: address  # noqa: ARG005

    def typed(_: Any, address: Any, state: Any) -> Any:
        kind = RuleTypes(as_dtype(state.dtype)).pointer(rule)

        def generate(context: Any, builder: Any, __: Any, arguments: Any) -> Any:
            found = cgutils.create_struct_proxy(kind)(context, builder)
            found.c_addr = found.py_addr = cgutils.get_null_value(cgutils.voidptr_t)
            found.jit_addr = builder.inttoptr(arguments[0], cgutils.voidptr_t)
            return found._getvalue()

        return kind(address, state), generate

    return intrinsic(typed)


apply_at, legal_at, outcome_at, encode_at = (_rule_at(rule) for rule in ("apply", "legal", "outcome", "encode"))


@helper
def copy_into(target, source):
    """target[:] = source, for rows of equal length; numba's own assignment wants to allocate."""
    for i in range(source.shape[0]):
        target[i] = source[i]


class LazyKernel:
    """A kernel that is compiled (or loaded) at its first call: a process pays for what it uses."""

    def __init__(self, function: Callable[..., Any], signature: Any) -> None:
        self.function, self.signature = function, signature
        self.compiled: Any = None

    def compile(self) -> Any:
        """The compiled kernel."""
        if self.compiled is None:
            self.compiled = kernel(self.signature)(self.function)
        return self.compiled

    def __call__(self, *arguments: Any) -> Any:
        return (self.compiled or self.compile())(*arguments)


def lazy_kernel(signature: Any) -> Callable[[Callable[..., Any]], LazyKernel]:
    """`@lazy_kernel(types.void(…))`: called from Python alone, never from another kernel."""
    return lambda function: LazyKernel(function, signature)


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
