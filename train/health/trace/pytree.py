"""Whatever a step is handed or changes, seen as named leaves: tensors and arrays inside tuples, dicts and objects.

A sparse or nested tensor is seen as the plain tensors that it is made of; they share its memory.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Protocol, TypeGuard, cast

import numpy as np
import torch
from torch import Tensor

Leaf = Tensor | np.ndarray[Any, Any]
DEEPEST = 12  # containers inside of each other; a batch that holds itself would have no end
# What is no container, although it has attributes.
OPAQUE = (torch.nn.Module, torch.optim.Optimizer, torch.Generator, type, ModuleType, FunctionType, MethodType,
          BuiltinFunctionType, functools.partial)  # fmt: skip
_PARTS = {
    torch.sparse_coo: (("values", "_values"), ("indices", "_indices")),
    torch.sparse_csr: (("values", "values"), ("rows", "crow_indices"), ("columns", "col_indices")),
    torch.sparse_bsr: (("values", "values"), ("rows", "crow_indices"), ("columns", "col_indices")),
    torch.sparse_csc: (("values", "values"), ("columns", "ccol_indices"), ("rows", "row_indices")),
    torch.sparse_bsc: (("values", "values"), ("columns", "ccol_indices"), ("rows", "row_indices")),
}  # (name, method) of the plain tensors that a layout is made of
_copyable: dict[type, bool] = {}  # classes of tensors, by whether their numbers can be copied and compared


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Leaf]]:
    """(name, leaf) of every tensor and array in a batch; a name is the way to it, such as `planes` or `0.tokens`."""
    for name, leaf in whole_leaves(tree, path):
        if isinstance(leaf, Tensor) and not is_plain(leaf):
            yield from ((f"{name}.{part}", tensor) for part, tensor in parts_of(leaf) or ())
        else:
            yield name, leaf


def plain_parts(tree: Any) -> list[Leaf]:
    """The leaves of a tuple or list of tensors whose numbers can be copied as they are; [] of any other batch."""
    if type(tree) not in (tuple, list):
        return []
    parts = cast("Sequence[Any]", tree)
    return [*parts] if all(type(part) is Tensor and is_plain(part) for part in parts) else []


def whole_leaves(tree: Any, path: str = "", within: tuple[int, ...] = ()) -> Iterator[tuple[str, Leaf]]:
    """The same; a sparse or nested tensor is one leaf, also one whose numbers cannot be kept."""
    if isinstance(tree, Tensor | np.ndarray):
        yield path or "batch", tree
        return
    if isinstance(tree, str | bytes | int | float | None) or id(tree) in within or len(within) >= DEEPEST:
        return
    for name, child in children(tree):
        yield from whole_leaves(child, f"{path}.{name}" if path else name, (*within, id(tree)))


def children(tree: Any) -> Iterator[tuple[str, Any]]:
    """(name, part) of a container; nothing for what is none."""
    if type(tree) in (tuple, list):  # what most batches are: the questions below cost more
        parts = cast("Sequence[Any]", tree)
        yield from ((str(i), value) for i, value in enumerate(parts))
    elif isinstance(tree, Mapping):
        items = cast("Mapping[object, Any]", tree)
        yield from ((str(key), value) for key, value in items.items())
    elif is_named_tuple(tree):
        yield from zip(tree._fields, tree, strict=True)  # pyright: ignore[reportPrivateUsage]
    elif isinstance(tree, list | tuple):
        parts = cast("Sequence[Any]", tree)
        yield from ((str(i), value) for i, value in enumerate(parts))
    elif dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        yield from ((field.name, getattr(tree, field.name, None)) for field in dataclasses.fields(tree))
    elif is_object(tree):
        attributes = dict(vars(tree))
        store = attributes.get("_store")  # PyTorch Geometric: its fields are known by their own names
        yield from children(store) if isinstance(store, Mapping) else ()
        yield from ((name, value) for name, value in attributes.items() if value is not store or store is None)


def is_object(tree: Any) -> bool:
    """Whether something keeps its fields as attributes; it may be callable, as batches of graphs are."""
    return hasattr(tree, "__dict__") and not isinstance(tree, OPAQUE)


class _NamedTuple(Protocol):
    """What every class made by `typing.NamedTuple` has."""

    _fields: tuple[str, ...]

    def __iter__(self) -> Iterator[Any]: ...


def is_named_tuple(tree: Any) -> TypeGuard[_NamedTuple]:
    """Whether a tuple has names for its parts."""
    return isinstance(tree, tuple) and hasattr(tree, "_fields")  # pyright: ignore[reportUnknownArgumentType]


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor's numbers can be copied and compared as they are."""
    if tensor.layout is not torch.strided or tensor.is_nested or tensor.is_quantized:
        return False
    if type(tensor) in (Tensor, torch.nn.Parameter):
        return True
    if type(tensor) not in _copyable:
        _copyable[type(tensor)] = _can_copy(tensor)
    return _copyable[type(tensor)]


