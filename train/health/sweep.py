"""One pass over the state after a step: is every number one, and how far did the weights move."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from az.train.health.state import Layout

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
    """Reads every floating tensor of a layout piece by piece, without a copy of the whole."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        kinds = [key for key in layout.groups if key[1].is_floating_point or key[1].is_complex]
        self.pieces = [piece for key in kinds for piece in _cut(layout, key)]
        sizes: dict[Any, int] = {}
        for piece in self.pieces:
            sizes[piece.key] = max(sizes.get(piece.key, 0), piece.high - piece.low)
        self._scratch = {key: torch.empty(size, dtype=key[1], device=key[0]) for key, size in sizes.items()}

    def sums(self) -> list[Tensor]:
        """A number for every piece, finite where the piece is."""
        views = self.layout.views()
        return [self._of(piece, views)[0] for piece in self.pieces]

    def moved(self, before: dict[Any, Tensor]) -> tuple[list[Tensor], Tensor]:
        """`sums` and [2]: norms of the change of the weights since `before`, a copy of this layout, and of them."""
        sums: list[Tensor] = []
        changes: list[Tensor] = []
        weights: list[Tensor] = []
        views = self.layout.views()
        for piece in self.pieces:
            number, values = self._of(piece, views)
            sums.append(number)
            if piece.weights:
                weights.append(number)
                changes.append(_norm(values.sub_(_plain(before[piece.key][piece.low : piece.high]))))
        return sums, torch.stack([_total(changes), _total(weights)]) if weights else torch.zeros(2)

    def _of(self, piece: Piece, views: list[Tensor]) -> tuple[Tensor, Tensor]:
        parts = [views[i] if high - low == views[i].numel() else views[i][low:high] for i, low, high in piece.parts]
        values = _plain(torch.cat(parts, out=self._scratch[piece.key][: piece.high - piece.low]))
        by_norm = piece.weights or values.is_complex()
        return (_norm(values) if by_norm else values.sum(dtype=_wide(values.dtype))), values


def _plain(values: Tensor) -> Tensor:
    """Eight-bit floats cannot be added up as they are."""
    return values.float() if values.element_size() == 1 else values


def _norm(values: Tensor) -> Tensor:
    return torch.linalg.vector_norm(values, dtype=None if values.is_complex() else _wide(values.dtype))


def _total(norms: list[Tensor]) -> Tensor:
    return torch.linalg.vector_norm(torch.stack([norm.double().to(norms[0].device) for norm in norms]))


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
