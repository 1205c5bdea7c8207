"""numba's cache of compiled functions, in a folder that we choose, where a damaged file is as good as a missing one.

numba reads its files without a check: one that was cut off raises UnpicklingError at every start, and one with a wrong
bit in it runs. Here each file ends with the SHA-256 of its bytes. Imports numba; see az.engine.jit.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    IndexDataCacheFile,
    UserProvidedCacheLocator,
)

DIGEST = hashlib.sha256().digest_size


class KernelCache(FunctionCache):
    """The cache of one function. Nothing that goes wrong with a file is an error: the function is compiled again.

    folder: of all functions. forget: called when a file was damaged.
    """

    def __init__(self, function: Callable[..., Any], folder: Path, forget: Callable[[], None]) -> None:
        self._name, self._py_func, self._forget = repr(function), function, forget
        self._impl = _Impl(function, folder)
        self._cache_path = self._impl.locator.get_cache_path()
        self._cache_file = _Files(self._cache_path, self._impl.filename_base, self._impl.locator.get_source_stamp())
        self.enable()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        target_context.refresh()
        try:
            return self._load_overload(sig, target_context)
        except Exception:  # what a damaged file raises has no common class
            self._forget()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(Exception):  # a full disk, a folder that went away: what was compiled works without
            self._save_overload(sig, data)


class _Impl(CompileResultCacheImpl):
    """How a compiled function becomes bytes: numba's way. Its base would search for a folder by itself."""

    def __init__(self, function: Callable[..., Any], folder: Path) -> None:
        self._lineno = function.__code__.co_firstlineno
        self._locator = _Locator(function, folder)
        stem = Path(function.__code__.co_filename).stem
        self._filename_base = self.get_filename_base(f"{stem}.{function.__qualname__}", "")


class _Locator(UserProvidedCacheLocator):
    """Files of one function: numba's way, below a folder that is given and not taken from a global setting."""

    def __init__(self, function: Callable[..., Any], folder: Path) -> None:
        self._py_file = function.__code__.co_filename
        self._lineno = function.__code__.co_firstlineno
        self._cache_path = os.path.join(folder, self.get_suitable_cache_subpath(self._py_file))


class _Files(IndexDataCacheFile):
    """The index of a function's signatures, and a file for each. The checksum comes last: numba's reader stops
    before it."""

    def load(self, key: Any) -> Any:
        found = super().load(key)
        if found is None:
            return None
        # Two processes that save at once may give two signatures one file name: the file says whose it is.
        return found[1] if found[0] == key else None

    def save(self, key: Any, data: Any) -> None:
        super().save(key, (key, data))

    def _load_index(self) -> Any:
        if not os.path.exists(self._index_path):
            return {}
        try:
            _check(self._index_path)
            return super()._load_index()
        except Exception:  # as if it was not there: the next save writes a whole one
            return {}

    def _load_data(self, name: str) -> Any:
        _check(self._data_path(name))
        return super()._load_data(name)

    @contextmanager
    def _open_for_write(self, filepath: str) -> Generator[Any]:
        file = io.BytesIO()
        yield file
        data = file.getvalue()
        with super()._open_for_write(filepath) as place:  # beside its place, and renamed
            place.write(data + hashlib.sha256(data).digest())


def _check(path: str) -> None:
    """Raises ValueError for a file that does not end with the checksum of what comes before."""
    data = Path(path).read_bytes()
    if len(data) < DIGEST or hashlib.sha256(data[:-DIGEST]).digest() != data[-DIGEST:]:
        raise ValueError(f"{path} is damaged")
