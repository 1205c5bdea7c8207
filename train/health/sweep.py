"""One pass over the state after a step: is every number one, and how far did the weights move."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from az.engine.jit import JIT_OFF
from az.train.health.state import PLAIN, Layout, has_lost_memory

_torch: Any = torch  # its _foreach functions are documented but missing from the stubs

# Numbers of a piece. On a CPU a piece stays in the cache of its core, half a megabyte; elsewhere a piece is a launch,
# which costs more than memory does.
PIECE_CPU, PIECE_ELSEWHERE = 1 << 17, 1 << 27


@dataclass
class Piece:
    """Neighbours of one kind of number in the flat copies. parts: (which tensor, its first number here, its last)."""

    key: tuple[torch.device, torch.dtype]
    low: int
    high: int
    weights: bool
    parts: list[tuple[int, int, int]]


class Sweep:
    """Reads every floating tensor of a layout, without a copy of the whole: float32 on a CPU by address, the rest
    piece by piece."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        kinds = [key for key in layout.groups if key[1].is_floating_point or key[1].is_complex]
        plain = {key for key in kinds if all(by_address(layout.held[i].tensor) for i in layout.groups[key])}
        self.groups = [_ByAddress(layout, key) for key in kinds if key in plain]
        self.pieces = [piece for key in kinds if key not in plain for piece in _cut(layout, key)]
        sizes: dict[Any, int] = {}
        for piece in self.pieces:
            sizes[piece.key] = max(sizes.get(piece.key, 0), piece.high - piece.low)
        self._scratch = {key: torch.empty(size, dtype=key[1], device=key[0]) for key, size in sizes.items()}

    def sums(self) -> list[Tensor]:
        """A number for every part, finite where the part is."""
        whole = [group.judged(group.at(self.layout.views)) for group in self.groups]
        return [*whole, *(self._of(piece)[0] for piece in self.pieces)]

    def moved(self, before: dict[Any, Tensor]) -> tuple[list[Tensor], Tensor]:
        """`sums` and [2]: norms of the change of the weights since `before`, a copy of this layout, and of them."""
        sums: list[Tensor] = []
        changes: list[Tensor] = []
        weights: list[Tensor] = []
        for group in self.groups:
            at = group.at(self.layout.views)
            sums.append(group.judged(at, but_weights=True))
            if group.weights.any():
                change, size = group.moved(at, before)
                sums.append(size)
                changes.append(change)
                weights.append(size)
        for piece in self.pieces:
            number, values = self._of(piece)
            sums.append(number)
            if piece.weights:
                weights.append(number)
                changes.append(_norm(values.sub_(_plain(before[piece.key][piece.low : piece.high]))))
        return sums, torch.stack([_total(changes), _total(weights)]) if weights else torch.zeros(2)

    def _of(self, piece: Piece) -> tuple[Tensor, Tensor]:
        views = self.layout.views
        parts = [views[i] if high - low == views[i].numel() else views[i][low:high] for i, low, high in piece.parts]
        values = _plain(torch.cat(parts, out=self._scratch[piece.key][: piece.high - piece.low]))
        by_norm = piece.weights or values.is_complex()
        return (_norm(values) if by_norm else values.sum(dtype=_wide(values.dtype))), values


def by_address(tensor: Tensor) -> bool:
    """Whether compiled passes can read its numbers: float32 in memory of its own. A subclass may have none."""
    return (
        not JIT_OFF
        and tensor.dtype == torch.float32
        and tensor.device.type == "cpu"
        and type(tensor) in PLAIN
        and not has_lost_memory(tensor)
    )


