"""Which lines are the user's own: not torch's, not the recorder's, not those of an installed library."""

from __future__ import annotations

import os
import sys
import sysconfig
from functools import cache

import torch

_TORCH = os.path.dirname(torch.__file__) + os.sep
_HERE = os.path.dirname(os.path.dirname(__file__)) + os.sep
_OWN = (
    os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(__file__)))) + os.sep
)  # a run of az: its learner is the loop
_LIBRARIES = tuple(
    os.path.realpath(sysconfig.get_path(name)) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


@cache
def is_library(file: str) -> bool:
    """Whether a source file belongs to Python or to an installed package; az's own files do not."""
    if file.startswith(_OWN) and f"{os.sep}site-packages{os.sep}" not in file.removeprefix(_OWN):
        return False
    parts = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
    return file.startswith("<") or os.path.realpath(file).startswith(_LIBRARIES) or any(part in file for part in parts)


def user_line(skip: int = 1) -> tuple[str, bool]:
    """(file:line of the innermost frame of the user's own code, whether backward() lies above it).

    Where all frames are of libraries, the innermost that is neither torch's nor ours.
    """
    frame = sys._getframe(skip)  # pyright: ignore[reportPrivateUsage]
    below_backward, library = False, None
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_TORCH):
            below_backward |= frame.f_code.co_name in ("backward", "_engine_run_backward", "grad")
        elif not file.startswith(_HERE) and not file.startswith("<"):
            if not is_library(file):
                return f"{file}:{frame.f_lineno}", below_backward
            library = library or (f"{file}:{frame.f_lineno}", below_backward)
        frame = frame.f_back
    return library or ("", below_backward)
