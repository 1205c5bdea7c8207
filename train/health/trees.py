"""Whatever a step is handed or changes, seen as named leaves: tensors and arrays inside tuples, dicts and objects."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

Leaf = Tensor | np.ndarray[Any, Any]


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Leaf]]:
    """(name, leaf) of every tensor and array in a batch; a name is the way to it, such as `planes` or `0.tokens`."""
    if isinstance(tree, Tensor | np.ndarray):
        yield path or "batch", tree
        return
    for name, child in _children(tree):
        yield from leaves(child, f"{path}.{name}" if path else name)


def _children(tree: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping):
        yield from ((str(key), value) for key, value in tree.items())
    elif isinstance(tree, tuple) and hasattr(tree, "_fields"):
        yield from zip(tree._fields, tree, strict=True)  # pyright: ignore[reportAttributeAccessIssue]
    elif isinstance(tree, list | tuple):
        yield from ((str(i), value) for i, value in enumerate(tree))
    elif dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        yield from ((field.name, getattr(tree, field.name)) for field in dataclasses.fields(tree))
    elif hasattr(tree, "__dict__") and not isinstance(tree, type | torch.nn.Module) and not callable(tree):
        yield from vars(tree).items()


def mapped(tree: Any, change: Callable[[Leaf], Leaf]) -> Any:
    """The same tree with every leaf replaced; containers are new, everything else is shared."""
    if isinstance(tree, Tensor | np.ndarray):
        return change(tree)
    if isinstance(tree, dict):
        return type(tree)({key: mapped(value, change) for key, value in tree.items()})
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(mapped(value, change) for value in tree))
    if isinstance(tree, list | tuple):
        return type(tree)(mapped(value, change) for value in tree)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        fields = {f.name: mapped(getattr(tree, f.name), change) for f in dataclasses.fields(tree) if f.init}
        return dataclasses.replace(tree, **fields)
    return tree


def rows_of(tree: Any) -> int:
    """How many rows a batch has: the first dimension that most of its leaves share; 0 when it has none."""
    sizes = Counter(int(leaf.shape[0]) for _, leaf in leaves(tree) if leaf.ndim)
    return max(sizes, key=lambda size: (sizes[size], size)) if sizes else 0


def without_rows(tree: Any, rows: list[int]) -> Any:
    """The batch without these rows (of every leaf that has as many rows as the batch)."""
    count = rows_of(tree)
    keep = np.setdiff1d(np.arange(count), rows)

    def cut(leaf: Leaf) -> Leaf:
        if not leaf.ndim or leaf.shape[0] != count:
            return leaf
        return leaf[torch.from_numpy(keep).to(leaf.device)] if isinstance(leaf, Tensor) else leaf[keep]

    return mapped(tree, cut)


def as_tensor(leaf: Leaf) -> Tensor | None:
    """A leaf as a tensor over the same memory; None for what torch has no numbers for."""
    if isinstance(leaf, Tensor):
        return leaf.detach()
    try:
        return torch.from_numpy(leaf)
    except (TypeError, ValueError):
        return None


def bad_rows(tensor: Tensor, count: int) -> list[int]:
    """Which of `count` rows hold a number that is none; [] where the tensor is not made of rows."""
    if not (tensor.is_floating_point() or tensor.is_complex()) or not tensor.ndim or not count:
        return []
    return rows_where(~torch.isfinite(tensor), count)


def rows_where(flags: Tensor, count: int) -> list[int]:
    """Rows of a batch with any flag set: the first dimension, the second (time first), or rows cut in equal pieces."""
    shape = flags.shape
    if not flags.ndim or not count:
        return []
    if shape[0] == count:
        per_row = flags.reshape(count, -1).any(1)
    elif flags.ndim > 1 and shape[1] == count:
        per_row = flags.transpose(0, 1).reshape(count, -1).any(1)
    elif shape[0] and shape[0] % count == 0:
        per_row = flags.reshape(count, -1).any(1)
    else:
        return []
    return [int(i) for i in per_row.nonzero().flatten()]
