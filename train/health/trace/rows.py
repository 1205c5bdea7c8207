"""Which dimension of a batch holds its rows, which rows are bad, and the batch without them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from .pytree import (
    DEEPEST,
    Leaf,
    as_tensor,
    children,
    is_finite,
    is_named_tuple,
    leaves,
    mapped,
    whole_leaves,
)

FAR = 1e4  # a row is suspicious when it is so many times larger than rows usually are
MANY = 5  # a list of so many alike parts holds samples, not fields
List = list[Any] | tuple[Any, ...]


def shape_of(leaf: Leaf) -> tuple[int, ...]:
    """A leaf's shape, as far as it has one: a nested tensor has only a number of parts."""
    if isinstance(leaf, Tensor) and leaf.is_nested:
        return (leaf.size(0),)
    return tuple(map(int, leaf.shape))


def rows_of(tree: Any) -> int:
    """How many rows a batch has: the size that most leaves share as their first or second dimension.

    The second, because sequences are often given time first; where both would do, it is the first. A list of one
    array a sample counts as one leaf of as many rows. 0: no rows.
    """
    shared, first = Counter[int](), Counter[int]()
    lists = sample_lists(tree)
    for found in lists:
        shared[len(found)] += 1
        first[len(found)] += 1
    for leaf in _outside(tree, lists):
        shape = shape_of(leaf)
        shared.update(set(shape[:2]))
        first.update(shape[:1])
    return max(shared, key=lambda size: (shared[size], first[size], size)) if shared else 0


def row_axis(leaf: Leaf, count: int) -> int | None:
    """The dimension in which a leaf holds the rows; None for a leaf that is not made of them."""
    return next((axis for axis, size in enumerate(shape_of(leaf)[:2]) if size == count), None) if count else None


def _outside(tree: Any, lists: Sequence[List]) -> Iterator[Leaf]:
    """Leaves that are no sample of their own."""
    own = {id(part) for found in lists for part in found}
    yield from (leaf for _, leaf in whole_leaves(tree) if id(leaf) not in own)


# -- lists with one array, tensor or number a sample -------------------------------------------------------------------


def sample_lists(tree: Any) -> list[List]:
    """Lists and tuples of a batch that hold one array, tensor or number a sample, as replay buffers give them.

    A list of two fields looks the same as a list of two samples: it takes another list or field of that length, parts
    of unequal length, or more parts than a part has rows.
    """
    found = list(_alike(tree))
    lengths = Counter(len(one) for one in found)
    own = {id(part) for one in found for part in one}
    first = {shape_of(leaf)[0] for _, leaf in whole_leaves(tree) if id(leaf) not in own and len(shape_of(leaf))}

    def are_samples(one: List) -> bool:
        shapes = {shape_of(leaf) for leaf in one} if not _is_number(one[0]) else set[tuple[int, ...]]()
        if len(one) in first:
            return True
        rows = {shape[0] for shape in shapes if shape}
        if lengths[len(one)] > 1 and (len(one) >= MANY or not rows or len(one) >= max(rows)):
            return True
        return bool(shapes) and (len(shapes) > 1 or not rows or len(one) > max(rows))

    return [one for one in found if are_samples(one)]


def _alike(tree: Any, within: tuple[int, ...] = ()) -> Iterator[List]:
    """Lists and tuples of two or more arrays, tensors or numbers of one kind."""
    if isinstance(tree, Tensor | np.ndarray | str | bytes) or id(tree) in within or len(within) >= DEEPEST:
        return
    if isinstance(tree, list | tuple) and not is_named_tuple(tree):
        parts = cast("List", tree)
        numbers = len(parts) >= MANY and all(map(_is_number, parts))
        if numbers or (len(parts) > 1 and _are_of_one_kind(parts)):
            yield parts
            return
    for _, child in children(tree):
        yield from _alike(child, (*within, id(cast("Any", tree))))


def _are_of_one_kind(parts: List) -> bool:
    if not all(isinstance(part, Tensor | np.ndarray) for part in parts):
        return False
    shapes = {shape_of(part) for part in parts}
    return len(shapes) == 1 or (len({s[1:] for s in shapes}) == 1 and len({len(s) for s in shapes}) == 1)


def _is_number(part: Any) -> bool:
    return isinstance(part, int | float | np.number)


def has_bad_numbers(tree: Any) -> bool:
    """Whether a list of a batch holds a Python number that is NaN or infinite: torch copies it out of sight."""
    return any(_is_bad_number(part) for one in _alike(tree) for part in one)


def _is_bad_number(part: Any) -> bool:
    return _is_number(part) and not math.isfinite(part)


# -- bad rows ----------------------------------------------------------------------------------------------------------


def bad_rows_in(tree: Any) -> list[int]:
    """The rows of a batch that hold a non-finite number themselves."""
    count, lists = rows_of(tree), sample_lists(tree)
    bad: set[int] = set()
    for leaf in _outside(tree, lists):
        axis = row_axis(leaf, count)
        if isinstance(leaf, Tensor) and leaf.layout is torch.sparse_coo and axis is not None:
            values, indices = leaf._values(), leaf._indices()
            wrong = ~torch.isfinite(values.reshape(len(values), -1)).all(1)
            bad |= {int(row) for row in indices[axis][wrong]}
        elif (tensor := as_tensor(leaf)) is not None and not is_finite(tensor):
            bad |= set(bad_rows(tensor, count))
    for found in lists:
        if len(found) == count:
            bad |= {i for i, part in enumerate(found) if _is_bad_number(part) or _is_bad_leaf(part)}
    return sorted(bad)


