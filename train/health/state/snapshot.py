"""The whole state that a training step may change, copied and put back to the bit."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter, is_
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from .background import BackgroundTask
from .extra_state import SHARED, Listed, batch_copy, keep, keep_optimizer, listed_bytes, write
from .flat_tensors import Held, Layout, copying_of
from .gradients import Gradients
from .random_states import generators
from .torch_modes import few_threads

T = TypeVar("T")
_training = attrgetter("training")


@dataclass
class Snapshot:
    """The state at one moment. `copies` may be reused by a later snapshot once this one is let go."""

    layout: Layout
    copies: dict[Any, Tensor]
    places: list[tuple[Any, str, Any]]  # containers that must hold these very objects
    grads: Gradients
    grad_copies: dict[Any, Tensor]
    no_grad: list[Tensor]  # parameters without a gradient
    extras: list[Callable[[], None]]  # each puts an optimizer, a sparse gradient or one item of `extra_state` back
    generators: Callable[[], None]
    batch: list[tuple[Any, Any]] = field(default_factory=list)  # (leaf, its copy)
    listed: list[Tensor] = field(default_factory=list[Tensor])  # copies of tensors in lists of an optimizer

    def digest(self) -> str:
        """SHA-256 of every number of the state, gradients too."""
        digest = hashlib.sha256()
        named = {f"{one.kind} {one.name}": piece for one, piece in self.layout.pieces(self.copies)}
        # By name: an optimizer that was loaded keeps its tensors in another order.
        for piece in (*(named[name] for name in sorted(named)), *self.grads.pieces(self.grad_copies)):
            digest.update(piece.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def batch_bytes(self) -> int:
        """Memory of the batch's copy."""
        return sum(int(kept.nbytes) for _, kept in self.batch)

    def bytes(self) -> int:
        """Memory of the copies."""
        copies = [*self.copies.values(), *self.grad_copies.values(), *(kept for _, kept in self.batch), *self.listed]
        return sum(int(kept.nbytes) for kept in copies)


@dataclass(frozen=True)
class Inventory:
    """What there is to keep, as long as nothing is added, swapped or removed."""

    layout: Layout
    parameters: list[Tensor]  # every one that a step may give a gradient
    places: list[tuple[dict[str, Any], str, Any]]  # containers of parameters and buffers

    def gradients(self) -> list[Tensor]:
        """Those that there are now."""
        return [gradient for p in self.parameters if (gradient := p.grad) is not None]

    def with_gradient(self) -> list[Tensor]:
        """Parameters that have a gradient now."""
        return [p for p in self.parameters if (g := p.grad) is not None and _has_numbers(g)]


