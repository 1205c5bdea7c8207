"""Re-runs a step and records each operation that produced a non-finite value, with its inputs and source line.

Works below autograd (forward, backward, optimizer and buffers alike). Nothing is changed: the same kernels run on the
same numbers, so the watched step ends in the same bits as the step that failed.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from az.train.health.pytree import Rows, is_finite

# The autograd node that runs now; None outside of backward, which the stub leaves out.
current_autograd_node: Callable[[], Any] = torch._C._current_autograd_node  # pyright: ignore[reportPrivateUsage]
_autograd: Any = torch.autograd  # _get_sequence_nr is used by torch's own profiler, and missing from the stubs
_TORCH = os.path.dirname(torch.__file__) + os.sep
_HERE = os.path.dirname(__file__) + os.sep
# Operations that write their whole target: what it held before does not matter.
OVERWRITE = {"copy_", "fill_", "zero_", "normal_", "uniform_", "random_", "bernoulli_", "exponential_", "set_"}


@dataclass(frozen=True)
class Operand:
    """What one tensor of an operation held, as far as people ask."""

    role: str  # the argument's name, or "result"
    shape: tuple[int, ...]
    dtype: str
    low: float | None  # of its finite numbers
    high: float | None
    nans: int
    infs: int
    zeros: int
    name: str = ""  # of the state, where it is a weight, a buffer, …

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {**vars(self), "shape": list(self.shape)}

    def __str__(self) -> str:
        shape = "x".join(map(str, self.shape)) or "one number"
        numbers = f"{self.low:.4g} to {self.high:.4g}" if self.low is not None else "no finite number"
        bad = "".join(
            f", {n} {what}" for n, what in ((self.nans, "NaN"), (self.infs, "inf"), (self.zeros, "zeros")) if n
        )
        return f"{self.name or self.role} ({shape}, {self.dtype}): {numbers}{bad}"


@dataclass
class Op:
    """One operation of the watched step."""

    index: int
    name: str  # aten::log
    phase: str  # data, forward, loss, backward, optimizer
    module: str
    source: str
    node: str = ""  # the autograd node that it belongs to, in backward
    forward: int = -1  # index of the forward operation of that node
    bad_inputs: list[tuple[int, bool, Tensor]] = field(default_factory=list)  # (writer or -1, only inf, tensor)
    bad_output: bool = False
    output_nan: bool = False
    operands: list[Operand] = field(default_factory=list)
    scalars: list[float] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    wrote: list[str] = field(default_factory=list)  # names of the state's tensors that it left bad
    rates: list[float] = field(default_factory=list)  # learning rates, in the optimizer


def measure(role: str, tensor: Tensor, name: str = "") -> Operand:
    """Range and counts of a tensor."""
    values = tensor.detach()
    if values.is_complex():
        values = torch.view_as_real(values)
    low = high = None
    nans = infs = 0
    if values.numel() and values.dtype != torch.bool:
        low, high = (float(x) for x in torch.aminmax(values))
        if not (math.isfinite(low) and math.isfinite(high)):
            nans = int((values != values).sum())
            finite = int(torch.isfinite(values).sum())
            infs = values.numel() - finite - nans
            low = float(torch.nan_to_num(values, math.inf, math.inf, math.inf).amin()) if finite else None
            high = float(torch.nan_to_num(values, -math.inf, -math.inf, -math.inf).amax()) if finite else None
    zeros = values.numel() - int(torch.count_nonzero(values)) if values.dtype != torch.bool else 0
    dtype = str(tensor.dtype).removeprefix("torch.")
    return Operand(role, tuple(tensor.shape), dtype, low, high, nans, infs, zeros, name)


def is_bad(tensor: Tensor) -> bool:
    """Whether a tensor holds NaN or an infinity."""
    return not is_finite(tensor)


def user_line(skip: int = 1) -> tuple[str, bool]:
    """(file:line of the innermost frame that is neither torch's nor ours, whether backward() lies above it)."""
    frame = sys._getframe(skip)  # pyright: ignore[reportPrivateUsage]
    below_backward = False
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_TORCH):
            below_backward |= frame.f_code.co_name in ("backward", "_engine_run_backward", "grad")
        elif not file.startswith(_HERE) and not file.startswith("<"):
            return f"{file}:{frame.f_lineno}", below_backward
        frame = frame.f_back
    return "", below_backward