def _is_bad_leaf(part: Any) -> bool:
    tensor = as_tensor(cast("Leaf", part)) if isinstance(part, Tensor | np.ndarray) else None
    return tensor is not None and not is_finite(tensor)


def bad_rows(tensor: Tensor, count: int, time_first: bool = False, only_nan: bool = False) -> list[int]:
    """Which of `count` rows hold a non-finite number; [] where the tensor is not made of rows. only_nan: a NaN."""
    if not (tensor.is_floating_point() or tensor.is_complex()) or not count or tensor.layout is not torch.strided:
        return []
    if tensor.is_nested or not tensor.ndim:
        return []
    return rows_where(torch.isnan(tensor) if only_nan else ~torch.isfinite(tensor), count, time_first)


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
    own = {id(part) for found in sample_lists(tree) for part in found}
    result: list[tuple[str, list[int], float, float]] = []
    for i, (name, leaf) in enumerate(leaves(tree)):
        tensor = as_tensor(leaf)
        if tensor is None or not tensor.is_floating_point() or row_axis(tensor, count) is None or id(leaf) in own:
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


# -- the batch without them --------------------------------------------------------------------------------------------


def without_rows(tree: Any, rows: list[int]) -> Any:
    """The batch without these rows (of every leaf that is made of rows)."""
    count = rows_of(tree)
    return _taken(tree, np.setdiff1d(np.arange(count), rows), count)


def _taken(tree: Any, rows: np.ndarray[Any, Any], count: int) -> Any:
    lists = {id(one) for one in sample_lists(tree) if len(one) == count}

    def samples(container: Any) -> Any:
        return type(container)(container[i] for i in rows) if id(container) in lists else None

    def take(leaf: Leaf) -> Leaf:
        axis = row_axis(leaf, count)
        if axis is None:
            return leaf
        if not isinstance(leaf, Tensor):
            return leaf.take(rows, axis)
        if leaf.layout not in (torch.strided, torch.sparse_coo) or leaf.is_nested:
            return leaf
        chosen = torch.from_numpy(rows)  # pyright: ignore[reportUnknownMemberType]
        return leaf.index_select(axis, chosen.to(leaf.device))

    return mapped(tree, take, samples)


def overwrite_rows(tree: Any, rows: list[int]) -> None:
    """These rows of a batch become copies of its others, in their own memory: seen by a step that holds the batch in
    other ways than by its argument."""
    count, lists = rows_of(tree), sample_lists(tree)
    others = np.setdiff1d(np.arange(count), rows)
    taken = np.arange(count)
    taken[rows] = np.resize(others, len(rows))
    for leaf in _outside(tree, lists):
        axis = row_axis(leaf, count)
        if axis is not None and isinstance(leaf, Tensor) and leaf.layout is torch.strided and not leaf.is_nested:
            chosen = torch.from_numpy(taken).to(leaf.device)  # pyright: ignore[reportUnknownMemberType]
            with torch.no_grad():
                leaf.copy_(leaf.index_select(axis, chosen))
        elif axis is not None and isinstance(leaf, np.ndarray) and leaf.flags.writeable:
            leaf[...] = leaf.take(taken, axis)
    for found in lists:
        for row in rows if len(found) == count else ():
            _overwrite(found[row], found[int(taken[row])])


def _overwrite(part: Any, other: Any) -> None:
    if not isinstance(part, Tensor | np.ndarray) or shape_of(cast("Leaf", part)) != shape_of(other):
        return
    if isinstance(part, Tensor):
        with torch.no_grad():
            part.copy_(other)
    elif part.flags.writeable:
        part[...] = other


def scaled(tree: Any, name: str, factor: float) -> Any:
    """The batch with one field multiplied."""
    wanted = {id(leaf) for path, leaf in whole_leaves(tree) if name in (path, f"{path}.values")}
    return mapped(tree, lambda leaf: leaf * factor if id(leaf) in wanted else leaf)


def is_time_first(tree: Any, count: int) -> bool:
    """Whether the largest leaf that has rows has them in its second dimension."""
    lists = sample_lists(tree)
    made = [(leaf, axis) for leaf in _outside(tree, lists) if (axis := row_axis(leaf, count)) is not None]
    return max(made, key=lambda one: (one[0].ndim, np.prod(shape_of(one[0]))))[1] == 1 if made else False


class Rows:
    """Which rows of a batch the tensors of a step hold, also where it takes the batch in parts (micro-batches)."""

    def __init__(self, batch: Any, count: int | None = None) -> None:
        self.count = rows_of(batch) if count is None else count
        self.time_first = is_time_first(batch, self.count)
        own = {id(part) for found in sample_lists(batch) for part in found}
        made = [(t, axis) for _, leaf in leaves(batch) if id(leaf) not in own and (t := as_tensor(leaf)) is not None
                and t.numel() and (axis := row_axis(t, self.count)) is not None]  # fmt: skip
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

    def bad(self, tensor: Tensor, index: int, only_nan: bool = False) -> list[int]:
        """Rows in which a tensor of this operation is non-finite. only_nan: NaN; infinities may be a mask's."""
        part = self._part(tensor) or self._at(index)
        return [part[i] for i in bad_rows(tensor, len(part), self.time_first, only_nan)]

    def size_at(self, index: int) -> int:
        """How many rows an operation works on."""
        return len(self._at(index))

    def _at(self, index: int) -> list[int]:
        return next(rows for first, rows in reversed(self._marks) if first <= index)

    def _part(self, tensor: Tensor) -> list[int] | None:
        """The rows of a view of the batch, told by where it lies in memory."""
        is_odd = tensor.layout is not torch.strided or tensor.is_nested
        at = tensor.data_ptr() if self._spans and not is_odd else 0
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
