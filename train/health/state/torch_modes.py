"""What torch keeps for a whole thread or process, and a signal may leave changed: a `with` statement whose end it
strikes does not put back what it changed."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import _get_current_function_mode as _function_mode  # pyright: ignore[reportPrivateUsage]
from torch.overrides import _pop_mode as _pop_function_mode  # pyright: ignore[reportPrivateUsage]
from torch.utils._python_dispatch import _get_current_dispatch_mode as _dispatch_mode  # pyright: ignore
from torch.utils._python_dispatch import _pop_mode as _pop_dispatch_mode  # pyright: ignore[reportPrivateUsage]

_c: Any = torch._C  # pyright: ignore[reportPrivateUsage]
OWN = __name__.rpartition(".state.")[0]  # the recorder's package, az.train.health or flightrecorder


@dataclass(frozen=True)
class Modes:
    """watches: how many modes see every function, and how many every operation."""

    takes_gradients: bool
    threads: int
    backward_threads: bool
    watches: tuple[int, int]


def modes() -> Modes:
    """Those of now."""
    backward = bool(_c._is_multithreading_enabled())
    return Modes(torch.is_grad_enabled(), torch.get_num_threads(), backward, _watches())


def put_back(before: Modes) -> None:
    """After an error, which may come from where a context is left, half cleaned up. Watches of others stay."""
    torch.set_grad_enabled(before.takes_gradients)
    torch.set_num_threads(before.threads)
    _c._set_multithreading_enabled(before.backward_threads)
    while _watches()[0] > before.watches[0] and _is_own(_function_mode()):
        _pop_function_mode()
    while _watches()[1] > before.watches[1] and _is_own(_dispatch_mode()):
        _pop_dispatch_mode()


def _watches() -> tuple[int, int]:
    return int(_c._len_torch_function_stack()), int(_c._len_torch_dispatch_stack())


def _is_own(mode: object) -> bool:
    return type(mode).__module__.startswith(OWN + ".")


@contextmanager
def few_threads(small: bool) -> Generator[None]:
    """One thread for what is small; as many as there are for the rest."""
    threads = torch.get_num_threads()
    if small:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if small:
            torch.set_num_threads(threads)
