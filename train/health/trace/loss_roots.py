"""The losses that a step begins backward from, whether or not it returns them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

_autograd: Any = torch.autograd
_backward: Callable[..., None] = _autograd.backward
Noted = tuple[list[Tensor], Callable[[Tensor], None] | None]
_open: list[Noted] = []  # of each step that runs now; the second is told before backward begins


def _noting(tensors: Any, *args: Any, **kwargs: Any) -> None:
    """`torch.autograd.backward`, which `Tensor.backward` calls; always this one function, so that compiled code that
    looks at it stays valid."""
    given = cast("Sequence[Any]", [tensors] if isinstance(tensors, Tensor) else tensors)
    for one in given:
        if _open and isinstance(one, Tensor) and one.numel() == 1 and one.is_floating_point():
            _open[-1][0].append(one.detach())
    if _open and (told := _open[-1][1]) is not None and given and isinstance(given[0], Tensor):
        told(given[0])
    _backward(tensors, *args, **kwargs)


class noted_roots:  # noqa: N801  a context manager, used like a function
    """Gives the list that every number from which backward begins is added to. told: gets the first tensor of each."""

    def __init__(self, told: Callable[[Tensor], None] | None = None) -> None:
        self._noted: Noted = ([], told)
        self._old = _backward

    def __enter__(self) -> list[Tensor]:
        _open.append(self._noted)
        self._old, _autograd.backward = _autograd.backward, _noting
        return self._noted[0]

    def __exit__(self, *_: object) -> None:
        _autograd.backward = self._old
        _open[:] = [one for one in _open if one is not self._noted]


def any_is_bad(roots: list[Tensor]) -> bool:
    """Whether a step began backward from NaN or an infinity."""
    return any(not bool(torch.isfinite(root)) for root in roots)
