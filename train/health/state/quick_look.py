"""The look after a step whose state was not copied before it: one reading of all its numbers, few calls.

It knows the tensors that were there when the state was last copied, and the gradients of now. It only says whether all
is well; where it is not, or where it cannot tell, `Session.look` says what is bad.
"""

from __future__ import annotations

import math
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from .extra_state import same_bits
from .finite_check import SMALL, flattened, wide
from .flat_tensors import PLAIN, Layout, has_lost_memory
from .starts import Stamp, Start

_form = attrgetter("dtype", "layout", "is_cpu")
_ORDINARY = {(torch.float32, torch.strided, True)}


class QuickLook:
    """Of one layout."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._floats = [t for t in layout.tensors if t.is_floating_point() and t.numel()]
        self._is_known = all(t.element_size() > 1 for t in self._floats)  # eight-bit floats have no sum
        self._places: list[int] = []  # of the tensors when the two below were made
        self._views: list[list[Tensor]] = []  # small ones of one kind of number each, read as one
        self._large: list[Tensor] = []

    def is_well(
        self, before: Stamp, now: Stamp, gradients: list[Tensor], start: Start, loss: float | None, compare: bool
    ) -> bool:
        """Whether every number is one and the batch is what it was; False also where that cannot be told quickly.

        before, now: of the last step's end and of this one's. compare: whether the batch may not be written.
        """
        if now.layout is not self.layout or now.places != before.places or not self._is_known:
            return False
        if loss is not None and not math.isfinite(loss):
            return False
        with torch.no_grad():
            if self._places != now.places and not self._view(now.places):
                return False
            if compare and not all(map(_is_as_it_was, start.batch, start.places)):
                return False
            sums = [torch.cat(views).sum(dtype=wide(views[0].dtype)) for views in self._views]
            sums += [one.sum(dtype=wide(one.dtype)) for one in self._large]
            more = _sums_of(gradients)
            return more is not None and all(map(math.isfinite, map(Tensor.item, [*sums, *more])))

    def _view(self, places: list[int]) -> bool:
        """Prepare to read the state as it lies now; False where one of it has lost its memory."""
        if any(map(has_lost_memory, self._floats)):
            return False
        small, self._large = list[Tensor](), []
        for one in self._floats:
            is_small = one.is_cpu and one.numel() < SMALL and one.is_contiguous() and not one.is_neg()
            (small if is_small else self._large).append(one.detach())
        kinds = dict.fromkeys(one.dtype for one in small)
        self._views = [[one.view(-1) for one in small if one.dtype == kind] for kind in kinds]
        self._places = places
        return True


def _is_as_it_was(kept: tuple[Any, Any], place: int) -> bool:
    """Whether a leaf of a batch equals its copy. `equal` takes −0 for 0, and NaN for another number."""
    leaf, copy = kept
    if place:
        moved = leaf.data_ptr() != place or leaf.shape != copy.shape or leaf.dtype != copy.dtype
        return not moved and (torch.equal(leaf, copy) or same_bits(leaf, copy))
    return same_bits(leaf, copy)


def _sums_of(gradients: list[Tensor]) -> list[Tensor] | None:
    """Some numbers, all finite where all of these are; None where that cannot be told so."""
    if not gradients:
        return []
    if set(map(_form, gradients)) <= _ORDINARY and set[Any](map(type, gradients)) <= {Tensor}:
        small = [one for one in gradients if one.numel() < SMALL]
        large = gradients if not small else [one for one in gradients if one.numel() >= SMALL]
        return [*([flattened(small).sum()] if small else []), *map(torch.sum, large)]
    if any(type(g) not in PLAIN or g.layout != torch.strided or g.element_size() == 1 for g in gradients):
        return None
    return [one.sum(dtype=wide(one.dtype)) for one in gradients]