class Snapshotter:
    """Takes and puts back snapshots of a model, optimizers and whatever else a step changes."""

    def __init__(self, model: nn.Module, optimizers: list[torch.optim.Optimizer], extra_state: list[Any]) -> None:
        self.model, self.optimizers = model, optimizers
        found = [(i, module) for i, item in enumerate(extra_state) for module in _modules_in(item)]
        self.modules = [("", model), *((f"also{i}.", module) for i, module in found if module is not model)]
        self.tensors = [(f"also{i}", item) for i, item in enumerate(extra_state) if isinstance(item, Tensor)]
        self.others = [item for item in extra_state if not isinstance(item, nn.Module | Tensor | torch.optim.Optimizer)]
        self._parts: list[nn.Module] = []  # every module inside the modules
        self._children: list[Any] | None = None
        self._found: Inventory | None = None
        self._key: list[Any] = []
        self._gradients = Layout([])
        self.hand = BackgroundTask()

    def layout(self) -> Layout:
        """The tensors of now; the one of before when nothing was added, swapped or removed."""
        return self.found().layout

    def loose(self) -> list[tuple[str, Tensor]]:
        """(name, tensor) of numbers that steps carry on in dicts, lists and objects: now these, after a step others."""
        found = [one for i, other in enumerate(self.others) for one in _tensors_in(other, f"also{i}")]
        return [(name, t) for name, t in found if t.is_floating_point() and t.numel() and t.layout == torch.strided]

    def found(self, in_place: bool = False) -> Inventory:
        """What there is now. Walking a model's tree costs more than copying it, so only identities are compared,
        and whether each tensor still has the form that it had, which `.to()` changes. in_place: what was found last is
        known to be so.
        """
        children = _values(part._modules for part in self._parts)  # pyright: ignore[reportPrivateUsage]
        if not _same(children, self._children):
            self._parts = [part for _, module in self.modules for part in module.modules()]
            self._children = _values(part._modules for part in self._parts)  # pyright: ignore[reportPrivateUsage]
        key = _values(own for part in self._parts for own in (part._parameters, part._buffers))  # pyright: ignore[reportPrivateUsage]
        for optimizer in self.optimizers:
            key += [v for v in _values(optimizer.state.values()) if isinstance(v, Tensor)]
            key += chain.from_iterable(group["params"] for group in optimizer.param_groups)
        if self._found is None or not _same(key, self._key) or not self._found.layout.refresh(in_place):
            self._found, self._key = self._find(), key
        return self._found

    def _find(self) -> Inventory:
        names: dict[int, str] = {}
        for prefix, module in reversed(self.modules):  # a weight that two modules share has the name of the first
            names |= {id(p): prefix + name for name, p in module.named_parameters()}
        parameters: dict[int, Tensor] = {}
        for _, module in self.modules:
            parameters |= {id(p): p for p in module.parameters()}
        for optimizer in self.optimizers:
            parameters |= {id(p): p for group in optimizer.param_groups for p in group["params"]}
        places: list[tuple[dict[str, Any], str, Any]] = []
        for part in self._parts:
            places += [(part._parameters, name, p) for name, p in part._parameters.items()]  # pyright: ignore[reportPrivateUsage]
            places += [(part._buffers, name, b) for name, b in part._buffers.items()]  # pyright: ignore[reportPrivateUsage]
        return Inventory(Layout(self._held(names)), list(parameters.values()), places)

    def _held(self, names: dict[int, str]) -> list[Held]:
        held: list[Held] = []
        for prefix, module in self.modules:
            kinds = ("also", "also") if prefix else ("weights", "buffers")
            held += [Held(kinds[0], prefix + name, p) for name, p in module.named_parameters()]
            held += [Held(kinds[1], prefix + name, b) for name, b in module.named_buffers()]
        known = {id(one.tensor) for one in held} | {id(tensor) for _, tensor in self.tensors}
        for i, optimizer in enumerate(self.optimizers):
            own = dict.fromkeys(p for group in optimizer.param_groups for p in group["params"] if id(p) not in known)
            held += [Held("weights", f"optimizer{i or ''}.{j}", p) for j, p in enumerate(own)]
            known |= {id(p) for p in own}
            for parameter, state in optimizer.state.items():
                of = names.get(id(parameter), "a parameter of its own")
                held += [Held("optimizer", f"{f}/{of}", v) for f, v in state.items() if isinstance(v, Tensor)]
        held += [Held("also", name, tensor) for name, tensor in self.tensors]
        return [one for one in held if _has_numbers(one.tensor)]

    def listed(self) -> list[Held]:
        """The tensors that optimizers carry on in lists, such as the past directions of LBFGS."""
        named = {id(one.tensor): one.name for one in self.layout().held}
        return [
            Held("optimizer", f"{field}[{i}]/{named.get(id(parameter), 'a parameter of its own')}", item)
            for optimizer in self.optimizers
            for parameter, state in optimizer.state.items()
            for field, value in state.items()
            if type(value) is list
            for i, item in enumerate(cast("list[Any]", value))
            if isinstance(item, Tensor)
        ]

    def known(self) -> Inventory:
        """What was found last."""
        return self._found if self._found is not None else self.found()

    def reachable(self) -> Inventory:
        """What there was, where all of it may be read; work on it can begin before `found` has said what there is."""
        kept = self._found
        return kept if kept is not None and kept.layout.is_in_place() else self.found()

    def gradients(self, found: Inventory | None = None) -> Layout:
        """Those of now."""
        with_gradient = (found or self.found()).with_gradient()
        held = [Held("gradients", "", p.grad) for p in with_gradient if p.grad is not None]
        now = self._gradients.of(held)
        self._gradients = now.without_tensors()
        return now

    def take(self, batch: Any, old: Snapshot | None = None) -> Snapshot:
        """A copy of everything. `old`: a snapshot no longer needed, whose memory may be used."""
        return self.sure(lambda found, worth, is_sure: self._take(found, worth, is_sure, batch, old))

    def sure(self, work: Callable[[Inventory, bool, bool], T | None]) -> T:
        """What `work` makes of what there is. It begins with what there was, and gives None where that has changed.

        work: of (what to work on, whether the second thread is worth it, whether this is what there is).
        """
        made, found = None, self.reachable()
        for is_sure in (False, True):  # not oftener: another thread may change it again and again
            worth = self.hand.is_worth(found.layout)
            with torch.no_grad(), few_threads(found.layout.small):
                made = work(found, worth, is_sure)
            if made is not None:
                break
            found = self.found()
        assert made is not None
        return made

    def _take(self, found: Inventory, worth: bool, is_sure: bool, batch: Any, old: Snapshot | None) -> Snapshot | None:
        """None where `found` is not what there is."""
        last, last_grads = (old.copies, old.grad_copies) if old else ({}, {})
        listed = Listed(old.listed if old else [])
        copies, lines = found.layout.plain_copy(last)
        with_grad, grads = found.with_gradient(), self.gradients(found)
        grad_copies, more = grads.plain_copy(last_grads)
        with self.hand.beside(copying_of([*lines, *more]), worth):
            if not is_sure and self.found(in_place=True) is not found:
                return None
            training: list[Any] = [(vars(part), "training", part.training) for part in self._parts]
            return Snapshot(
                found.layout,
                copies | found.layout.other_copies(last),
                [*training, *found.places],
                Gradients(with_grad, grads),
                grad_copies | grads.other_copies(last_grads),
                [p for p in found.parameters if p.grad is None],
                [
                    *(_sparse(p) for p in found.parameters if p.grad is not None and p.grad.layout != torch.strided),
                    *(keep_optimizer(one, listed) for one in self.optimizers),
                    *(kept for other in self.others for kept in keep(other)),
                ],
                generators(),
                batch_copy(batch, old.batch if old else []),
                listed.copies,
            )

    def sizes(self) -> tuple[int, int]:
        """Bytes (that a copy of now takes without a batch; that a recorder keeps beside the numbers of the state).

        Beside them are the gradients, and, of an optimizer that replaces its tensors as LBFGS does, the replaced ones.
        """
        found = self.found()
        gradients = sum(gradient.nbytes for gradient in found.gradients() if _has_numbers(gradient))
        states = [value for optimizer in self.optimizers for value in _values(optimizer.state.values())]
        lists = sum(listed_bytes(value) for value in states)
        replaced = sum(value.nbytes for value in states if lists and isinstance(value, Tensor))
        return found.layout.bytes + gradients + lists, gradients + replaced

    def modes(self) -> list[Callable[[], None]]:
        """Puts every module's training mode back."""
        parts = self._parts
        modes = list(map(_training, parts))

        def back() -> None:
            for part, training in zip(parts, modes, strict=True):
                vars(part)["training"] = training

        return [back]

    def put_back(self, snapshot: Snapshot) -> None:
        """Everything as it was, to the bit, in the same objects."""
        with torch.no_grad():
            for parameter in self.found().parameters:
                if parameter.grad is not None and not parameter.grad.is_meta:
                    parameter.grad = None  # one of another form than the numbers that come back would be refused
            snapshot.layout.put_back(snapshot.copies)
            snapshot.grads.put_back(snapshot.grad_copies)
            for container, name, value in snapshot.places:
                container[name] = value
            for parameter in snapshot.no_grad:
                parameter.grad = None
            for leaf, kept in snapshot.batch:
                write(leaf, kept)
            for back in snapshot.extras:
                back()
            snapshot.generators()


