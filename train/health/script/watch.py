"""Looks at loss, gradients and weights of any script, before they are written, and finds the operation at fault.

Python's calls of torch are noted with their line and module; nothing is computed of them. In backward every node's
gradients are looked at as they are made, since its graph is gone afterwards. Numbers and random states stay what they
were.
"""

from __future__ import annotations

import os
import sys
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from types import FrameType
from typing import Any, cast
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from ..trace.operands import measure
from ..trace.places import hand_over
from ..trace.pytree import is_finite
from ..trace.source_lines import is_library

MOST = 20_000  # calls that are remembered at once
_torch = cast("Any", torch)
_autograd: Any = torch.autograd
_nn: Any = nn.modules.module
_hooks: Any = import_module("torch.optim.optimizer")
Note = tuple[str, str, str | None, list[Any], list[Any]]  # operation, line, module, inputs, outputs


@dataclass
class Fault:
    """What was found. phase: forward, backward or optimizer. op, source, module: None where it could not be told."""

    phase: str
    what: str  # the loss is nan; gradients of net.0.weight; …
    step: int  # counted from 0, of this optimizer
    op: str | None = None
    source: str | None = None
    module: str | None = None
    text: list[str] = field(default_factory=list[str])
    optimizer: Any = None
    frame: FrameType | None = None  # of the user's line that called the optimizer