def sums_of(tensors: list[Tensor]) -> list[Tensor]:
    """Some numbers, all finite where all of these strided floats are: gradients, which are others after every step."""
    plain = [t for t in tensors if by_address(t) and _in_one_piece(t)]
    sums = []
    if plain:
        from az.train.health import compiled

        sizes = np.array([t.numel() for t in plain], np.int64)
        sums.append(_judged(compiled.all_finite(compiled.addresses(plain), sizes)))
    read = {id(t) for t in plain}
    for device in {t.device for t in tensors if id(t) not in read}:
        here = [t for t in tensors if t.device == device and id(t) not in read]
        sums.append(torch.stack(_torch._foreach_norm(here)).sum())
    return sums


def _in_one_piece(tensor: Tensor) -> bool:
    """Whether its numbers lie in memory without holes, in one of the two usual orders."""
    return tensor.is_contiguous() or (tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last))


def _judged(finite: bool) -> Tensor:
    return torch.tensor(0.0 if finite else math.nan)


class _ByAddress:
    """The float32 tensors of a CPU."""

    def __init__(self, layout: Layout, key: tuple[torch.device, torch.dtype]) -> None:
        from az.train.health import compiled  # imports numba

        self._by, self._key, self._members = compiled, key, layout.groups[key]
        self._sizes = np.array([layout.held[i].tensor.numel() for i in self._members], np.int64)
        self.weights = np.array([layout.held[i].kind == "weights" for i in self._members])
        self._first = 4 * (np.cumsum(self._sizes) - self._sizes)  # bytes, in a flat copy

    def at(self, views: list[Tensor]) -> np.ndarray:
        """[n] addresses of now."""
        at = self._by.addresses([views[i] for i in self._members])
        if not at[self._sizes > 0].all():
            raise RuntimeError("a tensor of the model has lost its memory")
        return at

    def judged(self, at: np.ndarray, but_weights: bool = False) -> Tensor:
        """0, or NaN where a number is none."""
        which = ~self.weights if but_weights else slice(None)
        return _judged(self._by.all_finite(at[which], self._sizes[which]))

    def moved(self, at: np.ndarray, before: dict[Any, Tensor]) -> tuple[Tensor, Tensor]:
        """Norms of the change of the weights and of the weights."""
        which = self.weights
        then = before[self._key].data_ptr() + self._first[which]
        change, size = torch.tensor(self._by.squares(at[which], self._sizes[which], then), dtype=torch.float64).sqrt()
        return change, size


def _plain(values: Tensor) -> Tensor:
    """Eight-bit floats cannot be added up as they are."""
    return values.float() if values.element_size() == 1 else values


def _norm(values: Tensor) -> Tensor:
    return torch.linalg.vector_norm(values, dtype=None if values.is_complex() else _wide(values.dtype))


def gathered(numbers: list[Tensor]) -> Tensor:
    """[n] float64, on the accelerator where one of them is there: they go to the CPU in one journey, not one by one."""
    device = next((one.device for one in numbers if one.device.type != "cpu"), torch.device("cpu"))
    return torch.stack([one.double().to(device) for one in numbers])


def _total(norms: list[Tensor]) -> Tensor:
    return torch.linalg.vector_norm(gathered(norms))


def _wide(dtype: torch.dtype) -> torch.dtype:
    """Sums of half precision would overflow where no number does."""
    return dtype if dtype.itemsize >= 4 else torch.float32


def _cut(layout: Layout, key: tuple[torch.device, torch.dtype]) -> list[Piece]:
    """The tensors of a group in pieces, weights apart from the rest."""
    most = PIECE_CPU if key[0].type == "cpu" else PIECE_ELSEWHERE
    pieces: list[Piece] = []
    at = 0
    for i in layout.groups[key]:
        weights, size, first = layout.held[i].kind == "weights", layout.held[i].tensor.numel(), 0
        while first < size:
            last = pieces[-1] if pieces else None
            if last is None or last.weights != weights or last.high - last.low == most:
                last = Piece(key, at, at, weights, [])
                pieces.append(last)
            taken = min(size - first, most - (last.high - last.low))
            last.parts.append((i, first, first + taken))
            last.high = at = at + taken
            first += taken
    return pieces
