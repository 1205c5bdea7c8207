"""How az compiles: explicit signatures, a cache folder keyed by the sources, everything at the first need.

numba's own cache keeps running an old helper after that helper was edited (foundations: measured), and a kernel
cached without bounds checks is loaded unchecked. So the cache folder carries a hash of every source that a kernel can
reach and of the flags; game rules reach kernels as function pointers (`pointers.py`), never as globals. Where that
folder is, `cache_folder.py` decides; `kernel_cache.py` reads and writes its files.

Nothing here imports numba before something is compiled or loaded: that takes a second and a half, and who asks for the
start position or makes a mistake in a name should not wait for it.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial, update_wrapper
from importlib.metadata import entry_points, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from az.engine.jit.cache_folder import cache_folder

if TYPE_CHECKING:
    from az.engine.jit.rule_types import RuleTypes

JIT_OFF = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")


def _sources() -> list[Path]:
    engine = Path(__file__).resolve().parent.parent
    found = [path for path in sorted(engine.rglob("*.py")) if b"engine.jit" in path.read_bytes()]
    for point in entry_points(group="az.games"):
        with suppress(Exception):  # a broken package is load_game's to report
            # Of the outermost package: to find a module within one, Python runs the package, which is not tried yet.
            spec = find_spec(point.module.partition(".")[0])
            for folder in (spec.submodule_search_locations or ()) if spec else ():
                found += sorted(Path(folder).rglob("*.py"))
            if spec and not spec.submodule_search_locations and spec.origin:
                found.append(Path(spec.origin))
    return found


@cache
def cache_dir() -> Path | None:
    """Where compiled code is kept (made at the first question), or None where no folder can be written."""
    digest = hashlib.sha256(
        str(Path(__file__).resolve().parent.parent).encode()
    )  # numba's own files are kept by path too
    for path in _sources():
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    flags = (version("numba"), np.__version__, os.environ.get("NUMBA_BOUNDSCHECK"), os.environ.get("NUMBA_OPT"))
    digest.update(repr(flags).encode())
    return cache_folder(digest.hexdigest()[:20])


def is_marked(name: str) -> bool:
    """Whether an earlier process has said that this part is compiled and kept."""
    folder = cache_dir()
    return folder is not None and (folder / name).exists()


def mark(name: str) -> None:
    """Say so, for later processes."""
    if (folder := cache_dir()) is not None:
        with suppress(OSError):
            (folder / name).touch()


def _forget_marks() -> None:
    """A file of the cache was damaged: the next process asks for everything again, before the work begins."""
    if (folder := cache_dir()) is not None:
        for pattern in ("warm-*", "search-*"):
            for path in folder.glob(pattern):
                with suppress(OSError):
                    path.unlink()


# No reference counts: numba's are atomic, for every array that a helper is handed (perf: a fifth of self-play's time).
# No wrapper for C, which is compiled and optimized like the rest: only rules handed over as function objects need it.
_OPTIONS = {"nogil": True, "error_model": "numpy", "_nrt": False, "no_cfunc_wrapper": True}

_python_first = False


def python_first(on: bool = True) -> None:
    """From now on a rule runs as plain Python until a kernel needs it compiled: for a process that must answer at once.

    The answers are the same: the suite runs without the compiler too. `on=False`: compiled from now on.
    """
    global _python_first
    _python_first = on


@cache
def _name_apart() -> None:
    """Give each function that numba compiles from now on a number of its own among all processes.

    numba counts from 1 in each process, and the number is all that tells apart what two calls of one function made
    (the rules of two sizes of a board, say). Two processes gave it twice, and one that loaded both from the cache ran
    the first game's rule for the second: numba issue 10486. Random, so that a forked process does not go on with its
    parent's numbers.
    """
    from numba.core.bytecode import FunctionIdentity

    numbered: Any = FunctionIdentity
    numbered._unique_ids = iter(partial(secrets.randbits, 63), None)


class CannotCompile(Exception):
    """A rule of a game that numba cannot compile; the message is a sentence that names it."""


class Kernel:
    """A function that is compiled, or loaded from the cache, at its first call: a process pays for what it uses."""

    kept = True  # in the cache folder

    def __init__(self, function: Callable[..., Any], signature: Callable[[], Any], **options: Any) -> None:
        self.function, self.signature, self.options = function, signature, options
        self.compiled: Any = function if JIT_OFF else None
        update_wrapper(self, function)

    def compile(self) -> Any:
        """What numba makes of it."""
        if self.compiled is None:
            import numba
            from numba.core.compiler_lock import global_compiler_lock

            with global_compiler_lock:  # a lock of our own and numba's could wait for one another
                if self.compiled is None:
                    _name_apart()
                    made: Any = numba.njit(**{**_OPTIONS, **self.options})(self.function)
                    self._compile_now(made)
                    self.compiled = made
        return self.compiled

    def _compile_now(self, made: Any) -> None:
        """Give numba's function its cache and, if this one has a signature, compile it for that."""
        if self.kept and (folder := cache_dir()) is not None:
            from az.engine.jit.kernel_cache import KernelCache

            with suppress(OSError):  # the folder went away: compiled, and not kept
                made._cache = KernelCache(self.function, folder, _forget_marks)  # what njit(cache=True) sets
        signature = self.signature()
        if signature is not None:
            made.compile(signature)
            made.disable_compile()

    @property
    def _numba_type_(self) -> Any:
        """Where numba looks when another kernel's source names this function."""
        return self.compile()._numba_type_

    def __call__(self, *arguments: Any) -> Any:
        return (self.compiled or self.compile())(*arguments)


