"""Which tensors a state is made of, and copies of all their numbers.

A copy is one pass for float32 on a CPU and one `torch.cat` for every other kind of number: a few hundred small tensors
cost one call instead of a few hundred.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from az.engine.jit import JIT_OFF

PLAIN = (Tensor, nn.Parameter, nn.Buffer)  # not their subclasses
SMALL = 32 << 20  # bytes: below it waking another thread takes longer than what it would take over
Int64 = NDArray[np.int64]
BY_ADDRESS = torch.device("cpu"), torch.float32  # what compiled passes read


@dataclass(frozen=True)
class Held:
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
    plain = tensor.detach()
    if plain.is_contiguous():
        return plain.view(-1)
    return plain.as_strided((plain.numel(),), (1,)) if is_in_one_piece(plain) else plain.reshape(-1).contiguous()


def has_lost_memory(tensor: Tensor) -> bool:
    """Whether its memory was given away. A subclass may never have had any: it hands what it is asked to others."""
    return type(tensor) in PLAIN and tensor.data_ptr() == 0 and tensor.numel() > 0


def by_address(tensor: Tensor) -> bool:
    """Whether compiled passes can read its numbers: float32 in a CPU's memory of its own. A subclass may have none."""
    plain = not JIT_OFF and tensor.dtype is torch.float32 and type(tensor) in PLAIN and tensor.is_cpu
    return plain and not tensor.is_neg() and not has_lost_memory(tensor)


def is_in_one_piece(tensor: Tensor) -> bool:
    """Whether its numbers lie in memory without holes, in any order."""
    return tensor.is_contiguous() or _dense(tensor.shape, tensor.stride())


@dataclass(frozen=True)
class Lines:
    """Stretches of float32 in a CPU's memory."""

    at: Int64  # [n] addresses
    sizes: Int64  # [n] how many lie there
    to: Int64  # [n] addresses that they are to be copied to


def copying_of(lines: Sequence[Lines | None]) -> Callable[[], None] | None:
    """One call that copies them all and holds no lock of Python's; None where there is nothing."""
    some = [one for one in lines if one is not None]
    if not some:
        return None
    from az.train.health import compiled  # imports numba

    at, sizes, to = (np.concatenate([getattr(one, name) for one in some]) for name in ("at", "sizes", "to"))
    return lambda: compiled.copy(at, sizes, to)


def _form(tensor: Tensor) -> tuple[Any, ...]:
    """(shape, stride, kind of number, device)"""
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def _dense(shape: Sequence[int], strides: Sequence[int]) -> bool:
    expected = 1
    for stride, size in sorted(zip(strides, shape, strict=True)):
        if size == 1:
            continue
        if stride != expected:
            return False
        expected *= size
    return True


class Layout:
    """Which tensors there are, grouped so that one copy takes all of a kind of number."""

    def __init__(self, held: list[Held]) -> None:
        self.held = held
        self.groups: dict[tuple[torch.device, torch.dtype], list[int]] = {}
        for i, one in enumerate(held):
            self.groups.setdefault((one.tensor.device, one.tensor.dtype), []).append(i)
        self.small = sum(one.tensor.nbytes for one in held) <= SMALL
        members = self.groups.get(BY_ADDRESS, [])
        self.by_address = members if all(by_address(held[i].tensor) for i in members) else []
        self._forms = [_form(one.tensor) for one in held]
        self._tensors = [one.tensor for one in held]
        self._sizes = [one.tensor.numel() for one in held]
        self._reach = [form[:2] for form in self._forms]
        self._plain_sizes = np.array([self._sizes[i] for i in self.by_address], np.int64)
        self.plain_bytes = 4 * int(self._plain_sizes.sum())
        self.first = 4 * (np.cumsum(self._plain_sizes) - self._plain_sizes)  # [n] bytes, in a flat copy
        self._at = [one.tensor.data_ptr() for one in held]
        self._holes = [i for i, one in enumerate(held) if not is_in_one_piece(one.tensor)]
        self._views: dict[int, Tensor] = {}

    def refresh(self) -> bool:
        """Looks anew at storage that was swapped, or that has holes; False where a tensor holds other numbers than it
        did: of another kind, more of them or in another order. Then nothing of this layout may be read."""
        at = [tensor.data_ptr() for tensor in self._tensors]
        if at != self._at or [(tensor.shape, tensor.stride()) for tensor in self._tensors] != self._reach:
            for i, tensor in enumerate(self._tensors):
                if _form(tensor) != self._forms[i]:
                    return False
                if at[i] != self._at[i]:
                    self._views.pop(i, None)
            self._at = at
        for i in self._holes:
            self._views.pop(i, None)
        return True

    def view(self, i: int) -> Tensor:
        """All numbers of a tensor, one behind the other; where its memory has holes, as they were when this was first
        asked after the last `refresh`."""
        if i not in self._views:
            self._views[i] = flat_view(self.held[i].tensor)
        return self._views[i]

    def copying(self, into: dict[Any, Tensor] | None = None) -> tuple[dict[Any, Tensor], Lines | None]:
        """(one flat copy a group, what is still to be copied before all of them are filled). The arrays of an older
        copy are used where they fit."""
        copies, left = {}, None
        for key, members in self.groups.items():
            size = sum(self._sizes[i] for i in members)
            old = into.get(key) if into else None
            if old is None or old.numel() != size:
                old = torch.empty(size, dtype=key[1], device=key[0])
            if members is self.by_address:
                left = Lines(*self.addresses(), old.data_ptr() + self.first)
            else:
                torch.cat([self.view(i) for i in members], out=old)
            copies[key] = old
        return copies, left

    def copied(self) -> dict[Any, Tensor]:
        """One flat copy a group, all filled."""
        copies, left = self.copying()
        if work := copying_of([left]):
            work()
        return copies

    def addresses(self) -> tuple[Int64, Int64]:
        """[n] each: where the numbers of `by_address` lie now, and how many."""
        at = np.array([self._at[i] for i in self.by_address], np.int64)
        for place, i in enumerate(self.by_address) if self._holes else ():
            at[place] = self.view(i).data_ptr()
        if not at[self._plain_sizes > 0].all():
            raise RuntimeError("a tensor of the model has lost its memory")
        return at, self._plain_sizes

    def put_back(self, copies: dict[Any, Tensor]) -> None:
        """Write a copy into the tensors it was taken from."""
        for key, members in self.groups.items():
            at = 0
            for i in members:
                tensor, size = self.held[i].tensor, self._sizes[i]
                shape, stride, *_ = self._forms[i]
                piece = copies[key][at : at + size]
                at += size
                kept = piece.as_strided(shape, stride) if _dense(shape, stride) else piece.view(shape)
                same = (tensor.shape, tensor.dtype, tensor.device) == (kept.shape, kept.dtype, kept.device)
                if same and not has_lost_memory(tensor):
                    tensor.detach().copy_(kept)
                else:  # it was given other numbers, as by `.half()`
                    tensor.data = kept.clone()

    def pieces(self, copies: dict[Any, Tensor]) -> Iterable[tuple[Held, Tensor]]:
        """Every held tensor with its flat piece of a copy."""
        for key, members in self.groups.items():
            at = 0
            for i in members:
                size = self._sizes[i]
                yield self.held[i], copies[key][at : at + size]
                at += size
