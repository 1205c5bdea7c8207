"""The losses that a step begins backward from, whether or not it returns them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor

_autograd: Any = torch.autograd
_backward: Callable[..., None] = _autograd.backward
_open: list[list[Tensor]] = []  # one list a step that runs now


def _noting(tensors: Any, *args: Any, **kwargs: Any) -> None:
    """`torch.autograd.backward`, which `Tensor.backward` calls; always this one function, so that compiled code that
    looks at it stays valid."""
    given = cast("Sequence[Any]", [tensors] if isinstance(tensors, Tensor) else tensors)
    for one in given:
        if _open and isinstance(one, Tensor) and one.numel() == 1 and one.is_floating_point():
            _open[-1].append(one.detach())
    _backward(tensors, *args, **kwargs)


@contextmanager
def noted_roots() -> Generator[list[Tensor]]:
    """Gives the list that every number from which backward begins is added to."""
    roots: list[Tensor] = []
    _open.append(roots)
    old, _autograd.backward = _autograd.backward, _noting
    try:
        yield roots
    finally:
        _autograd.backward = old
        _open.remove(roots)
