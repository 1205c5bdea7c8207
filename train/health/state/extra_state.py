"""Batches, optimizers and everything else that a step may change, copied and restored in place."""

from __future__ import annotations

import copy
import random
from collections import deque
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..trace.optimizer_hooks import with_inner
from ..trace.pytree import leaves, plain_parts
from .flat_tensors import LOST, has_lost_memory
from .jit import compiled

# What has a snapshotter of its own, and what holds no state.
SHARED = (nn.Module, torch.optim.Optimizer, type, ModuleType, FunctionType, MethodType, BuiltinFunctionType)


class Attributes:
    """For `extra_state`: a few plain attributes of an object that holds much else, such as a counter of steps."""

    __slots__ = ("_held", "_names")  # nothing walks from here to all that the object holds

    def __init__(self, holder: Any, names: tuple[str, ...]) -> None:
        self._held, self._names = cast("dict[str, Any]", vars(holder)), names

    def keep(self) -> Callable[[], None]:
        """Puts them back."""
        values = {name: self._held[name] for name in self._names if name in self._held}
        return lambda: self._held.update(values)


UNCHANGING = (bool, int, float, str, tuple, type(None))


def batch_copy(batch: Any, old: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Copies of a batch's leaves, in the memory of an older copy where it fits: fresh memory costs more."""
    return copies_of(plain_parts(batch) or [leaf for _, leaf in leaves(batch)], old)


def copies_of(found: list[Any], old: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """(leaf, its copy)"""
    reusable = [kept for _, kept in old] if len(old) == len(found) else [None] * len(found)
    return [(leaf, _copy_of(leaf, kept)) for leaf, kept in zip(found, reusable, strict=True)]


def _copy_of(leaf: Any, into: Any) -> Any:
    fits = type(into) is type(leaf) and into.shape == leaf.shape and into.dtype == leaf.dtype
    if isinstance(leaf, Tensor):
        plain = leaf.detach() if leaf.requires_grad else leaf
        return into.copy_(plain) if fits and into.device == leaf.device else plain.clone()
    if fits:
        np.copyto(into, leaf)
        return into
    return leaf.copy()


def write(leaf: Any, kept: Any) -> None:
    """Numbers back into the leaf that they were copied from."""
    if isinstance(leaf, Tensor):
        with torch.no_grad():
            if has_lost_memory(leaf):
                leaf.data = kept.clone()
            else:
                leaf.copy_(kept)
    elif leaf.flags.writeable:
        leaf[...] = kept


def same_bits(a: Any, b: Any) -> bool:
    """Equal to the bit, NaN included."""
    if isinstance(a, Tensor):
        if has_lost_memory(a):
            raise RuntimeError(LOST)
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        one, two = a.contiguous().view(-1), b.contiguous().view(-1)
        wide = torch.int64 if one.nbytes % 8 == 0 and _at_words(one) and _at_words(two) else torch.uint8
        return torch.equal(one.view(wide), two.view(wide))
    if a.dtype == object:
        return True
    if a.nbytes != b.nbytes:
        return False
    one, two = _words(a), _words(b)
    if not compiled() or one.dtype != np.uint64:
        return bool(np.array_equal(one, two))
    from .kernels import same_words  # imports numba

    return same_words(one, two)


def _at_words(tensor: Tensor) -> bool:
    """Whether its memory begins at a multiple of eight bytes, as torch's wide numbers must."""
    return tensor.storage_offset() * tensor.itemsize % 8 == 0 and tensor.data_ptr() % 8 == 0


def _words(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The bits of an array in the widest words that fit."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(np.uint64 if flat.nbytes % 8 == 0 and flat.nbytes else np.uint8)


def keep(thing: Any, seen: set[int] | None = None, depth: int = 6) -> list[Callable[[], None]]:
    """Functions that restore an item of `extra_state`: a generator, a scheduler, a scaler, an average, a dict, …

    Every object stays the one it is: a scheduler inside a scheduler is known to others by its identity, and a copy
    of it would drive a copy of the optimizer.
    """
    seen = set() if seen is None else seen
    if id(thing) in seen or depth == 0 or isinstance(thing, SHARED):
        return []
    seen.add(id(thing))
    if isinstance(thing, Attributes):
        return [thing.keep()]
    if isinstance(thing, torch.Generator):
        state = thing.get_state()
        return [lambda: thing.set_state(state) and None]
    if isinstance(thing, np.random.Generator):
        inner = copy.deepcopy(thing.bit_generator.state)
        return [lambda: setattr(thing.bit_generator, "state", copy.deepcopy(inner))]
    if isinstance(thing, np.random.RandomState):
        legacy = thing.get_state()
        return [lambda: thing.set_state(legacy)]
    if isinstance(thing, random.Random):
        python = thing.getstate()
        return [lambda: thing.setstate(python)]
    if isinstance(thing, Tensor):
        return [_tensor(thing)]
    if isinstance(thing, np.ndarray):
        kept = cast("np.ndarray[Any, Any]", thing.copy())
        return [lambda: write(thing, kept)]
    if isinstance(thing, tuple):
        parts = cast("tuple[Any, ...]", thing)
        return [back for value in parts for back in keep(value, seen, depth - 1)]
    if isinstance(thing, dict | list | set | deque):
        holder = cast("dict[Any, Any] | list[Any] | set[Any] | deque[Any]", thing)
        return _container(holder, seen, depth)
    return _container(cast("dict[str, Any]", vars(thing)), seen, depth) if hasattr(thing, "__dict__") else []


def _container(
    holder: dict[Any, Any] | list[Any] | set[Any] | deque[Any], seen: set[int], depth: int
) -> list[Callable[[], None]]:
    """Puts a dict, list, set or deque back: the same things in it, and each of them as it was."""
    items = dict(holder) if isinstance(holder, dict) else list(holder)
    values = list(items.values()) if isinstance(items, dict) else items
    parts = [back for value in values for back in keep(value, seen, depth - 1)]

    def back() -> None:
        holder.clear()
        holder.update(items) if isinstance(holder, dict | set) else holder.extend(items)

    return [back, *parts]


def _tensor(tensor: Tensor) -> Callable[[], None]:
    kept = tensor.detach().clone()

    return lambda: write(tensor, kept)


class Listed:
    """Copies of the tensors in an optimizer's lists, such as the old directions of LBFGS.

    old: older copies, whose memory may be used: fresh memory each time leaves holes in what the process has.
    """

    def __init__(self, old: list[Tensor]) -> None:
        self.copies: list[Tensor] = []
        self._free: dict[Any, list[Tensor]] = {}
        for one in old:
            self._free.setdefault(_kind(one), []).append(one)

    def copied(self, value: Any) -> Any:
        """A list of plain tensors copied into that memory; all else as `_copied` has it."""
        if type(value) is not list or not value or not all(map(_is_plain, cast("list[Any]", value))):
            return _copied(value)
        tensors = cast("list[Tensor]", value)
        made = {id(one): self._copy(one) for one in {id(one): one for one in tensors}.values()}
        return [made[id(one)] for one in tensors]

    def _copy(self, tensor: Tensor) -> Tensor:
        free = self._free.get(_kind(tensor))
        self.copies.append((free.pop() if free else torch.empty_like(tensor)).copy_(tensor))
        return self.copies[-1]


def listed_bytes(value: Any) -> int:
    """Memory of what `Listed` copies of this."""
    found = cast("list[Any]", value) if type(value) is list else []
    return sum(one.nbytes for one in found if isinstance(one, Tensor))


def _kind(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def _is_plain(value: Any) -> bool:
    return type(value) is Tensor and value.layout == torch.strided and not value.requires_grad


def keep_optimizer(optimizer: torch.optim.Optimizer, listed: Listed) -> Callable[[], None]:
    """Puts the optimizer back, in the same objects. The numbers of the tensors in its state are kept elsewhere."""
    inside = _keep_own(optimizer)
    holder, whole = optimizer.param_groups, optimizer.state
    groups = [(group, list(group["params"]), dict(group), _copied_options(group)) for group in holder]
    state = [(p, inner, {name: listed.copied(v) for name, v in inner.items()}) for p, inner in whole.items()]

    def back() -> None:
        for own in inside:
            own()
        if optimizer.param_groups is not holder:  # a state was loaded
            _set(optimizer, "param_groups", holder)
        if optimizer.state is not whole:
            _set(optimizer, "state", whole)
        holder[:] = [group for group, *_ in groups]
        for group, parameters, options, copied in groups:
            group["params"][:] = parameters
            _write_options(group, options, copied)
        whole.clear()
        for parameter, inner, values in state:
            whole[parameter] = inner
            _write(inner, {name: _copied(value) for name, value in values.items()})

    return back


def keep_options(optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """Puts the options of an optimizer's groups back, such as its rates, and nothing else."""
    groups = [(group, dict(group), _copied_options(group)) for group in optimizer.param_groups]

    def back() -> None:
        for group, options, copied in groups:
            _write_options(group, options, copied)

    return back


def _write_options(group: dict[str, Any], options: dict[str, Any], copied: list[tuple[str, Any]]) -> None:
    own = {name: _again(options[name], kept) for name, kept in copied}
    _write(group, {**options, **own, "params": group["params"]})


def _copied_options(group: dict[str, Any]) -> list[tuple[str, Any]]:
    """(name, copy) of the options that can be changed in place; a rate may be a tensor."""
    changing = [(name, value) for name, value in group.items() if type(value) not in UNCHANGING and name != "params"]
    return [(name, value.clone() if isinstance(value, Tensor) else copy.copy(value)) for name, value in changing]


def _keep_own(optimizer: Any) -> list[Callable[[], None]]:
    """What an optimizer that is not torch's keeps in attributes of its own, such as the slow weights of a Lookahead."""
    if type(optimizer).__module__.startswith("torch.") or not hasattr(optimizer, "__dict__"):
        return []
    shared = ("param_groups", "state", "defaults", "step")
    seen = {id(p) for group in optimizer.param_groups for p in group["params"]}
    held = cast("dict[str, Any]", vars(optimizer))
    own = {name: value for name, value in held.items() if name not in shared and "hook" not in name}
    plain = {name: value for name, value in own.items() if value is None or isinstance(value, int | float | str)}
    return [lambda: held.update(plain), *(back for value in own.values() for back in keep(value, seen))]


def _set(optimizer: Any, name: str, value: Any) -> None:
    """An optimizer that wraps another may show its attributes without letting them be set."""
    for one in with_inner(optimizer):
        try:
            setattr(one, name, value)
            return
        except AttributeError:
            continue


def _again(value: Any, kept: Any) -> Any:
    return value.copy_(kept) if isinstance(value, Tensor) else _plain_copy(kept)


def _plain_copy(value: Any) -> Any:
    return value if type(value) in UNCHANGING else copy.copy(value)


def _copied(value: Any) -> Any:
    """Tensors by reference, all else copied."""
    return value if value is None or isinstance(value, Tensor) else copy.deepcopy(value)


def _write(holder: dict[str, Any], values: dict[str, Any]) -> None:
    for name in [name for name in holder if name not in values]:
        del holder[name]
    holder.update(values)
