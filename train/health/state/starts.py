"""What a step begins from beside the numbers that the steps before it have made: enough to make it again after them.

A copy of the whole state before every step costs a small loop more than its step. So the state is copied every few
steps, and of the steps between them this is kept (docs/health.md, "What it costs").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from .extra_state import batch_copy, keep, keep_options, write
from .flat_tensors import PLAIN, Group, Layout
from .random_states import generators
from .snapshot import Snapshotter

_version = attrgetter("_version")
NOTHING = Layout([])


@dataclass
class Start:
    """layout: the tensors of the state then. batch: (leaf, its copy). backs: each puts something small back."""

    layout: Layout  # once the step has ended NOTHING: it would keep alive what the loop lets go
    batch: list[tuple[Any, Any]]
    backs: list[Callable[[], None]]
    no_grad: list[Tensor]  # parameters without a gradient
    places: list[int]  # addresses of the leaves; 0 of those that are no plain tensors
    copies: dict[Group, Tensor] = field(default_factory=dict)  # none: a `Snapshot` has them

    def put_back(self) -> None:
        """Everything but the numbers of the state."""
        for parameter in self.no_grad:
            parameter.grad = None
        for leaf, kept in self.batch:
            write(leaf, kept)
        for back in self.backs:
            back()


@dataclass(slots=True)
class Stamp:
    """Tells whether anything has written the state since. Writing by `.data` or through another library stays unseen:
    then the steps, made again, end in other numbers than they did."""

    layout: Layout
    versions: list[int]
    places: list[int]
    gradients: list[int]

    def is_followed_by(self, now: Stamp) -> bool:
        """Whether nothing was written in between; that all gradients were let go is no writing."""
        same = now.layout is self.layout and now.versions == self.versions and now.places == self.places
        return same and (now.gradients == self.gradients or not now.gradients)


def stamp_of(snapshotter: Snapshotter, gradients: list[Tensor]) -> Stamp:
    """That of now, of the tensors that were found last."""
    layout = snapshotter.known().layout
    own = [*map(id, gradients), *map(_version, gradients)]
    return Stamp(layout, list(map(_version, layout.tensors)), list(map(Tensor.data_ptr, layout.tensors)), own)


def start_of(snapshotter: Snapshotter, batch: Any, old: Start | None) -> Start:
    """That of now. `old`: one that is no longer needed, whose memory may be used."""
    found = snapshotter.known()
    with torch.no_grad():
        copied = batch_copy(batch, old.batch if old else [])
        return Start(
            found.layout,
            copied,
            [
                *map(keep_options, snapshotter.optimizers),
                *(kept for other in snapshotter.others for kept in keep(other)),
                *snapshotter.modes(),
                generators(),
            ],
            [p for p in found.parameters if p.grad is None],
            [_place_of(leaf) for leaf, _ in copied],
        )


def _place_of(leaf: Any) -> int:
    """The address of a plain tensor of a CPU; 0 of others."""
    return leaf.data_ptr() if type(leaf) in PLAIN and leaf.is_cpu else 0
