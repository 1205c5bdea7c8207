"""One pass over the state after a step: is every number one, and how far did the weights move."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from .flat_tensors import BY_ADDRESS, Group, Layout

# torch has these two, and its stubs have no types for them.
foreach_norm: Callable[..., tuple[Tensor, ...]] = torch._foreach_norm  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
_own: Any = vars(torch)["_C"]
flattened: Callable[[list[Tensor]], Tensor] = _own._nn.flatten_dense_tensors
vector_norm = cast("Callable[..., Tensor]", torch.linalg.vector_norm)

# Numbers of a piece. On a CPU a piece stays in the cache of its core, half a megabyte; elsewhere a piece is a launch,
# which costs more than memory does.
PIECE_CPU, PIECE_ELSEWHERE = 1 << 17, 1 << 27
# Smaller tensors of a CPU are read as one: thirty of them take 26 µs where their norms take 107 (docs/log.md).
SMALL = 1 << 13


@dataclass
class Piece:
    """Neighbours of one kind of number in the flat copies. parts: (which tensor, its first number here, its last)."""

    key: Group
    low: int
    high: int
    weights: bool
    parts: list[tuple[int, int, int]]


class FiniteCheck:
    """Reads every floating tensor of a layout, without a copy of the whole: what it can by address, the rest piece by
    piece."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        kinds = [key for key in layout.groups if key[1].is_floating_point or key[1].is_complex]
        rest = [key for key in kinds if key != BY_ADDRESS]
        self.pieces = [piece for key in rest for piece in _cut(layout, key)]
        sizes: dict[Group, int] = {}
        for piece in self.pieces:
            sizes[piece.key] = max(sizes.get(piece.key, 0), piece.high - piece.low)
        self._scratch = {key: torch.empty(size, dtype=key[1], device=key[0]) for key, size in sizes.items()}
        self._found = {key[0]: torch.empty((2, len(self.pieces)), dtype=torch.float64, device=key[0]) for key in sizes}
        self._weights = np.array([layout.held[i].kind == "weights" for i in layout.by_address], np.bool_)
        self.out = np.zeros(3)  # what a pass by address writes, see `compiled.look`

    def reading(self, before: Mapping[Group, Tensor], gradients: Layout) -> Callable[[], None] | None:
        """One pass that fills `out` and holds no lock of Python's.

        before: a copy of this layout, for norms; {}: whether all are numbers is enough.
        """
        self.out[:] = 0.0
        if not gradients.by_address and not self.layout.by_address:
            return None
        from .kernels import look  # imports numba

        at = np.concatenate([self.layout.addresses(), gradients.addresses()])
        sizes = np.concatenate([self.layout.sizes, gradients.sizes])
        moved, then = np.zeros(len(at), np.bool_), np.zeros(len(at), np.int64)
        if before and self.layout.by_address:
            moved[: len(self._weights)] = self._weights
            then[: len(self._weights)] = before[BY_ADDRESS].data_ptr() + self.layout.first
        return lambda: look(at, sizes, moved, then, self.out)

    def rest(self, before: Mapping[Group, Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Of all that has no address: (a number for every part, finite where the part is; norms of the parts of the
        weights; norms of their changes since `before`, none where that is {})"""
        sums: list[Tensor] = []
        weights: list[Tensor] = []
        changes: list[Tensor] = []
        for i, piece in enumerate(self.pieces):
            # Kept where it does not lie between the large pieces of memory that are taken and given back here: one
            # number in each of them, and none could be used again (100 MB of weights took 400).
            number, change = self._found[piece.key[0]][:, i]
            found, values = self._of(piece)
            sums.append(number.copy_(found))
            if piece.weights and before:
                weights.append(number)
                changes.append(change.copy_(_norm(values.sub_(_plain(before[piece.key][piece.low : piece.high])))))
        return sums, weights, changes

    def _of(self, piece: Piece) -> tuple[Tensor, Tensor]:
        views = [(self.layout.view(i), low, high) for i, low, high in piece.parts]
        parts = [view if high - low == view.numel() else view[low:high] for view, low, high in views]
        values = _plain(torch.cat(parts, out=self._scratch[piece.key][: piece.high - piece.low]))
        by_norm = piece.weights or values.is_complex()
        return (_norm(values) if by_norm else values.sum(dtype=wide(values.dtype))), values


def sums_of(gradients: Layout) -> list[Tensor]:
    """Some numbers, all finite where all of these are that have no address."""
    return finite_where_all_are(
        [gradients.view(i) for key, members in gradients.groups.items() if key != BY_ADDRESS for i in members]
    )


def finite_where_all_are(tensors: list[Tensor]) -> list[Tensor]:
    """Some numbers, one or two a device and kind of number: none is finite that stands for NaN or an infinity."""
    kinds: dict[tuple[torch.device, torch.dtype], tuple[list[Tensor], list[Tensor]]] = {}
    for tensor in tensors:
        dtype = tensor.dtype
        small = tensor.numel() < SMALL and tensor.is_cpu and dtype.is_floating_point and dtype.itemsize > 1
        kinds.setdefault((tensor.device, dtype), ([], []))[not small].append(tensor)
    numbers: list[Tensor] = []
    for (_, dtype), (small, large) in kinds.items():
        numbers += [flattened(small).sum(dtype=wide(dtype))] if small else []
        numbers += [torch.stack(foreach_norm(large)).sum()] if large else []
    return numbers


def _plain(values: Tensor) -> Tensor:
    """Eight-bit floats cannot be added up as they are."""
    return values.float() if values.element_size() == 1 else values


def _norm(values: Tensor) -> Tensor:
    """In double precision on a CPU, as the compiled pass: float32 has no square of 1e20."""
    kind = torch.float64 if values.is_cpu else wide(values.dtype)
    return vector_norm(values, dtype=None if values.is_complex() else kind)


def gathered(numbers: list[Tensor]) -> list[float]:
    """As Python has them. Those of an accelerator go to the CPU in one journey, not one by one."""
    device = next((one.device for one in numbers if one.device.type != "cpu"), torch.device("cpu"))
    if not numbers:
        return []
    joined = torch.stack([one.double().to(device) for one in numbers])
    return cast("list[float]", joined.tolist())  # pyright: ignore[reportUnknownMemberType]


def wide(dtype: torch.dtype) -> torch.dtype:
    """The kind of number to add up in: sums of half precision would overflow where no number does."""
    return dtype if dtype.itemsize >= 4 else torch.float32


def _cut(layout: Layout, key: Group) -> list[Piece]:
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