class FaultStop(BaseException):
    """Ends the script; no `except Exception` of the script takes it."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.what)
        self.fault = fault


class Watch(TorchFunctionMode):
    """`with Watch(): …` raises FaultStop at the first optimizer step that would write, or has written, bad numbers."""

    def __init__(self) -> None:
        super().__init__()
        self._notes: deque[Note] = deque(maxlen=MOST)
        self._by_node: dict[int, Note] = {}  # the autograd node's number → the call that made it
        self._stack: list[nn.Module] = []
        self._names: dict[int, str] = {}  # modules by their path in the outermost one that was called
        self._found: Fault | None = None  # of a backward since the last step
        self._scaled = self._stepping = self._silent = False
        self._steps: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._process = os.getpid()
        self._undo: list[Any] = []
        self._patches: list[Any] = []
        self._backward: Callable[..., None] = _autograd.backward
        self._compile: Any = _torch.compile

    # -- around the script -------------------------------------------------------------------------------------------

    def __enter__(self) -> Watch:
        self._undo = [
            _nn.register_module_forward_pre_hook(self._begin),
            _nn.register_module_forward_hook(self._end, always_call=True),
            _hooks.register_optimizer_step_pre_hook(self._before_step),
            _hooks.register_optimizer_step_post_hook(self._after_step),
        ]
        scale: Any = torch.amp.GradScaler.scale

        def noted(scaler: Any, outputs: Any) -> Any:
            self._scaled = self._scaled or scaler.is_enabled()
            return scale(scaler, outputs)

        self._patches = [
            patch.object(_autograd, "backward", self._watched),
            patch.object(torch, "compile", self._plain),
        ]
        self._patches.append(patch.object(torch.amp.GradScaler, "scale", noted))
        for one in self._patches:
            one.start()
        return cast("Watch", super().__enter__())

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # pyright: ignore[reportUnknownMemberType]
        for one in self._patches:
            one.stop()
        for handle in self._undo:
            handle.remove()

    def _plain(self, *args: Any, **kwargs: Any) -> Any:
        """`torch.compile`: what is compiled has no lines, and calls of it are not noted; it cannot have these hooks."""
        self._silent = True
        for handle in self._undo[:2]:  # of modules
            handle.remove()
        return self._compile(*args, **kwargs)

    # -- what is noted -----------------------------------------------------------------------------------------------

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if self._silent or self._stepping or os.getpid() != self._process:
            return out
        name = str(getattr(func, "__name__", func))
        outputs = [t for t in _tensors(args[0] if _writes(name) and args else out) if t.is_floating_point()]
        if outputs and name != "__get__":
            frame = _user_frame()
            source = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""
            module = self._name(self._stack[-1]) if self._stack else None
            inputs = [_held(t) for t in _tensors((args, kwargs))]
            note = (name, source, module, inputs, [_held(t) for t in outputs])
            self._notes.append(note)
            for output in outputs:
                if output.grad_fn is not None:
                    self._by_node[_number(output.grad_fn)] = note
        return out

    def _begin(self, module: nn.Module, *_: Any) -> None:
        if not self._stack and id(module) not in self._names:
            for name, part in cast("Iterable[tuple[str, nn.Module]]", module.named_modules()):
                self._names.setdefault(id(part), name)
        self._stack.append(module)

    def _end(self, *_: Any) -> None:
        if self._stack:
            self._stack.pop()

    def _name(self, module: nn.Module) -> str:
        return self._names.get(id(module), "") or type(module).__name__

    def _forget(self) -> None:
        self._notes.clear()
        self._by_node.clear()
        self._found = None

    # -- backward ----------------------------------------------------------------------------------------------------

    def _watched(
        self,
        tensors: Any,
        grad_tensors: Any = None,
        retain_graph: Any = None,
        create_graph: bool = False,
        grad_variables: Any = None,
        inputs: Any = None,
    ) -> None:
        """`torch.autograd.backward`: from a bad loss it is explained, behind it bad gradients are."""
        options = {"grad_tensors": grad_tensors, "retain_graph": retain_graph, "create_graph": create_graph}
        options |= {"grad_variables": grad_variables, "inputs": inputs}
        given = [t for t in _tensors(tensors) if t.is_floating_point()]
        if self._scaled or self._found is not None or os.getpid() != self._process or create_graph:
            self._backward(tensors, **options)
            return
        bad = next((t for t in given if not is_finite(t)), None)
        if bad is not None:
            self._found = self._of_forward(bad)
            self._backward(tensors, **options)
            return
        leaves, nodes = _graph(given)
        seen = list[tuple[Any, Any, Any]]()
        handles = [node.register_hook(self._looking(node, seen)) for node in nodes]
        try:
            self._backward(tensors, **options)
        finally:
            for handle in handles:
                handle.remove()
        if not all_finite([p.grad for p in leaves if p.grad is not None]):
            self._found = self._of_backward(seen)
        else:
            self._forget()  # what was noted holds on to results

    def _of_forward(self, bad: Tensor) -> Fault:
        """The first call that made bad numbers of good ones."""
        fault = Fault("forward", f"the loss is {float(bad.detach().reshape(-1)[0])}", 0)
        notes = list(self._notes)
        first = next((i for i, note in enumerate(notes) if not all(map(is_finite, _alive(note[4])))), None)
        if first is None:
            return fault
        places = {t.data_ptr() for t in _alive(notes[first][4]) if not is_finite(t)}
        writers = [note for note in notes[first:] if _writes(note[0])
                   and any(t.data_ptr() in places for t in _alive(note[4]))]  # fmt: skip
        op, source, module, inputs, outputs = writers[-1] if writers else notes[first]
        fault.op, fault.source, fault.module = op, source, module
        ins, outs = _alive(inputs), _alive(outputs)
        fault.text = [str(measure(f"input {i}", t)) for i, t in enumerate(ins[:4])] if not writers else []
        fault.text += [str(measure("result", t)) for t in outs[:1]]
        rows = [row for t in outs[:1] for row in _bad_rows(t)]
        fault.text += [f"rows: {', '.join(map(str, rows[:8]))}"] if rows else []
        if not writers and not all(map(is_finite, ins)):
            fault.text.append("what it was given was bad already: look at the data and at the weights")
        return fault

    def _looking(self, node: Any, seen: list[tuple[Any, Any, Any]]) -> Callable[[Any, Any], None]:
        def look(made: Any, given: Any) -> None:
            if seen:
                return
            silent, self._silent = self._silent, True  # these calls are not the script's
            try:
                bad, good = [t for t in made if t is not None and not is_finite(t)], [t for t in given if t is not None]
                if bad and all(map(is_finite, good)):
                    seen.append((node, [t.clone() for t in good], [t.clone() for t in bad]))
            finally:
                self._silent = silent

        return look

    def _of_backward(self, seen: list[tuple[Any, Any, Any]]) -> Fault:
        """The first node that made a bad gradient of good ones."""
        fault = Fault("backward", "the loss is finite, gradients are not", 0)
        if not seen:
            return fault
        node, given, made = seen[0]
        note = self._by_node.get(_number(node))
        fault.op = node.name()
        if note is not None:
            fault.source, fault.module = note[1], note[2]
            fault.text = [str(measure(f"input {i} of {note[0]}", t)) for i, t in enumerate(_alive(note[3])[:4])]
        fault.text += [str(measure("gradient it was given", t)) for t in given[:1]]
        fault.text += [str(measure("gradient it made", t)) for t in made[:1]]
        return fault

    # -- the optimizer -----------------------------------------------------------------------------------------------

    def _before_step(self, optimizer: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._stepping = True
        self._check(optimizer)
        return hand_over(args, kwargs or {}, lambda: self._closure(optimizer))

    @contextmanager
    def _closure(self, optimizer: Any) -> Generator[None]:
        """The closure that an optimizer calls is no part of its step. A line search may leave a bad point again."""
        self._stepping = False
        try:
            yield
        finally:
            self._stepping = True
        if not any(group.get("line_search_fn") for group in optimizer.param_groups):
            self._check(optimizer)

    def _check(self, optimizer: Any) -> None:
        """Before the weights are written."""
        held = [p for group in optimizer.param_groups for p in group["params"]]
        bad = not all_finite([p.grad for p in held if p.grad is not None])
        if bad or (self._found is not None and self._found.phase == "forward"):
            fault = self._found or Fault("backward", "", 0)
            names = _names_of([p for p in held if p.grad is not None and not is_finite(p.grad)], self._modules())
            if bad:
                fault.what = ", ".join(filter(None, [fault.what, f"gradients that are not finite: {names}"]))
            self._stop(fault, optimizer)

    def _after_step(self, optimizer: Any, *_: Any) -> None:
        self._stepping = False
        held = [p for group in optimizer.param_groups for p in group["params"]]
        if not all_finite(held):
            names = _names_of([p for p in held if not is_finite(p)], self._modules())
            words = f"the step of {type(optimizer).__name__} wrote bad numbers into {names}"
            fault = self._found or Fault("optimizer", "gradients were finite", 0)
            fault.what, fault.phase = f"{fault.what}, {words}", "optimizer"
            self._stop(fault, optimizer)
        self._steps[optimizer] = self._steps.get(optimizer, 0) + 1
        self._forget()

    def _modules(self) -> list[nn.Module]:
        frame, found = _user_frame(), list[nn.Module]()
        while frame is not None:
            found += [v for v in [*frame.f_locals.values(), *frame.f_globals.values()] if isinstance(v, nn.Module)]
            frame = frame.f_back
        return found

    def _stop(self, fault: Fault, optimizer: Any) -> None:
        fault.step, fault.optimizer = self._steps.get(optimizer, 0), optimizer
        fault.frame = _user_frame()
        if fault.source is None and fault.frame is not None:
            fault.source = f"{fault.frame.f_code.co_filename}:{fault.frame.f_lineno}"
        raise FaultStop(fault)


def all_finite(tensors: list[Any]) -> bool:
    """Whether no tensor holds NaN or an infinity, in few calls where all is well."""
    plain = [t.detach() for t in tensors if isinstance(t, Tensor) and t.is_floating_point() and t.numel()]
    dense = [t for t in plain if t.layout == torch.strided]
    if len(dense) == len(plain) and len({t.device for t in dense}) == 1:
        norms = [norm.double() for norm in _torch._foreach_norm(dense)]
        if bool(torch.isfinite(torch.stack(norms)).all()):
            return True
    return all(map(is_finite, plain))


def _tensors(tree: Any) -> list[Tensor]:
    if isinstance(tree, Tensor):
        return [tree]
    return [t for t in tree_leaves(tree) if isinstance(t, Tensor)]


def _writes(name: str) -> bool:
    """Whether a call of this name writes its first argument."""
    return name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))


def _bad_rows(tensor: Tensor) -> list[int]:
    """Indices in the first dimension that hold bad numbers; [] where all do."""
    if tensor.ndim < 2:
        return []
    bad = ~torch.isfinite(tensor).reshape(tensor.shape[0], -1).all(1)
    return [] if bool(bad.all()) else [int(i) for i in bad.nonzero().reshape(-1)]


def _held(tensor: Tensor) -> Any:
    """What autograd keeps anyway is kept; all else may go."""
    return tensor.detach() if tensor.requires_grad and not tensor.is_leaf else weakref.ref(tensor)


def _alive(held: list[Any]) -> list[Tensor]:
    found = [one if isinstance(one, Tensor) else one() for one in held]
    return [t.detach() for t in found if t is not None and t.is_floating_point()]


def _number(node: Any) -> int:
    return node._sequence_nr()


def _graph(roots: list[Tensor]) -> tuple[list[Tensor], list[Any]]:
    """(leaves that get a gradient, nodes that lead to them)"""
    leaves, nodes, seen = list[Tensor](), list[Any](), set[Any]()
    waiting: list[Any] = [root.grad_fn for root in roots if root.grad_fn is not None]
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.append(node.variable)
        else:
            nodes.append(node)
        waiting += [following for following, _ in node.next_functions if following is not None]
    return leaves, nodes


def _names_of(tensors: list[Any], modules: list[nn.Module]) -> str:
    names: dict[int, str] = {}
    for module in modules:
        for name, parameter in module.named_parameters():
            names[id(parameter)] = max(name, names.get(id(parameter), ""), key=len)
    found = [names.get(id(t), f"a parameter of shape {'x'.join(map(str, t.shape))}") for t in tensors]
    return ", ".join(found[:4]) + (f" and {len(found) - 4} more" if len(found) > 4 else "")


def _user_frame() -> FrameType | None:
    frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame is not None and (frame.f_code.co_filename == __file__ or is_library(frame.f_code.co_filename)):
        frame = frame.f_back
    return frame
