"""Whatever a step is handed or changes, seen as named leaves: tensors and arrays inside tuples, dicts and objects."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeGuard, cast

import numpy as np
import torch
from torch import Tensor

Leaf = Tensor | np.ndarray[Any, Any]
FAR = 1e4  # a row is suspicious when it is so many times larger than rows usually are


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Leaf]]:
    """(name, leaf) of every tensor and array in a batch; a name is the way to it, such as `planes` or `0.tokens`."""
    if isinstance(tree, Tensor | np.ndarray):
        yield path or "batch", tree
        return
    for name, child in _children(tree):
        yield from leaves(child, f"{path}.{name}" if path else name)


def _children(tree: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping):
        items = cast("Mapping[object, Any]", tree)
        yield from ((str(key), value) for key, value in items.items())
    elif _is_named_tuple(tree):
        yield from zip(tree._fields, tree, strict=True)  # pyright: ignore[reportPrivateUsage]
    elif isinstance(tree, list | tuple):
        parts = cast("Sequence[Any]", tree)
        yield from ((str(i), value) for i, value in enumerate(parts))
    elif dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        yield from ((field.name, getattr(tree, field.name)) for field in dataclasses.fields(tree))
    elif hasattr(tree, "__dict__") and not isinstance(tree, type | torch.nn.Module) and not callable(tree):
        attributes = cast("dict[str, Any]", vars(tree))
        yield from attributes.items()


class _NamedTuple(Protocol):
    """What every class made by `typing.NamedTuple` has."""

    _fields: tuple[str, ...]

    def __iter__(self) -> Iterator[Any]: ...


def _is_named_tuple(tree: Any) -> TypeGuard[_NamedTuple]:
    return isinstance(tree, tuple) and hasattr(tree, "_fields")  # pyright: ignore[reportUnknownArgumentType]


def mapped(tree: Any, change: Callable[[Leaf], Leaf]) -> Any:
    """The same tree with every leaf replaced; containers are new, everything else is shared."""
    kind = cast("Callable[..., Any]", type(tree))
    if isinstance(tree, Tensor | np.ndarray):
        return change(cast("Leaf", tree))
    if isinstance(tree, dict):
        items = cast("dict[Any, Any]", tree)
        return kind({key: mapped(value, change) for key, value in items.items()})
    if _is_named_tuple(tree):
        return kind(*(mapped(value, change) for value in tree))
    if isinstance(tree, list | tuple):
        parts = cast("Sequence[Any]", tree)
        return kind(mapped(value, change) for value in parts)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        fields = {f.name: mapped(getattr(tree, f.name), change) for f in dataclasses.fields(tree) if f.init}
        return dataclasses.replace(tree, **fields)
    return tree


def rows_of(tree: Any) -> int:
    """How many rows a batch has: the size that most leaves share as their first or second dimension.

    The second, because sequences are often given time first; where both would do, it is the first. 0: no rows.
    """
    shared, first = Counter[int](), Counter[int]()
    for _, leaf in leaves(tree):
        shared.update(set(map(int, leaf.shape[:2])))
        first.update(map(int, leaf.shape[:1]))
    return max(shared, key=lambda size: (shared[size], first[size], size)) if shared else 0


def row_axis(leaf: Leaf, count: int) -> int | None:
    """The dimension in which a leaf holds the rows; None for a leaf that is not made of them."""
    return next((axis for axis, size in enumerate(leaf.shape[:2]) if size == count), None) if count else None


def is_time_first(tree: Any, count: int) -> bool:
    """Whether the largest leaf that has rows has them in its second dimension."""
    made = [(leaf, axis) for _, leaf in leaves(tree) if (axis := row_axis(leaf, count)) is not None]
    return max(made, key=lambda one: (one[0].ndim, np.prod(one[0].shape)))[1] == 1 if made else False


def without_rows(tree: Any, rows: list[int]) -> Any:
    """The batch without these rows (of every leaf that is made of rows)."""
    count = rows_of(tree)
    return _taken(tree, np.setdiff1d(np.arange(count), rows), count)


def replaced_rows(tree: Any, rows: list[int]) -> Any:
    """The batch with these rows replaced by copies of its others, for steps that need the number of rows."""
    count = rows_of(tree)
    others = np.setdiff1d(np.arange(count), rows)
    taken = np.arange(count)
    taken[rows] = np.resize(others, len(rows))
    return _taken(tree, taken, count)


def _taken(tree: Any, rows: np.ndarray[Any, Any], count: int) -> Any:
    def take(leaf: Leaf) -> Leaf:
        axis = row_axis(leaf, count)
        if axis is None:
            return leaf
        if isinstance(leaf, Tensor):
            chosen = torch.from_numpy(rows)  # pyright: ignore[reportUnknownMemberType]
            return leaf.index_select(axis, chosen.to(leaf.device))
        return leaf.take(rows, axis)

    return mapped(tree, take)


def as_tensor(leaf: Leaf) -> Tensor | None:
    """A leaf as a tensor over the same memory; None for what torch has no numbers for."""
    if isinstance(leaf, Tensor):
        return leaf.detach()
    try:
        return torch.from_numpy(leaf)  # pyright: ignore[reportUnknownMemberType]
    except (TypeError, ValueError):
        return None


def is_finite(tensor: Tensor) -> bool:
    """Whether every number of a tensor is one. Least and greatest carry NaN and infinities: one pass, no copy."""
    values = tensor.detach()
    if values.is_complex():
        values = torch.view_as_real(values.resolve_conj())
    if not values.is_floating_point() or not values.numel():
        return True
    if values.element_size() == 1:  # the eight-bit floats know no order here
        return bool(torch.isfinite(values.float()).all())
    low, high = torch.aminmax(values)
    return math.isfinite(low) and math.isfinite(high)


def bad_rows(tensor: Tensor, count: int, time_first: bool = False) -> list[int]:
    """Which of `count` rows hold a non-finite number; [] where the tensor is not made of rows."""
    if not (tensor.is_floating_point() or tensor.is_complex()) or not tensor.ndim or not count:
        return []
    return rows_where(~torch.isfinite(tensor), count, time_first)


def rows_where(flags: Tensor, count: int, time_first: bool = False) -> list[int]:
    """Rows of a batch with any flag set: the first dimension, the second (time first), or all rows of all times in one
    dimension: row by row, or time by time where the batch is given time first."""
    axis = row_axis(flags, count)
    if axis is not None:
        per_row = flags.movedim(axis, 0).reshape(count, -1).any(1)
    elif flags.ndim and count and flags.shape[0] and flags.shape[0] % count == 0:
        per_row = flags.reshape(-1, count, flags[0].numel()).any(2).any(0) if time_first else (
            flags.reshape(count, -1).any(1)
        )  # fmt: skip
    else:
        return []
    return [int(i) for i in per_row.nonzero().flatten()]


def far_rows(tree: Any, earlier: list[list[Leaf]]) -> list[tuple[str, list[int], float, float]]:
    """(field, rows, their size, the usual size) of rows far larger than rows of this field are, here and earlier."""
    count = rows_of(tree)
    result: list[tuple[str, list[int], float, float]] = []
    for i, (name, leaf) in enumerate(leaves(tree)):
        tensor = as_tensor(leaf)
        if tensor is None or not tensor.is_floating_point() or row_axis(tensor, count) is None:
            continue
        size = _row_sizes(tensor, count)
        past = [_row_sizes(t, rows_of([t])) for kept in earlier if i < len(kept)
                and (t := as_tensor(kept[i])) is not None and t.ndim and t.numel()]  # fmt: skip
        usual = float(torch.cat([size, *past]).median()) or 1.0
        far = [int(row) for row in (size > FAR * max(usual, 1e-6)).nonzero().flatten()]
        if far:
            result.append((name, far, float(size.max()), usual))
    return result


def _row_sizes(tensor: Tensor, count: int) -> Tensor:
    """The largest finite number of every row."""
    rows = tensor.detach().movedim(row_axis(tensor, count) or 0, 0).reshape(count, -1)
    return torch.where(torch.isfinite(rows), rows.abs(), 0.0).amax(1).double().cpu()


def scaled(tree: Any, name: str, factor: float) -> Any:
    """The batch with one field multiplied."""
    wanted = {id(leaf) for path, leaf in leaves(tree) if path == name}
    return mapped(tree, lambda leaf: leaf * factor if id(leaf) in wanted else leaf)


class Rows:
    """Which rows of a batch the tensors of a step hold, also where it takes the batch in parts (micro-batches)."""

    def __init__(self, batch: Any, count: int | None = None) -> None:
        self.count = rows_of(batch) if count is None else count
        self.time_first = is_time_first(batch, self.count)
        made = [(t, axis) for _, leaf in leaves(batch) if (t := as_tensor(leaf)) is not None and t.numel()
                and (axis := row_axis(t, self.count)) is not None]  # fmt: skip
        self._spans = [(t.data_ptr(), t.data_ptr() + t.numel() * t.element_size(), t, axis) for t, axis in made]
        self._marks: list[tuple[int, list[int]]] = [(-1, list(range(self.count)))]  # (operation, rows from there on)

    def see(self, index: int, name: str, inputs: list[tuple[str, Tensor]]) -> None:
        """An operation is about to read these: a part of the batch says which rows come next."""
        part = next((rows for _, t in inputs if (rows := self._part(t))), None)
        if part and name in ("index", "index_select") and len(inputs) == 2 and inputs[1][1].ndim == 1:
            picked = inputs[1][1]
            picked = picked.nonzero().flatten() if picked.dtype == torch.bool else picked
            part = [part[int(i)] for i in picked] if len(picked) and int(picked.max()) < len(part) else part
        if part and part != self._marks[-1][1]:
            self._marks.append((index, part))

    def bad(self, tensor: Tensor, index: int) -> list[int]:
        """Rows in which a tensor of this operation is non-finite."""
        part = self._part(tensor) or self._at(index)
        return [part[i] for i in bad_rows(tensor, len(part), self.time_first)]

    def size_at(self, index: int) -> int:
        """How many rows an operation works on."""
        return len(self._at(index))

    def _at(self, index: int) -> list[int]:
        return next(rows for first, rows in reversed(self._marks) if first <= index)

    def _part(self, tensor: Tensor) -> list[int] | None:
        """The rows of a view of the batch, told by where it lies in memory."""
        at = tensor.data_ptr() if self._spans and tensor.layout == torch.strided else 0
        for low, high, leaf, axis in self._spans:
            stride = leaf.stride(axis) * leaf.element_size()
            if not low <= at < high or not stride:
                continue
            first = (at - low) // stride % self.count
            for size, step in zip(tensor.shape[:2], tensor.stride(), strict=False):
                step *= tensor.element_size()
                fits = size > 1 and step % stride == 0 and first + (size - 1) * (step // stride) < self.count
                if fits and 0 < step // stride < self.count:
                    return [first + i * (step // stride) for i in range(size)]
        return None
