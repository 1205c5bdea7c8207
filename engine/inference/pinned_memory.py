"""The CUDA side of evaluation: calls of one fixed size, from and into page-locked memory.

A kernel on CUDA is picked by the batch's size, and two kernels round differently: at one size a row's answer is always
the same. Memory that the driver has locked is copied by the device itself, beside whatever it computes.
"""

from __future__ import annotations

import ctypes
import weakref
from typing import Any

import numpy as np

from az.engine.game import Game
from az.engine.inference.evaluator import Float32

DEFAULT_BATCH = 1024
PORTABLE = 1  # cudaHostAllocPortable: locked for every context


class Staging:
    """Where one thread's positions wait for the device, and its answers come back."""

    def __init__(self, session: Any, game: Game, size: int, lock: bool) -> None:
        """session: onnxruntime's. lock: page-locked memory, where the CUDA runtime gives it."""
        self._held: list[ctypes.c_void_p] = []
        make = self._locked if lock else np.zeros
        self.planes: Float32 = make((size, *game.planes_shape), np.float32)
        self.logits: Float32 = make((size, game.num_actions), np.float32)
        self.values: Float32 = make((size,), np.float32)
        weakref.finalize(self, _free, self._held).atexit = False  # a thread may still write then
        self._session, self._binding = session, session.io_binding()
        self._binding.bind_input("planes", "cpu", 0, np.float32, self.planes.shape, self.planes.ctypes.data)
        for name, array in (("logits", self.logits), ("value", self.values)):
            self._binding.bind_output(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)

    def run(self, planes: Float32, logits: Float32, values: Float32) -> None:
        """planes [n, C, H, W] -> logits [n, A], values [n], in slices of one size; what stands behind the last row of
        a short one is of an earlier call, and moves no other row."""
        size = len(self.values)
        for first in range(0, len(planes), size):
            rows = slice(first, min(first + size, len(planes)))
            count = rows.stop - first
            self.planes[:count] = planes[rows]
            self._session.run_with_iobinding(self._binding)
            logits[rows], values[rows] = self.logits[:count], self.values[:count]

    def _locked(self, shape: tuple[int, ...], dtype: Any) -> Float32:
        runtime, at = cuda_runtime(), ctypes.c_void_p()
        size = int(np.prod(shape))
        if runtime is None:
            return np.zeros(shape, dtype)
        if runtime.cudaHostAlloc(ctypes.byref(at), ctypes.c_size_t(4 * size), PORTABLE) != 0:
            runtime.cudaGetLastError()  # forget it: the next kernel would be blamed
            return np.zeros(shape, dtype)
        self._held.append(at)
        assert at.value is not None
        array = np.ctypeslib.as_array((ctypes.c_float * size).from_address(at.value)).reshape(shape)
        array[:] = 0.0
        return array


def _free(held: list[ctypes.c_void_p]) -> None:
    for at in held:
        cuda_runtime().cudaFreeHost(at)


def cuda_runtime() -> Any:
    """The CUDA runtime library that the provider has loaded, or None."""
    from az.engine.inference.providers import library, runtime_name

    return library(runtime_name())
