"""Re-runs a step and records each operation that produced a non-finite value, with its inputs and source line.

Works below autograd (forward, backward, optimizer and buffers alike). Nothing is changed: the same kernels run on the
same numbers, so the watched step ends in the same bits as the step that failed.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .backward_way import BackwardWay
from .op import Op, only_follows
from .operands import (
    address,
    fills_memory,
    has_memory,
    has_nan,
    is_bad,
    measure,
    memory,
    named_inputs,
    spans,
    written_by,
)
from .optimizer_hooks import hook_steps
from .places import hand_over, is_custom, parameter_of
from .rows import Rows
from .source_lines import user_line
from .windows import LONG, TooLong, Window, after_backward

# The autograd node that runs now; None outside of backward, which the stub leaves out.
current_autograd_node: Callable[[], Any] = torch._C._current_autograd_node  # pyright: ignore[reportPrivateUsage]
_autograd: Any = torch.autograd  # _get_sequence_nr is used by torch's own profiler, and missing from the stubs
_CHECKPOINT = os.path.join(os.path.dirname(torch.__file__), "utils", "checkpoint.py")
# Operations that write their whole target: what it held before does not matter.
OVERWRITE = {"copy_", "fill_", "zero_", "normal_", "uniform_", "random_", "bernoulli_", "exponential_", "set_"}
# Operations whose further results are for their own derivative: -inf stands there where a path is impossible.
ONE_RESULT = {"aten::_ctc_loss", "aten::_ctc_loss.Tensor", "aten::_cudnn_ctc_loss", "aten::_cudnn_ctc_loss.Tensor"}
GROWING = {"exp", "exp2", "expm1", "sinh", "cosh"}


def _recomputes() -> bool:
    """Whether backward runs a part of forward again: gradient checkpointing."""
    frame = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
    while frame is not None and frame.f_code.co_name != "_engine_run_backward":
        if frame.f_code.co_filename == _CHECKPOINT:
            return True
        frame = frame.f_back
    return False


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
        others: Iterable[tuple[str, nn.Module]] = (),
        bad_numbers: bool = False,
    ) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self.model, self.optimizers, self.state, self.renew = model, list(optimizers), state, renew
        self.rows = Rows((), rows) if isinstance(rows, int) else rows
        given = list(batch)
        self._batch, self._batch_is_bad = spans(given), bad_numbers or any(is_bad(t) for t in given)
        self._meant = spans(meant)
        self.reads_batch = False  # an operation was given memory of the batch
        self.count = 0
        self.backward = BackwardWay()
        self.ops: dict[int, Op] = {}
        self.bad_root = False  # the number that backward began from was bad
        self.roots: set[int] = set()  # the operations that wrote such numbers
        self.writers: dict[int, int] = {}  # memory → the operation that left something bad there
        self.half_peak = (0.0, "")  # largest share of the range of float16, and the module that reached it
        self._forward: dict[int, tuple[int, str | None, str, str]] = {}  # sequence number → operation
        modules = cast("Iterable[tuple[str, nn.Module]]", model.named_modules())
        self._names = {id(module): name for name, module in modules}
        self._modules = list(model.modules())
        for prefix, other in others:
            inner = cast("Iterable[tuple[str, nn.Module]]", other.named_modules(prefix=prefix.removesuffix(".")))
            new = [(name, module) for name, module in inner if id(module) not in self._names]
            self._names |= {id(module): name for name, module in new}
            self._modules += [module for _, module in new]
        self._grown: dict[int, int] = {}  # memory of large finite numbers that an exponential made → its operation
        self._stack: list[str] = []
        self._module_at: dict[str, str | None] = {}  # line → the module whose forward first came there
        self._phase = "data"
        self._in_optimizer = False
        self._backward_ended = 0  # the first operation after backward, while no optimizer has stepped since
        self._last_ones: Tensor | None = None
        self.window: Window | None = None  # what is watched closely, of a step of more operations than LONG
        self.only: set[str] | None = None  # or only these operations are
        self.ends: set[int] = set()  # where the window has ended: what wrote the gradients that were bad then
        self.hit: list[tuple[int, str]] = []  # (that operation, `gradients: 1.weight`)
        self.check: Callable[[], None] = lambda: None  # called now and then; may raise
        self._kept: list[Tensor] = []  # alive until the end, so that no address is used twice
        self._is_late = False  # the operation of now only hands on NaN
        self._handles: list[Any] = []
        self._context = ExitStack()

    # -- where we are ---------------------------------------------------------------------------------------------

    def __enter__(self) -> OpTrace:
        try:
            for module in self._modules:
                if not isinstance(module, torch.jit.ScriptModule):
                    self._handles.append(module.register_forward_pre_hook(self._begin, prepend=True))
                    self._handles.append(module.register_forward_hook(self._end, always_call=True))
            if self.window is not None:
                self._context.enter_context(after_backward(self.window.end_one))
            self._handles += hook_steps(self.optimizers, self._begin_step, self._end_step)
        except BaseException:  # no hook may be left on a model of the user's
            self.close()
            raise
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()
        super().__exit__(*error)  # pyright: ignore[reportUnknownMemberType]

    def close(self) -> None:
        """No hook is left; at the end of the context, and again where a signal may have broken that off."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._context.close()

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

    def _begin_step(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._optimizing(True)
        return hand_over(args, kwargs, self._closure)

    @contextmanager
    def _closure(self) -> Generator[None]:
        """The closure that an optimizer calls is data, forward and loss again."""
        self._optimizing(False)
        self._phase = "data"
        try:
            yield
        finally:
            self._optimizing(True)

    def _end_step(self, *_: Any) -> None:
        self._optimizing(False)

    def _optimizing(self, now: bool) -> None:
        self._in_optimizer, self._backward_ended = now, 0
        self._phase = "optimizer"

    # -- every operation ------------------------------------------------------------------------------------------

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._passes(func):
            return func(*args, **kwargs)
        differentiated = torch.is_grad_enabled()
        with torch.no_grad():
            if differentiated:
                self.note("forward" if self._stack else self._phase, named_inputs(func, args, kwargs))
            return self._run(func, args, kwargs, differentiated)

    def _passes(self, func: Any) -> bool:
        """Whether an operation is not looked at; ends a trace that is too long, or has lasted too long."""
        self.count += 1
        if not self.count % 256:
            self.check()
        if self.window is not None:
            return not self.window.is_open or self.bad_root  # backward of a bad loss: there is no more to find
        if self.only is not None:
            return func.name().removeprefix("aten::").partition(".")[0].rstrip("_") not in self.only
        if self.count > LONG:
            raise TooLong
        return False

    def close_window(self) -> None:
        """The backward that was watched has ended: what it left bad is what there is to explain."""
        parameters = {id(p): p for one in self.optimizers for group in one.param_groups for p in group["params"]}
        parameters |= {id(p): p for module in self._modules for p in module.parameters(recurse=False)}
        found = [p for p in reversed(parameters.values()) if p.grad is not None and is_bad(p.grad)]
        after = self.count if self.bad_root else 0  # their writers were not watched: the last layers come first
        hit = [(after + i if after else self.writer(cast("Tensor", p.grad)), p) for i, p in enumerate(found)]
        self.ends = self.roots or {writer for writer, _ in hit}
        self.hit = [(writer, f"gradients: {self.name_of(p).partition(': ')[2]}") for writer, p in hit]

    def note(self, phase: str, inputs: list[tuple[str, Tensor]]) -> None:
        """Called for every operation that autograd may differentiate; for subclasses."""

    def _run(self, func: Any, args: Any, kwargs: Any, differentiated: bool) -> Any:
        index = self.count
        node = current_autograd_node()
        place = self._place(index, func, node)
        inputs = named_inputs(func, args, kwargs)
        written = written_by(func, args, kwargs)
        base = func.name().removeprefix("aten::").partition(".")[0]
        self.rows.see(index, base, inputs)
        targets: set[int] = {id(t) for t in written} if base in OVERWRITE or base.endswith("_out") else set()
        self.reads_batch = self.reads_batch or any(self._is_of_batch(t) for _, t in inputs)
        bad_in = [(name, t) for name, t in inputs if id(t) not in targets and is_bad(t)]
        bad_tensors = [(self.writers.get(memory(t), -1), not has_nan(t), t) for _, t in bad_in]
        hidden = node is not None and not self.bad_root
        self._is_late = only_follows(self.ops, bad_tensors, hidden)
        wanted = not self._is_late and bool(written or bad_in)
        before = [measure(name, t, self.name_of(t)) for name, t in inputs] if wanted else None
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
        if node is not None and place[0] == "backward":
            self.backward.see(node, index, place[1], place[2], index in self.ops and self.ops[index].bad_output)
        return out

    def _place(self, index: int, func: Any, node: Any) -> tuple[str, str | None, str, str, int]:
        """(phase, module, source, autograd node, forward operation)"""
        source, below = user_line(4)
        again = node is not None and ((bool(self._stack) and not below) or _recomputes())
        if again:
            module = self._stack[-1] if self._stack else self._module_at.get(source)
            self._forward.setdefault(_autograd._get_sequence_nr(), (index, module, source, func.name()))
            return "forward", module, source, "", -1
        if node is None:
            if self._phase == "backward":  # backward is over: clipping, scaling, the optimizer
                self._phase, self._backward_ended = "optimizer", index
            phase = "forward" if self._stack else self._phase
            module = self._stack[-1] if self._stack else None
            self._module_at.setdefault(source, module)
            if not self._in_optimizer:
                at = _autograd._get_sequence_nr()
                self._forward.setdefault(at, (index, module, source, func.name()))
            return phase, module, source, "", -1
        found = self._forward.get(node._sequence_nr() + 1)
        if found is None:
            own_code = bool(source) and not below and not is_custom(node)  # a hook's operation, not that of the node
            return "backward", None, source, "" if own_code else node.name(), -1
        own = source if not below and source else found[2]  # a custom function's own line, else its forward line
        own_code = own == source and not below and bool(source) and not is_custom(node)
        return "backward", found[1], own, "" if own_code else node.name(), found[0]

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
            if tensor.dtype == torch.float16 and tensor.numel() and has_memory(tensor):
                share = float(tensor.detach().abs().max()) / 65504
                self.half_peak = max(self.half_peak, (share, place[1] or ""))
        judged = outputs[:1] if func.name() in ONE_RESULT else outputs
        results = [t for t in (*judged, *touched) if is_bad(t)]
        for tensor in touched:  # a good part (a view) says nothing of the rest of the memory
            if not any(tensor is b for b in results) and fills_memory(tensor):
                self.writers.pop(memory(tensor), None)
        grown = self._grows(index, func, inputs, outputs)
        if not results and not bad:
            return
        phase, module, source, node, forward = place
        if phase == "optimizer" and self.renew is not None and any(not self.name_of(t) for t in results):
            self.state = self.renew()
        op = Op(index, func.name().partition(".")[0], phase, module, source, node, forward)
        op.bad_inputs, op.bad_output, op.grown = bad, bool(results), grown
        op.output_nan = any(map(has_nan, results))
        if not self._is_late:
            op.operands = before or [measure(name, t, self.name_of(t)) for name, t in inputs]
            op.operands += [measure("result", t, self.name_of(t)) for t in results]
        op.scalars, op.outputs = scalars, results
        op.gradient_of = parameter_of(current_autograd_node(), self.name_of) if phase == "backward" else ""
        op.rows = [] if self._is_late else self._rows(op, results, [t for _, t in inputs])
        op.rates = [float(g["lr"]) for o in self.optimizers for g in o.param_groups] if phase == "optimizer" else []
        op.wrote = [self.name_of(t) for t in results if self.name_of(t)]
        seen = {memory(t) for _, t in inputs} - {memory(t) for t in touched}
        for tensor in results:
            if memory(tensor) not in seen:  # a view writes nothing
                self.writers[memory(tensor)] = index
        self._kept += results
        self.ops[index] = op

    def _grows(self, index: int, func: Any, inputs: list[tuple[str, Tensor]], outputs: list[Tensor]) -> bool:
        """Whether this was given large numbers of an exponential; remembers large ones that it gives itself."""
        base = func.name().removeprefix("aten::").partition(".")[0].rstrip("_")
        given = any(memory(t) in self._grown for _, t in inputs) if self._grown else False
        for tensor in outputs if given or base in GROWING else ():
            if (
                tensor.is_floating_point()
                and has_memory(tensor)
                and tensor.numel()
                and memory(tensor) not in self._grown
            ):
                most = float(torch.nan_to_num(tensor.detach(), 0.0, 0.0, 0.0).abs().max())
                if most > math.sqrt(torch.finfo(tensor.dtype).max):
                    self._grown[memory(tensor)] = index
                    self._kept.append(tensor)
        return given

    def _rows(self, op: Op, results: list[Tensor], inputs: list[Tensor]) -> list[int]:
        """Rows of the batch in what came out, or else went in; the state and an optimizer's numbers are of no row."""
        if op.phase == "optimizer" or op.gradient_of:
            return []
        at = op.forward if op.forward >= 0 else op.index
        found = (self.rows.bad(t, at, has_nan(t)) for t in (*results, *inputs) if not self.name_of(t))
        return next((rows for rows in found if rows), list[int]())

    def name_of(self, tensor: Tensor) -> str:
        """`weights: stem.conv.weight` where the tensor is of the state, else nothing."""
        kind, name = self.state.get(address(tensor), ("", "")) if tensor.numel() else ("", "")
        return f"{kind}: {name}" if kind else ""

    def writer(self, tensor: Tensor) -> int:
        """The operation that left something bad in this tensor's memory; -1 for none."""
        return self.writers.get(memory(tensor), -1)

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
                place = {"phase": op.phase, "module": op.module or "", "op": op.node or op.name}
                if not way or (way[-1]["phase"], way[-1]["module"]) != (op.phase, op.module or ""):
                    way.append(place)
        return way[:200]

    def is_batch(self, tensor: Tensor) -> bool:
        """Whether a tensor that nothing wrote is the batch: its memory, or a copy made out of sight of a bad batch."""
        return self._is_of_batch(tensor) or (self._batch_is_bad and tensor.ndim > 0)

    def _is_of_batch(self, tensor: Tensor) -> bool:
        at = address(tensor)
        return any(low <= at < high for low, high in self._batch)

    def is_meant(self, tensor: Tensor) -> bool:
        """Whether infinities in this tensor were there before and are meant."""
        at = address(tensor)
        return any(low <= at < high for low, high in self._meant)

    def _averages(self, base: str, inputs: list[tuple[str, Tensor]]) -> list[Tensor]:
        """The running averages that a batch norm writes without saying so in its schema."""
        if "batch_norm" not in base or "backward" in base:
            return []
        return [t for name, t in inputs if name.startswith("running_")]