class OpTrace(TorchDispatchMode):
    """`with OpTrace(model, optimizers, rows, state): step(batch)`, then look at `ops` (those that met bad numbers).

    state: (kind, name) of the model's and optimizer's tensors by the address of their memory. meant: tensors whose
    infinities are meant, such as a mask. renew: `state` again, for what an optimizer makes in its first step.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Iterable[torch.optim.Optimizer],
        rows: Rows | int,
        state: Mapping[int, tuple[str, str]],
        batch: Iterable[Tensor] = (),
        meant: Iterable[Tensor] = (),
        renew: Callable[[], Mapping[int, tuple[str, str]]] | None = None,
    ) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self.model, self.optimizers, self.state, self.renew = model, list(optimizers), state, renew
        self.rows = Rows((), rows) if isinstance(rows, int) else rows
        self._batch, self._batch_is_bad = _spans(batch), any(is_bad(t) for t in batch)
        self._meant = _spans(meant)
        self.count = 0
        self.ops: dict[int, Op] = {}
        self.bad_root = False  # the number that backward began from was bad
        self.roots: set[int] = set()  # the operations that wrote such numbers
        self.writers: dict[int, int] = {}  # memory → the operation that left something bad there
        self.half_peak = (0.0, "")  # largest share of the range of float16, and the module that reached it
        self._forward: dict[int, tuple[int, str, str, str]] = {}  # sequence number → operation
        modules = cast("Iterable[tuple[str, nn.Module]]", model.named_modules())
        self._names = {id(module): name for name, module in modules}
        self._stack: list[str] = []
        self._phase = "data"
        self._in_optimizer = False
        self._backward_ended = 0  # the first operation after backward, while no optimizer has stepped since
        self._last_ones: Tensor | None = None
        self._kept: list[Tensor] = []  # alive until the end, so that no address is used twice
        self._handles: list[Any] = []

    # -- where we are ---------------------------------------------------------------------------------------------

    def __enter__(self) -> OpTrace:
        for module in self.model.modules():
            self._handles.append(module.register_forward_pre_hook(self._begin, prepend=True))
            self._handles.append(module.register_forward_hook(self._end, always_call=True))
        for optimizer in self.optimizers:
            self._handles.append(optimizer.register_step_pre_hook(self._begin_step))
            self._handles.append(optimizer.register_step_post_hook(self._end_step))
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        for handle in self._handles:
            handle.remove()
        super().__exit__(*error)  # pyright: ignore[reportUnknownMemberType]

    def _begin(self, module: nn.Module, *_: Any) -> None:
        self._stack.append(self._names.get(id(module), ""))
        if self._backward_ended:  # gradients are accumulated: what came since was for the next part of the batch
            for index in [i for i in self.ops if i >= self._backward_ended]:
                self.ops[index].phase = "data"
            self._backward_ended = 0
        self._phase = "forward"

    def _end(self, *_: Any) -> None:
        if self._stack:
            self._stack.pop()
        self._phase = "forward" if self._stack else "loss"

    def _begin_step(self, *_: Any) -> None:
        self._optimizing(True)

    def _end_step(self, *_: Any) -> None:
        self._optimizing(False)

    def _optimizing(self, now: bool) -> None:
        self._in_optimizer, self._backward_ended = now, 0
        self._phase = "optimizer"

    # -- every operation ------------------------------------------------------------------------------------------

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        differentiated = torch.is_grad_enabled()
        with torch.no_grad():
            if differentiated:
                self.note("forward" if self._stack else self._phase, _named(func, args, kwargs))
            return self._run(func, args, kwargs, differentiated)

    def note(self, phase: str, inputs: list[tuple[str, Tensor]]) -> None:
        """Called for every operation that autograd may differentiate; for subclasses."""

    def _run(self, func: Any, args: Any, kwargs: Any, differentiated: bool) -> Any:
        self.count += 1
        index = self.count
        node = current_autograd_node()
        place = self._place(index, func, node)
        inputs = _named(func, args, kwargs)
        written = _written(func, args, kwargs)
        base = func.name().removeprefix("aten::").partition(".")[0]
        self.rows.see(index, base, inputs)
        targets: set[int] = {id(t) for t in written} if base in OVERWRITE or base.endswith("_out") else set()
        bad_in = [(name, t) for name, t in inputs if id(t) not in targets and is_bad(t)]
        before = [measure(name, t, self.name_of(t)) for name, t in inputs] if written or bad_in else None
        bad_tensors = [(self.writers.get(_memory(t), -1), not bool(torch.isnan(t).any()), t) for _, t in bad_in]
        if node is not None and self._phase != "backward":
            self._begin_backward()
        with torch.set_grad_enabled(differentiated):  # some kernels (an LSTM's) ask and do something else
            out = func(*args, **kwargs)
        outputs = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        if base == "ones_like" and node is None:
            self._last_ones = inputs[0][1] if inputs else None
        touched = written + self._averages(base, inputs)
        scalars = [
            float(x) for x in tree_leaves((args, kwargs)) if isinstance(x, int | float) and not isinstance(x, bool)
        ]
        self._judge(index, func, place, inputs, before, bad_tensors, outputs, touched, scalars)
        return out

    def _place(self, index: int, func: Any, node: Any) -> tuple[str, str, str, str, int]:
        """(phase, module, source, autograd node, forward operation)"""
        source, below = user_line(4)
        if node is None:
            if self._phase == "backward":  # backward is over: clipping, scaling, the optimizer
                self._phase, self._backward_ended = "optimizer", index
            phase = "forward" if self._stack else self._phase
            module = self._stack[-1] if self._stack else ""
            if not self._in_optimizer:
                at = _autograd._get_sequence_nr()
                self._forward.setdefault(at, (index, module, source, func.name()))
            return phase, module, source, "", -1
        found = self._forward.get(node._sequence_nr() + 1)
        if found is None:
            return "backward", "", source, node.name(), -1
        own = source if not below and source else found[2]  # a custom function's own line, else its forward line
        return "backward", found[1], own, node.name(), found[0]

    def _begin_backward(self) -> None:
        self._phase = "backward"
        if self._last_ones is not None and is_bad(self._last_ones):
            self.bad_root = True
            self.roots.add(self.writer(self._last_ones))

    def _judge(
        self,
        index: int,
        func: Any,
        place: Any,
        inputs: Any,
        before: Any,
        bad: Any,
        outputs: Any,
        touched: Any,
        scalars: list[float],
    ) -> None:
        for tensor in outputs:
            if tensor.dtype == torch.float16 and tensor.numel():
                share = float(tensor.detach().abs().max()) / 65504
                self.half_peak = max(self.half_peak, (share, place[1]))
        results = [t for t in (*outputs, *touched) if is_bad(t)]
        for tensor in touched:  # a good part (a view) says nothing of the rest of the memory
            if not any(tensor is b for b in results) and tensor.nbytes == tensor.untyped_storage().nbytes():
                self.writers.pop(_memory(tensor), None)
        if not results and not bad:
            return
        phase, module, source, node, forward = place
        if phase == "optimizer" and self.renew is not None and any(not self.name_of(t) for t in results):
            self.state = self.renew()
        op = Op(index, func.name().partition(".")[0], phase, module, source, node, forward)
        op.bad_inputs, op.bad_output = bad, bool(results)
        op.output_nan = any(bool(torch.isnan(t).any()) for t in results)
        op.operands = before or [measure(name, t, self.name_of(t)) for name, t in inputs]
        op.operands += [measure("result", t, self.name_of(t)) for t in results]
        op.scalars = scalars
        op.outputs = results
        op.rows = self._rows(op, results, [t for _, t in inputs])
        op.rates = [float(g["lr"]) for o in self.optimizers for g in o.param_groups] if phase == "optimizer" else []
        op.wrote = [self.name_of(t) for t in results if self.name_of(t)]
        seen = {_memory(t) for _, t in inputs} - {_memory(t) for t in touched}
        for tensor in results:
            if _memory(tensor) not in seen:  # a view writes nothing
                self.writers[_memory(tensor)] = index
        self._kept += results
        self.ops[index] = op

    def _rows(self, op: Op, results: list[Tensor], inputs: list[Tensor]) -> list[int]:
        """Rows of the batch in what came out, or else went in; the state and an optimizer's numbers are of no row."""
        if op.phase == "optimizer":
            return []
        at = op.forward if op.forward >= 0 else op.index
        found = (self.rows.bad(t, at) for t in (*results, *inputs) if not self.name_of(t))
        return next((rows for rows in found if rows), list[int]())

    def name_of(self, tensor: Tensor) -> str:
        """`weights: stem.conv.weight` where the tensor is of the state, else nothing."""
        kind, name = self.state.get(tensor.data_ptr(), ("", "")) if tensor.numel() else ("", "")
        return f"{kind}: {name}" if kind else ""

    def writer(self, tensor: Tensor) -> int:
        """The operation that left something bad in this tensor's memory; -1 for none."""
        return self.writers.get(_memory(tensor), -1)

    def forward_name(self, op: Op) -> str | None:
        """For an operation of backward: the forward operation that it differentiates."""
        found = next((f for f in self._forward.values() if f[0] == op.forward), None)
        return found[3].partition(".")[0] if found else None

    def spread(self, birth: int) -> list[dict[str, str]]:
        """Where the bad number went from its birth, a line a module and phase, in order."""
        reached = {birth}
        way: list[dict[str, str]] = []
        for index in sorted(self.ops):
            op = self.ops[index]
            if index == birth or any(writer in reached for writer, _, _ in op.bad_inputs):
                if op.bad_output:
                    reached.add(index)
                place = {"phase": op.phase, "module": op.module, "op": op.node or op.name}
                if not way or (way[-1]["phase"], way[-1]["module"]) != (op.phase, op.module):
                    way.append(place)
        return way[:200]

    def is_batch(self, tensor: Tensor) -> bool:
        """Whether a tensor that nothing wrote is the batch: its memory, or a copy made out of sight of a bad batch."""
        at = tensor.data_ptr()
        return any(low <= at < high for low, high in self._batch) or (self._batch_is_bad and tensor.ndim > 0)

    def is_meant(self, tensor: Tensor) -> bool:
        """Whether infinities in this tensor were there before and are meant."""
        at = tensor.data_ptr()
        return any(low <= at < high for low, high in self._meant)

    def _averages(self, base: str, inputs: list[tuple[str, Tensor]]) -> list[Tensor]:
        """The running averages that a batch norm writes without saying so in its schema."""
        if "batch_norm" not in base or "backward" in base:
            return []
        return [t for name, t in inputs if name.startswith("running_")]


def _spans(tensors: Iterable[Tensor]) -> list[tuple[int, int]]:
    return [(t.data_ptr(), t.data_ptr() + t.untyped_storage().nbytes()) for t in tensors if t.numel()]


def _memory(tensor: Tensor) -> int:
    if tensor.layout != torch.strided:
        return id(tensor)
    return tensor.untyped_storage()._cdata  # pyright: ignore[reportPrivateUsage]


def _named(func: Any, args: Any, kwargs: Any) -> list[tuple[str, Tensor]]:
    """(argument, tensor), lists of tensors flattened."""
    names = [a.name for a in func._schema.arguments]
    found: list[tuple[str, Tensor]] = []
    for name, value in [*zip(names, args, strict=False), *kwargs.items()]:
        found += [(name, t) for t in tree_leaves(value) if isinstance(t, Tensor)]
    return found


def _written(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
    """Tensors that the operation writes in place."""
    found: list[Tensor] = []
    for i, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[i] if i < len(args) else kwargs.get(argument.name)
            found += [t for t in tree_leaves(value) if isinstance(t, Tensor)]
    return found
