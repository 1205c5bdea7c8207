"""The losses that a step begins backward from, whether or not it returns them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

_autograd: Any = torch.autograd
_backward: Callable[..., None] = _autograd.backward
_open: list[weakref.ref[noted_roots]] = []  # of each step that runs now; one that a signal broke off is let go


def _noting(tensors: Any, *args: Any, **kwargs: Any) -> None:
    """`torch.autograd.backward`, which `Tensor.backward` calls; always this one function, so that compiled code that
    looks at it stays valid."""
    given = cast("Sequence[Any]", [tensors] if isinstance(tensors, Tensor) else tensors)
    step = next((one for kept in reversed(_open) if (one := kept()) is not None), None)
    if step is not None:
        step.roots += [
            one.detach() for one in given if isinstance(one, Tensor) and one.numel() == 1 and one.is_floating_point()
        ]
        if step.told is not None and given and isinstance(given[0], Tensor):
            step.told(given[0])
    _backward(tensors, *args, **kwargs)


class noted_roots:  # noqa: N801  a context manager, used like a function
    """Gives the list that every number from which backward begins is added to.

    told: gets the first tensor of each, before backward begins.
    """

    def __init__(self, told: Callable[[Tensor], None] | None = None) -> None:
        self.roots: list[Tensor] = []
        self.told = told
        self._old = _backward

    def __enter__(self) -> list[Tensor]:
        _open.append(weakref.ref(self))
        self._old, _autograd.backward = _autograd.backward, _noting
        return self.roots

    def __exit__(self, *_: object) -> None:
        _autograd.backward = self._old
        _open[:] = [kept for kept in _open if kept() not in (None, self)]


def any_is_bad(roots: list[Tensor]) -> bool:
    """Whether a step began backward from NaN or an infinity."""
    return any(not bool(torch.isfinite(root)) for root in roots)
