"""The look after a step whose state was not copied before it: one reading of all its numbers, few calls.

It knows the tensors that were there when the state was last copied, and the gradients of now. It only says whether all
is well; where it is not, or where it cannot tell, `Session.look` says what is bad.
"""

from __future__ import annotations

import math
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .extra_state import same_bits
from .finite_check import finite_where_all_are, gathered
from .flat_tensors import PLAIN, Layout
from .jit import compiled
from .starts import Stamp, Start

_form = attrgetter("dtype", "layout", "is_cpu")
_READ_BY_ADDRESS = {(torch.float32, torch.strided, True)}


class QuickLook:
    """Of one layout."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        taken = set(layout.by_address)
        floats = [i for i, t in enumerate(layout.tensors) if t.is_floating_point() and t.numel()]
        self._rest = [layout.tensors[i] for i in floats if i not in taken]  # themselves: their memory may be swapped
        self._plain = all(t.element_size() > 1 for t in self._rest)  # eight-bit floats have no norm
        self._by_address = [i for i in layout.by_address if layout.tensors[i].numel()]
        self._sizes = [layout.tensors[i].numel() for i in self._by_address]
        self._table = np.zeros((3, 0), np.int64)  # what `all_well` reads; the state comes first
        self._places: list[int] = []  # of the state, as they stand in the table

    def is_well(
        self, before: Stamp, now: Stamp, gradients: list[Tensor], start: Start, loss: float | None, compare: bool
    ) -> bool:
        """Whether every number is one and the batch is what it was; False also where that cannot be told quickly.

        before, now: of the last step's end and of this one's. compare: whether the batch may not be written.
        """
        if now.layout is not self.layout or now.places != before.places or not self._plain:
            return False
        if loss is not None and not math.isfinite(loss):
            return False
        inputs = list(zip(start.batch, start.places, strict=True)) if compare else []
        pairs = [(place, leaf.nbytes, kept.data_ptr()) for (leaf, kept), place in inputs if place]
        if any(leaf.data_ptr() != place for (leaf, _), place in inputs if place):
            return False
        if not all(same_bits(leaf, kept) for (leaf, kept), place in inputs if not place):
            return False
        others = self._rest
        if not compiled() or not _are_read_by_address(gradients):
            if any(type(g) not in PLAIN or g.layout != torch.strided or g.element_size() == 1 for g in gradients):
                return False
            others, gradients = [*others, *gradients], []
        return self._reads_well(now.places, gradients, pairs) and _all_finite(others)

    def _reads_well(self, places: list[int], gradients: list[Tensor], pairs: list[tuple[int, int, int]]) -> bool:
        """One pass over the state, these gradients, and these (address, bytes, where their copy lies)."""
        at = list(map(Tensor.data_ptr, gradients))
        if not all(at):
            return False  # one of no size, or that has lost its memory
        copies = [copy for _, _, copy in pairs]
        at += [address for address, _, _ in pairs]
        sizes = [*map(Tensor.numel, gradients), *(size for _, size, _ in pairs)]
        state, columns = len(self._sizes), len(self._sizes) + len(at)
        if not columns:
            return True
        from .kernels import all_well  # imports numba

        if self._table.shape[1] != columns or self._places != places:
            self._table = np.zeros((3, columns), np.int64)
            self._table[:2, :state] = [places[i] for i in self._by_address], self._sizes
            self._places = places
        self._table[:, state:] = at, sizes, [*[0] * len(gradients), *copies]
        return all_well(self._table)


def _are_read_by_address(gradients: list[Tensor]) -> bool:
    """Whether they are float32 in one piece of a CPU's memory."""
    plain = set(map(_form, gradients)) <= _READ_BY_ADDRESS and set[Any](map(type, gradients)) <= {Tensor}
    return plain and all(map(Tensor.is_contiguous, gradients))


def _all_finite(tensors: list[Any]) -> bool:
    """Sums carry NaN and infinities; one too large for its kind of number is taken for bad, and looked at again."""
    with torch.no_grad():
        return all(map(math.isfinite, gathered(finite_where_all_are(tensors))))