class _Rule(Kernel):
    """A kernel that Python may run as it stands: see `python_first`."""

    rule: str | None = None  # its name, of the five
    dtype: np.dtype[Any] | None = None  # of the states

    def compile(self) -> Any:
        """What numba makes of it. Raises CannotCompile, in one sentence, for what numba cannot compile."""
        try:
            return super().compile()
        except (CannotCompile, MemoryError, OSError):
            raise
        except Exception as error:  # numba has a dozen kinds, and bugs of its own
            from az.engine.jit.compile_fault import compile_fault

            why = compile_fault(self.function, error)
            where = f"{self.rule or self.function.__name__} of {self.function.__module__}"
            raise CannotCompile(f"the rule {where} cannot be compiled: {why}.") from error

    def __call__(self, *arguments: Any) -> Any:
        if self.compiled is None and _python_first:
            return self.function(*arguments)
        return (self.compiled or self.compile())(*arguments)


class _Helper(Kernel):
    """Only kernels call it compiled: ways into helpers from Python and C were a fifth of all compiling (measured)."""

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)


def kernel(signature: Any, **options: Any) -> Callable[[Callable[..., Any]], Kernel]:
    """`@kernel(types.void(…))`: one explicit signature, cached, the GIL released, nothing allocated; no fastmath
    unless options, which are numba's, ask for it."""
    return partial(Kernel, signature=lambda: signature, **options)


def helper(function: Callable[..., Any]) -> Any:
    """A small function that kernels call; its types come from the caller. Called from Python it runs as Python."""
    return function if JIT_OFF else _Helper(function, lambda: None, no_cpython_wrapper=True)


def open_helper(function: Callable[..., Any]) -> Any:
    """A helper that Python calls too, compiled."""
    return function if JIT_OFF else _Rule(function, lambda: None)


class Rules:
    """Decorators for the rules of one game: `rules = Rules(np.int64)`, then `@rules.start`, `@rules.apply`, …

    in_python: the rules call Python's objects (`with numba.objmode()`): they hold the GIL and are not kept, since numba
    cannot.
    """

    def __init__(self, dtype: Any, in_python: bool = False) -> None:
        self.dtype, self.in_python = np.dtype(dtype), in_python
        self.start, self.apply, self.legal, self.outcome, self.encode = (
            partial(self._rule, rule) for rule in ("start", "apply", "legal", "outcome", "encode")
        )

    def _rule(self, rule: str, function: Callable[..., Any]) -> _Rule:
        options = {"_nrt": True, "nogil": False} if self.in_python else {}
        made = _Rule(function, partial(self._signature, rule), no_cfunc_wrapper=False, **options)
        made.rule, made.dtype, made.kept = rule, self.dtype, not self.in_python
        return made

    def _signature(self, rule: str) -> Any:
        return getattr(_types_of(self.dtype), rule)


@helper
def copy_into(target, source):
    """target[:] = source, for rows of equal length; numba's own assignment wants to allocate."""
    for i in range(source.shape[0]):
        target[i] = source[i]


class StateKernel:
    """A kernel that takes states: one for each state dtype, `kernel_name[dtype]`."""

    def __init__(self, function: Callable[..., Any], signature: Callable[[RuleTypes], Any]) -> None:
        self.function = function
        self.signature = signature
        self.compiled: dict[np.dtype[Any], Any] = {}

    def __getitem__(self, dtype: np.dtype[Any]) -> Callable[..., Any]:
        """Compiled (or loaded) at the first question."""
        if dtype not in self.compiled:
            made = Kernel(self.function, lambda: self.signature(_types_of(dtype))).compile()
            self.compiled[dtype] = made if JIT_OFF else _handing_over_rules(made)
        return self.compiled[dtype]


def state_kernel(signature: Callable[[RuleTypes], Any]) -> Callable[[Callable[..., Any]], StateKernel]:
    """`@state_kernel(lambda t: types.void(t.states, t.pointer("apply"), …))`"""
    return lambda function: StateKernel(function, signature)


def _handing_over_rules(compiled: Any) -> Callable[..., Any]:
    """A kernel whose arguments are rules takes what numba made of them."""
    from numba import types

    if not any(isinstance(kind, types.FunctionType) for kind in compiled.nopython_signatures[0].args):
        return compiled
    return lambda *given: compiled(*(each.compile() if isinstance(each, Kernel) else each for each in given))


def _types_of(dtype: np.dtype[Any]) -> RuleTypes:
    from az.engine.jit.rule_types import RuleTypes  # imports numba

    return RuleTypes(dtype)
