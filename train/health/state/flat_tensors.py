"""Which tensors a state is made of, and copies of all their numbers.

A copy is one pass for float32 on a CPU and one `torch.cat` for every other kind of number: a few hundred small tensors
cost one call instead of a few hundred.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .jit import compiled

PLAIN = (Tensor, nn.Parameter, nn.Buffer)  # not their subclasses
LOST = "a tensor of the model has lost its memory"
SMALL = 32 << 20  # bytes: below it waking another thread takes longer than what it would take over
_shape, _bytes, _dtype = attrgetter("shape"), attrgetter("nbytes"), attrgetter("dtype")
Int64 = NDArray[np.int64]
Group = tuple[torch.device, torch.dtype, bool]  # True: what compiled passes read by address
BY_ADDRESS: Group = (torch.device("cpu"), torch.float32, True)


class Held(NamedTuple):
    """One tensor of the state and what it is."""

    kind: str  # weights, buffers, optimizer, gradients, also
    name: str
    tensor: Tensor

    @property
    def fixed(self) -> bool:
        """Whether no optimizer moves it: infinities in it may be meant, as in a mask."""
        return self.kind == "buffers" or (self.kind in ("weights", "also") and not self.tensor.requires_grad)


def flat_view(tensor: Tensor) -> Tensor:
    """All numbers of a tensor, one behind the other, without a copy where the memory has no holes."""
    plain = tensor.detach().resolve_conj().resolve_neg()
    if plain.is_contiguous():
        return plain.view(-1)
    return plain.as_strided((plain.numel(),), (1,)) if is_in_one_piece(plain) else plain.reshape(-1).contiguous()


def has_lost_memory(tensor: Tensor) -> bool:
    """Whether its memory was given away, or so much of it that it is too short for it. A subclass may never have had
    any: it hands what it is asked to others."""
    if type(tensor) not in PLAIN or tensor.layout != torch.strided or tensor.is_nested or not tensor.numel():
        return False
    last = tensor.storage_offset() + sum(
        (n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True)
    )
    return tensor.untyped_storage().nbytes() < (last + 1) * tensor.itemsize


def by_address(tensor: Tensor) -> bool:
    """Whether compiled passes can read its numbers: float32 in one piece of a CPU's memory; a subclass has none."""
    plain = compiled() and tensor.dtype is torch.float32 and type(tensor) in PLAIN and tensor.is_cpu
    return plain and not tensor.is_neg() and is_in_one_piece(tensor) and not has_lost_memory(tensor)


def is_in_one_piece(tensor: Tensor) -> bool:
    """Whether its numbers lie in memory without holes, in any order."""
    return tensor.is_contiguous() or is_dense(tensor.shape, tensor.stride())


def is_as_it_lies(tensor: Tensor) -> bool:
    """Whether its memory holds its numbers and nothing else: no holes, no sign or conjugate turned in passing."""
    return is_in_one_piece(tensor) and not any(turned(tensor))


def write_into(tensor: Tensor, kept: Tensor) -> None:
    """Numbers into a tensor of that shape, which may be one number seen many times."""
    for dimension, stride in enumerate(tensor.stride()):
        if stride == 0 and tensor.shape[dimension] > 1:
            tensor, kept = tensor.narrow(dimension, 0, 1), kept.narrow(dimension, 0, 1)
    tensor.copy_(kept)


@dataclass(frozen=True)
class Lines:
    """Stretches of a CPU's memory, in words of four bytes."""

    at: Int64  # [n] addresses
    sizes: Int64  # [n] how many lie there
    to: Int64  # [n] addresses that they are to be copied to


def copying_of(lines: Sequence[Lines]) -> Callable[[], None] | None:
    """One call that copies them all and holds no lock of Python's; None where there is nothing."""
    if not lines:
        return None
    from .kernels import copy as copy_all  # imports numba

    at, sizes, to = (np.concatenate([getattr(one, name) for one in lines]) for name in ("at", "sizes", "to"))
    return lambda: copy_all(at, sizes, to)


def turned(tensor: Tensor) -> tuple[bool, bool]:
    """Whether signs and conjugates are turned when it is read, and not in memory."""
    return tensor.is_neg(), tensor.is_conj()