def _has_numbers(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and not tensor.is_meta and not tensor.is_nested and not tensor.is_quantized


def _values(holders: Iterable[Any]) -> list[Any]:
    return list(chain.from_iterable(holder.values() for holder in holders))


def _same(now: list[Any], before: list[Any] | None) -> bool:
    """Whether these are the very same objects."""
    return before is not None and len(now) == len(before) and all(map(is_, now, before))


def _modules_in(thing: Any, depth: int = 2) -> list[nn.Module]:
    """Modules inside an item of `extra_state`, such as the averaged copy that an object for averaging holds."""
    if isinstance(thing, nn.Module):
        return [thing]
    if not depth or isinstance(thing, torch.optim.Optimizer | Tensor):
        return []
    inner: list[Any] = []
    if hasattr(thing, "__dict__"):
        inner += cast("dict[str, Any]", vars(thing)).values()
    if isinstance(thing, dict):
        inner = [*cast("dict[Any, Any]", thing).values(), *inner]
    elif isinstance(thing, list | tuple):
        inner = [*cast("Sequence[Any]", thing), *inner]
    return [module for value in inner for module in _modules_in(value, depth - 1)]


def _tensors_in(thing: Any, path: str, depth: int = 3) -> Iterable[tuple[str, Tensor]]:
    """Tensors inside an item of `extra_state`; not a gradient scaler's, which checks for infinities itself."""
    if isinstance(thing, Tensor):
        yield path, thing
    elif depth and not isinstance(thing, SHARED) and not hasattr(thing, "_check_inf_per_device"):
        if isinstance(thing, dict):
            inner = cast("dict[Any, Any]", thing)
        elif isinstance(thing, list | tuple):
            inner = dict(enumerate(cast("Sequence[Any]", thing)))
        else:
            inner = cast("dict[str, Any]", vars(thing)) if hasattr(thing, "__dict__") else {}
        for name, value in list(inner.items()):
            yield from _tensors_in(value, f"{path}.{name}", depth - 1)


def _sparse(parameter: Tensor) -> Callable[[], None]:
    """Puts a sparse gradient back."""
    gradient = parameter.grad
    assert gradient is not None
    kept = gradient.detach().clone()

    def back() -> None:
        parameter.grad = gradient.zero_().copy_(kept)  # emptied, it may have other sparse dimensions

    return back
