"""The losses that a step begins backward from, whether or not it returns them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


class noted_roots:  # noqa: N801  a context manager, used like a function
    """Gives the list that every number from which backward begins is added to."""

    def __init__(self) -> None:
        self._roots: list[Tensor] = []
        self._old = _backward

    def __enter__(self) -> list[Tensor]:
        _open.append(self._roots)
        self._old, _autograd.backward = _autograd.backward, _noting
        return self._roots

    def __exit__(self, *_: object) -> None:
        _autograd.backward = self._old
        _open[:] = [one for one in _open if one is not self._roots]