def _can_copy(tensor: Tensor) -> bool:
    try:
        kept = tensor.detach().clone()
        kept.copy_(tensor.detach())
        torch.equal(kept, tensor.detach())
        is_finite(tensor)
    except Exception:  # such as a MaskedTensor: what a class cannot do it says in its own way
        return False
    return True


def parts_of(tensor: Tensor) -> list[tuple[str, Tensor]] | None:
    """(name, plain tensor) of what a sparse or nested tensor is made of, over its memory; None: unknown."""
    if tensor.is_nested:
        names: Sequence[tuple[str, str]] = (("values", "values"),)
        names = (*names, ("offsets", "offsets")) if tensor.layout is torch.jagged else names
    else:
        names = _PARTS.get(tensor.layout, ())
    try:
        with torch.no_grad():
            found = [(name, cast("Tensor", getattr(tensor, method)()).detach()) for name, method in names]
    except (RuntimeError, NotImplementedError, AttributeError):
        return None
    return found if found and all(is_plain(part) for _, part in found) else None


def left_alone(tree: Any, keep_parts: bool = True) -> list[str]:
    """What the recorder can neither keep nor read of a batch: `edges (torch._mkldnn)`.

    keep_parts: it can where it knows the plain tensors that a sparse or nested one is made of.
    """
    odd = [(name, leaf) for name, leaf in whole_leaves(tree) if isinstance(leaf, Tensor) and not is_plain(leaf)]
    return [f"{name} ({_kind(leaf)})" for name, leaf in odd if not keep_parts or parts_of(leaf) is None]


def _kind(tensor: Tensor) -> str:
    if tensor.layout is not torch.strided:
        return str(tensor.layout)
    return "quantized" if tensor.is_quantized else type(tensor).__name__


def mapped(tree: Any, change: Callable[[Leaf], Any], inside: Callable[[Any], Any] = lambda _: None,
           within: tuple[int, ...] = ()) -> Any:  # fmt: skip
    """The same tree with every leaf replaced; containers are new, everything else is shared.

    inside: of a container, what stands for it; None: look into it.
    """
    if isinstance(tree, Tensor | np.ndarray):
        return change(cast("Leaf", tree))
    if isinstance(tree, str | bytes | int | float | None) or id(tree) in within or len(within) >= DEEPEST:
        return tree
    whole = inside(tree)
    if whole is not None:
        return whole
    return _rebuilt(tree, lambda value: mapped(value, change, inside, (*within, id(tree))))


def _rebuilt(tree: Any, part: Callable[[Any], Any]) -> Any:
    """A container of the same kind, holding `part(value)` of every value."""
    kind = cast("Callable[..., Any]", type(tree))
    if isinstance(tree, dict):
        given = cast("dict[Any, Any]", tree)
        items = {key: part(value) for key, value in given.items()}
        if type(given) is dict:
            return items
        made = copy.copy(given)  # a defaultdict or a Counter cannot be made of a dict
        made.update(items)
        return made
    if is_named_tuple(tree):
        return kind(*map(part, tree))
    if isinstance(tree, list | tuple):
        return kind(map(part, cast("Sequence[Any]", tree)))
    if dataclasses.is_dataclass(tree) and not hasattr(tree, "__dict__"):  # its fields are slots
        fields = {f.name: part(getattr(tree, f.name)) for f in dataclasses.fields(tree) if f.init}
        return dataclasses.replace(cast("Any", tree), **fields)
    if is_object(tree):  # by its attributes, whatever its constructor asks for: a UserDict, a batch of graphs
        made: Any = object.__new__(cast("type[Any]", type(tree)))
        attributes = cast("dict[str, Any]", cast("Any", tree).__dict__)
        made.__dict__.update({name: part(value) for name, value in attributes.items()})
        return made
    return tree


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
    if values.layout is not torch.strided or values.is_nested:
        return all(is_finite(part) for _, part in parts_of(values) or ())
    if values.is_quantized or values.is_meta:
        return True
    if values.is_complex():
        values = torch.view_as_real(values.resolve_conj())
    if not values.is_floating_point() or not values.numel():
        return True
    if values.element_size() == 1:  # the eight-bit floats know no order here
        return bool(torch.isfinite(values.float()).all())
    low, high = torch.aminmax(values)
    return math.isfinite(low) and math.isfinite(high)
