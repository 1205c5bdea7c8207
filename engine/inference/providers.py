"""Where onnxruntime computes: CUDA when it can load, otherwise the CPU; and one line that says which and why.

Asking onnxruntime for CUDA on a machine that cannot load it prints a red error and falls back; so we look first.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import sys
from functools import cache
from typing import Any

import onnxruntime

from az.engine.errors import Refused, WrongRequest

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
ASKED = "asked for"
# TF32 would round the inputs of every product to 10 bits; a fixed choice of convolution keeps answers repeatable.
_CUDA_OPTIONS = {"use_tf32": "0", "cudnn_conv_algo_search": "DEFAULT"}


def choose(provider: str) -> tuple[list[Any], str]:
    """(providers for the session, why) for provider 'auto', 'cpu' or 'cuda'.

    Raises Refused when CUDA is demanded and cannot load.
    """
    if provider not in ("auto", "cpu", "cuda"):
        raise WrongRequest(f"there is no provider '{provider}': the providers are auto, cpu, cuda.")
    if provider == "cpu":
        return [CPU], ASKED
    obstacle = cuda_obstacle()
    if obstacle is None:
        return [(CUDA, _CUDA_OPTIONS), CPU], "the CUDA libraries load"
    if provider == "cuda":
        raise Refused(f"CUDA cannot be used: {obstacle}; ask for the provider cpu or auto.")
    return [CPU], f"no CUDA: {obstacle}"


def on_gpu(provider: str = "auto") -> bool:
    """Whether a session of this provider runs on a GPU."""
    return provider != "cpu" and cuda_obstacle() is None


@cache
def cuda_obstacle() -> str | None:
    """Why the CUDA provider cannot load here, or None when all that it needs is there."""
    if CUDA not in onnxruntime.get_available_providers():
        return "this onnxruntime is built without it"
    windows = sys.platform == "win32"
    driver = library("nvcuda.dll" if windows else "libcuda.so.1")
    if driver is None:
        return "no NVIDIA driver"
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        return "the NVIDIA driver finds no GPU"
    if hasattr(onnxruntime, "preload_dlls"):  # finds what pip installed (nvidia-*); it prints what it does not find
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
            onnxruntime.preload_dlls()
    missing = [name for name in _needed(windows) if library(name) is None]
    return f"cannot load {', '.join(missing)}" if missing else None


def _needed(windows: bool) -> list[str]:
    """Libraries that the CUDA provider links or opens itself, for the CUDA version that it was built with."""
    major = str(getattr(onnxruntime, "cuda_version", "") or "12").split(".")[0]
    if windows:
        return [f"cublasLt64_{major}.dll", f"cublas64_{major}.dll", f"cudart64_{major}.dll", "cudnn64_9.dll"]
    numbered = [f"lib{name}.so.{major}" for name in ("cublasLt", "cublas", "cudart")]
    return [*numbered, "libcurand.so.10", "libcudnn.so.9"]


def runtime_name() -> str:
    """The file name of the CUDA runtime that this onnxruntime was built with."""
    return next(name for name in _needed(sys.platform == "win32") if "cudart" in name)


def library(name: str) -> Any:
    """A shared library, or None where it cannot be loaded."""
    try:
        return ctypes.CDLL(name, mode=os.RTLD_LAZY if hasattr(os, "RTLD_LAZY") else ctypes.DEFAULT_MODE)
    except OSError:
        return None
