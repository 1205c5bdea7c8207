"""float32 in the memory of a CPU, read by address in compiled passes: many small tensors cost no call each.

torch reads such a state at less than half of this speed (docs/log.md). Import it where it is needed: numba takes a
second and a half. Nothing here is used before `use_numba`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic
from numba.np import arrayobj
from numpy.typing import NDArray

from .jit import kernel

# (pointer, shape) → the memory there as an array
carray: Callable[[Any, tuple[Any, ...]], NDArray[Any]] = arrayobj.carray  # pyright: ignore[reportPrivateImportUsage]
INFINITE = 0x7F800000  # the bits of +inf; those of NaN are greater


def same_words(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal to the bit. a, b: contiguous uint64 arrays of one length."""
    return not _differs(_address(a), _address(b), len(a))


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def _pointer_to(kind: Any) -> Any:
    @intrinsic
    def at(_: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            return builder.inttoptr(given[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(address), generate

    return at


bits_at, floats_at, words_at = (_pointer_to(kind) for kind in (types.uint32, types.float32, types.uint64))


# Sums in any order, so that they are taken eight at a time (infinities and NaN stay what they are); carray needs _nrt.
OPTIONS = {"fastmath": {"reassoc"}, "_nrt": True}


@kernel(
    types.void(types.int64[::1], types.int64[::1], types.boolean[::1], types.int64[::1], types.float64[::1]),
    **OPTIONS,
)
def look(
    at: NDArray[np.int64],
    sizes: NDArray[np.int64],
    moved: NDArray[np.bool_],
    before: NDArray[np.int64],
    out: NDArray[np.float64],
) -> None:
    """One pass, with one call, over tensors and what some of them were before.

    at, sizes: [n] int64, addresses and how many float32 lie there; moved: [n] bool, which have earlier numbers;
    before: [n] int64, the addresses of those (others are not read).
    out: [3] float64, written: 0 where every number of those that did not move is one, or NaN; of those that did the sum
    of the squared differences and the sum of squares, finite where every number is one.
    """
    change, size, most = 0.0, 0.0, np.uint32(0)
    for i in range(len(at)):
        if moved[i]:
            now, then = carray(floats_at(at[i]), (sizes[i],)), carray(floats_at(before[i]), (sizes[i],))
            for j in range(sizes[i]):
                x = np.float64(now[j])
                d = x - np.float64(then[j])
                change += d * d
                size += x * x
        else:
            bits = carray(bits_at(at[i]), (sizes[i],))
            for j in range(sizes[i]):
                most = max(most, bits[j] & np.uint32(0x7FFFFFFF))
    out[0] = 0.0 if most < INFINITE else np.nan
    out[1], out[2] = change, size


@kernel(types.void(types.int64[::1], types.int64[::1], types.int64[::1]), **OPTIONS)
def copy(at: NDArray[np.int64], sizes: NDArray[np.int64], to: NDArray[np.int64]) -> None:
    """All numbers of these tensors into the memory at `to`. at, sizes, to: [n] int64, as above."""
    for i in range(len(at)):
        source, target = carray(bits_at(at[i]), (sizes[i],)), carray(bits_at(to[i]), (sizes[i],))
        for j in range(sizes[i]):
            target[j] = source[j]


@kernel(types.boolean(types.int64, types.int64, types.int64), **OPTIONS)
def _differs(one: int, two: int, count: int) -> bool:
    a, b = carray(words_at(one), (count,)), carray(words_at(two), (count,))
    found = np.uint64(0)
    for i in range(count):
        found |= a[i] ^ b[i]
    return found != 0