def _form(tensor: Tensor) -> tuple[Any, ...]:
    """(shape, stride, kind of number, device, class, what is turned in passing)"""
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device, type(tensor), turned(tensor)


def is_dense(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether numbers with these strides lie in memory without holes."""
    expected = 1
    for stride, size in sorted(zip(strides, shape, strict=True)):
        if size == 1:
            continue
        if stride != expected:
            return False
        expected *= size
    return True


def _array(old: Mapping[Group, Tensor], key: Group, size: int) -> Tensor:
    """The old one where it fits: fresh memory costs more than what is written to it."""
    found = old.get(key)
    return found if found is not None and found.numel() == size else torch.empty(size, dtype=key[1], device=key[0])


class Layout:
    """Which tensors there are, grouped so that one copy takes all of a kind of number."""

    def __init__(self, held: list[Held]) -> None:
        self.held = held
        self.groups: dict[Group, list[int]] = {}
        for i, one in enumerate(held):
            key = one.tensor.device, one.tensor.dtype, by_address(one.tensor)
            self.groups.setdefault(key, []).append(i)
        self.by_address = self.groups.get(BY_ADDRESS, [])
        self.tensors = [one.tensor for one in held]
        self.forms = [_form(tensor) for tensor in self.tensors]
        self._dtypes = [tensor.dtype for tensor in self.tensors]
        self._negative = [tensor.is_neg() for tensor in self.tensors]
        self._shapes = [tensor.shape for tensor in self.tensors]
        self._contiguous = [tensor.is_contiguous() for tensor in self.tensors]
        self._odd = [i for i, t in enumerate(self.tensors) if not t.is_contiguous() or t.is_complex()]
        self._sizes = [tensor.numel() for tensor in self.tensors]
        self._bytes = [tensor.nbytes for tensor in self.tensors]
        self.bytes = sum(self._bytes)
        self.small = self.bytes <= SMALL
        self._lie_at([tensor.data_ptr() for tensor in self.tensors])
        self.sizes = np.array([self._sizes[i] for i in self.by_address], np.int64)  # [n] numbers of `by_address`
        self.plain_bytes = 4 * int(self.sizes.sum())
        self.first = 4 * (np.cumsum(self.sizes) - self.sizes)  # [n] bytes, in a flat copy
        self._holes = [i for i, tensor in enumerate(self.tensors) if not is_as_it_lies(tensor)]
        self._lost = False
        # Memory that is another's may go before the tensor does: it is only read once the tensor is known to be there.
        self._is_own = all(held[i].tensor.untyped_storage().resizable() for i in self.by_address)
        self._views: dict[int, Tensor] = {}

    def _lie_at(self, at: list[int]) -> None:
        self._at, self._plain_at = at, np.array([at[i] for i in self.by_address], np.int64)

    def of(self, held: list[Held]) -> Layout:
        """That of other tensors; most of the work is saved where they have the same forms."""
        at = [one.tensor.data_ptr() for one in held]
        if [_form(one.tensor) for one in held] != self.forms:
            return Layout(held)
        other = self.with_tensors(held)
        other._lie_at(at)
        return other

    def with_tensors(self, held: list[Held]) -> Layout:
        """These forms, with other tensors; where those lie is not known."""
        other = copy.copy(self)
        other.held, other.tensors, other._views, other._lost = held, [one.tensor for one in held], {}, False
        return other

    def without_tensors(self) -> Layout:
        """The forms alone, for `of` and `with_tensors`: it keeps nothing alive."""
        return self.with_tensors([])

    def is_in_place(self) -> bool:
        """Whether every tensor is as long as it was and lies where it lay, so that reading by address is safe. Whether
        these are still the numbers of the state, and in this order, is for `refresh` to say."""
        tensors = self.tensors
        same = self._is_own and list(map(Tensor.data_ptr, tensors)) == self._at
        same = same and list(map(_bytes, tensors)) == self._bytes
        return same and list(map(Tensor.is_contiguous, tensors)) == self._contiguous

    def refresh(self, in_place: bool = False) -> bool:
        """Looks again at storage that was swapped, or that has holes; False where a tensor holds other numbers than it
        did: of another kind, more of them or in another order. Then nothing of this layout may be read.

        in_place: `is_in_place` was asked just now and is so.
        """
        at = self._at if in_place else list(map(Tensor.data_ptr, self.tensors))
        same = in_place or list(map(Tensor.is_contiguous, self.tensors)) == self._contiguous
        if at != self._at or not same or not self._has_same_orders():
            for i, tensor in enumerate(self.tensors):
                if _form(tensor) != self.forms[i]:
                    return False
                if at[i] != self._at[i]:
                    self._views.pop(i, None)
            self._lie_at(at)
            self._lost = any(has_lost_memory(self.tensors[i]) for i in self.by_address)
        for i in self._holes:
            self._views.pop(i, None)
        return True

    def _has_same_orders(self) -> bool:
        """Whether shapes, strides and kinds are as they were. Strides of what is contiguous follow from its shape."""
        tensors = self.tensors
        same = list(map(_shape, tensors)) == self._shapes and list(map(_dtype, tensors)) == self._dtypes
        same = same and list(map(Tensor.is_neg, tensors)) == self._negative
        return same and all(_form(tensors[i]) == self.forms[i] for i in self._odd)

    def view(self, i: int) -> Tensor:
        """All numbers of a tensor, one behind the other; where its memory has holes, as they were when this was first
        asked after the last `refresh`."""
        if i not in self._views:
            if has_lost_memory(self.tensors[i]):
                raise RuntimeError(LOST)  # torch would read address 0
            self._views[i] = flat_view(self.tensors[i])
        return self._views[i]

    def addresses(self) -> Int64:
        """[n]: where the numbers of `by_address` lie."""
        if self._lost or not self._plain_at[self.sizes > 0].all():
            raise RuntimeError(LOST)
        return self._plain_at

    def plain_copy(self, into: Mapping[Group, Tensor]) -> tuple[dict[Group, Tensor], list[Lines]]:
        """(the copy of `by_address`, what is still to be copied before it is filled). The arrays of an older copy are
        used where they fit."""
        if not self.by_address:
            return {}, []
        flat = _array(into, BY_ADDRESS, self.plain_bytes // 4)
        return {BY_ADDRESS: flat}, [Lines(self.addresses(), self.sizes, flat.data_ptr() + self.first)]

    def other_copies(self, into: Mapping[Group, Tensor]) -> dict[Group, Tensor]:
        """One flat copy a group of all else."""
        copies: dict[Group, Tensor] = {}
        for key, members in self.groups.items():
            if key == BY_ADDRESS:
                continue
            copies[key] = _array(into, key, sum(self._sizes[i] for i in members))
            torch.cat([self.view(i) for i in members], out=copies[key])
        return copies

    def copied(self) -> dict[Group, Tensor]:
        """One flat copy a group, all filled."""
        copies, lines = self.plain_copy({})
        if work := copying_of(lines):
            work()
        return copies | self.other_copies({})

    def put_back(self, copies: dict[Group, Tensor]) -> None:
        """Write a copy into the tensors it was taken from."""
        for key, members in self.groups.items():
            at = 0
            for i in members:
                tensor, size = self.tensors[i], self._sizes[i]
                shape, stride, *_ = self.forms[i]
                piece = copies[key][at : at + size]
                at += size
                kept = piece.as_strided(shape, stride) if is_dense(shape, stride) else piece.view(shape)
                same = (tensor.shape, tensor.dtype, tensor.device) == (kept.shape, kept.dtype, kept.device)
                same = same and (tensor.stride() == stride or not is_dense(shape, stride))  # or sums come out otherwise
                if same and not has_lost_memory(tensor):
                    write_into(tensor.detach(), kept)
                else:  # it was given other numbers, as by `.half()`
                    tensor.data = kept.clone()

    def pieces(self, copies: Mapping[Group, Tensor]) -> Iterable[tuple[Held, Tensor]]:
        """Every held tensor with its flat piece of a copy."""
        return ((self.held[i], piece) for i, piece in self.numbered(copies))

    def numbered(self, copies: Mapping[Group, Tensor]) -> Iterable[tuple[int, Tensor]]:
        """The same with its number instead of the tensor."""
        for key, members in self.groups.items():
            at = 0
            for i in members:
                size = self._sizes[i]
                yield i, copies[key][at : at + size]
                at += size
