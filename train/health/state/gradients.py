"""The gradients of one moment, which the loop may let go of before they are put back."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import cast

import torch
from torch import Tensor

from .flat_tensors import PLAIN, Group, Held, Layout, is_dense


class Gradients:
    """Referred to weakly: `zero_grad` is to free their memory, as it does without a recorder. Their numbers are in
    copies; where a gradient is gone, another of its form takes its place."""

    def __init__(self, parameters: list[Tensor], layout: Layout) -> None:
        self.parameters, self._forms = parameters, layout.without_tensors()
        self._held = [_weakly(one.tensor) for one in layout.held]

    def put_back(self, copies: Mapping[Group, Tensor]) -> None:
        """The numbers of these copies; the same objects where they are still there."""
        pairs = zip(self._held, self._forms.forms, strict=True)
        tensors = [held() if (held() is not None) else _made(*form[:4]) for held, form in pairs]
        found = [Held("gradients", "", cast("Tensor", tensor)) for tensor in tensors]
        self._forms.with_tensors(found).put_back(dict(copies))
        for parameter, one in zip(self.parameters, found, strict=True):
            parameter.grad = one.tensor

    def pieces(self, copies: Mapping[Group, Tensor]) -> Iterable[Tensor]:
        """The flat piece of every gradient, in the order of the parameters."""
        found = dict(self._forms.numbered(copies))
        return (found[i] for i in sorted(found))


def _weakly(tensor: Tensor) -> Callable[[], Tensor | None]:
    """A subclass is held: nothing here can make another one of it."""
    return weakref.ref(tensor) if type(tensor) in PLAIN else lambda: tensor


def _made(shape: torch.Size, stride: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    if is_dense(shape, stride):
        return torch.empty_strided(shape, stride, dtype=dtype, device=device)
    return torch.empty(shape, dtype=dtype, device=device)
