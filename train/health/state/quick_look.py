"""The look after a step whose state was not copied before it: one reading of all its numbers, few calls.

It knows the tensors that were there when the state was last copied, and the gradients of now. It only says whether all
is well; where it is not, or where it cannot tell, `Session.look` says what is bad.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .extra_state import same_bits
from .finite_check import finite_where_all_are, gathered
from .flat_tensors import PLAIN, Layout
from .jit import compiled
from .starts import Stamp, Start


class QuickLook:
    """Of one layout and its parameters."""

    def __init__(self, layout: Layout, parameters: list[Tensor]) -> None:
        self.layout, self.parameters = layout, parameters
        taken = set(layout.by_address)
        floats = [i for i, t in enumerate(layout.tensors) if t.is_floating_point() and t.numel()]
        self._rest = [layout.tensors[i].detach() for i in floats if i not in taken]
        self._plain = all(t.element_size() > 1 for t in self._rest)  # eight-bit floats have no norm
        self._sizes = np.array([layout.tensors[i].numel() for i in layout.by_address], np.int64)
        self._by_address = layout.by_address
        self._out = np.zeros(3)

    def is_well(self, before: Stamp, now: Stamp, start: Start, loss: float | None, compare: bool) -> bool:
        """Whether every number is one and the batch is what it was; False also where that cannot be told quickly.

        before, now: of the last step's end and of this one's. compare: whether the batch may not be written.
        """
        if now.layout is not self.layout or now.places != before.places or not self._plain:
            return False
        if loss is not None and not math.isfinite(loss):
            return False
        if compare and not all(same_bits(leaf, kept) for leaf, kept in start.batch):
            return False
        gradients = [g for p in self.parameters if (g := p.grad) is not None]
        if any(type(g) not in PLAIN or g.layout != torch.strided or g.element_size() == 1 for g in gradients):
            return False
        others = self._rest
        if not compiled() or not all(map(_reads_by_address, gradients)):
            others = [*others, *gradients]
            gradients = []
        return self._by_address_well(now.places, gradients) and _all_finite(others)

    def _by_address_well(self, places: list[int], gradients: list[Tensor]) -> bool:
        at = [places[i] for i in self._by_address]
        at += map(Tensor.data_ptr, gradients)
        if not at:
            return True
        from .kernels import look  # imports numba

        count = len(self._by_address)
        sizes = np.empty(len(at), np.int64)
        sizes[:count] = self._sizes
        sizes[count:] = list(map(Tensor.numel, gradients))
        look(np.array(at, np.int64), sizes, np.zeros(len(at), np.bool_), np.zeros(len(at), np.int64), self._out)
        return self._out[0] == 0.0


def _reads_by_address(gradient: Tensor) -> bool:
    return gradient.dtype is torch.float32 and gradient.is_cpu and gradient.is_contiguous()


def _all_finite(tensors: list[Any]) -> bool:
    """Sums carry NaN and infinities; one too large for its kind of number is taken for bad, and looked at again."""
    with torch.no_grad():
        return all(map(math.isfinite, gathered(finite_where_all_are(tensors))))
