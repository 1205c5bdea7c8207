"""Repairs that can be tried on the failing step itself: would it have stayed finite?"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from .op_trace import current_autograd_node
from .optimizer_hooks import hook_steps

LOG = {"log", "log2", "log10", "log1p"}
DIVIDE = {"div", "true_divide", "__truediv__", "divide"}
ROOT = {"sqrt", "rsqrt"}
NORM = {"norm", "vector_norm"}
EXPONENTIAL = {"exp", "expm1", "exp2", "sinh", "cosh"}
SMALL_SCALE = 2.0**-16
broadcast = cast("Callable[..., list[Tensor]]", torch.broadcast_tensors)
MULTIPLY = {"mul", "__mul__", "__rmul__", "multiply"}


class _Guarded(TorchFunctionMode):
    """Every call of one family of functions gets arguments that it can bear."""

    def __init__(self, names: set[str], guard: Callable[[Any, Any], tuple[Any, Any]]) -> None:
        super().__init__()
        self.names, self.guard = names, guard

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = (
            getattr(func, "__name__", "").rstrip("_")
            if not getattr(func, "__name__", "").startswith("__")
            else func.__name__
        )
        if name.removeprefix("linalg_").removeprefix("special_") in self.names and args and isinstance(args[0], Tensor):
            args, kwargs = self.guard(args, kwargs)
        return func(*args, **kwargs)


class _GuardedBackward(TorchDispatchMode):
    """The same for what runs in backward, such as a custom function's own, where no call of a function is seen."""

    def __init__(self, names: set[str], guard: Callable[[Any, Any], tuple[Any, Any]]) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self.names, self.guard = names, guard

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.name().partition("::")[2].partition(".")[0].rstrip("_")
        if name in self.names and current_autograd_node() is not None and isinstance(args[0], Tensor):
            args, kwargs = self.guard(args, kwargs)
        return func(*args, **kwargs)


@contextmanager
def _guarded(names: set[str], guard: Callable[[Any, Any], tuple[Any, Any]], used: list[bool]) -> Generator[None]:
    def noted(args: Any, kwargs: Any) -> tuple[Any, Any]:
        used.append(True)
        return guard(args, kwargs)

    with _GuardedBackward(names, noted), _Guarded(names, noted):
        yield


def _tiny(tensor: Tensor) -> float:
    return max(1e-12, float(torch.finfo(tensor.dtype).tiny)) if tensor.is_floating_point() else 1e-12


def _low(args: Any, kwargs: Any) -> tuple[Any, Any]:
    return (args[0].clamp_min(_tiny(args[0])), *args[1:]), kwargs


def _high(args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Half of the way to the overflow: what comes after may add the exponentials up, or square them."""
    kind = args[0].dtype if args[0].is_floating_point() else torch.get_default_dtype()
    return (args[0].clamp_max(0.5 * math.log(torch.finfo(kind).max)), *args[1:]), kwargs


def _divisor(args: Any, kwargs: Any) -> tuple[Any, Any]:
    if len(args) < 2:
        return args, kwargs
    divisor = args[1]
    if isinstance(divisor, Tensor):
        kind = torch.result_type(args[0], divisor)  # a divisor of integers is not the place for a small number
        divisor = divisor.to(kind if kind.is_floating_point else torch.get_default_dtype())
        tiny = torch.full_like(divisor, _tiny(divisor))
        divisor = torch.where(divisor.abs() < tiny, tiny, divisor)
    elif divisor == 0:
        divisor = 1e-12
    return (args[0], divisor, *args[2:]), kwargs


def _nonzero(args: Any, kwargs: Any) -> tuple[Any, Any]:
    x = args[0]
    return (torch.where(x.abs() < 1e-12, torch.full_like(x, 1e-12), x), *args[1:]), kwargs


def _factors(args: Any, kwargs: Any) -> tuple[Any, Any]:
    if len(args) > 1 and isinstance(args[1], int | float) and math.isinf(args[1]) and args[0].is_floating_point():
        return (args[0], torch.where(args[0] == 0, torch.zeros_like(args[0]), args[1])), kwargs
    if len(args) < 2 or not isinstance(args[1], Tensor) or not args[1].is_floating_point():
        return args, kwargs
    a, b = broadcast(args[0], args[1])
    zero = torch.zeros((), dtype=b.dtype)
    return (torch.where(torch.isinf(a), zero, a), torch.where(torch.isinf(b), zero, b)), kwargs


def _without_infinity(args: Any, kwargs: Any) -> tuple[Any, Any]:
    """`F.ctc_loss` has zero_infinity as its seventh argument."""
    if len(args) > 6:
        return (*args[:6], True, *args[7:]), kwargs
    return args, {**kwargs, "zero_infinity": True}


@contextmanager
def _full_precision(used: list[bool]) -> Generator[None]:
    """Autocast switched off, wherever it is asked for."""

    def stay(self: Any) -> Any:
        used.append(True)
        self._az_asked, self._enabled = self._enabled, False
        return enter(self)

    enter = torch.autocast.__enter__
    with patch.object(torch.autocast, "__enter__", stay):
        yield


@contextmanager
def lowered(scalers: list[Any]) -> Generator[None]:
    """Gradient scalers begin at so small a scale that no finite gradient overflows. The caller restores them."""
    for scaler in scalers:
        if scaler._scale is None:  # made in the first step
            scaler._init_scale = SMALL_SCALE
        else:
            scaler._scale.fill_(SMALL_SCALE)
    yield


@contextmanager
def clipped(optimizers: list[torch.optim.Optimizer], used: list[bool] | None = None) -> Generator[None]:
    """Gradients are clipped to a norm of 1 before every optimizer step, without overflow on the way."""

    def clip(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if used is not None:
            used.append(True)
        grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not grads:
            return
        peak = torch.stack([g.abs().max() for g in grads]).max().clamp_min(1e-30)
        ratio = torch.stack([((g / peak) ** 2).sum() for g in grads]).sum().sqrt()  # the norm, in units of the peak
        for g in grads:
            g.div_(peak).mul_(torch.minimum(peak, 1.0 / ratio))

    handles = hook_steps(optimizers, clip)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class Repair:
    """What is tried, the context to run the step in, and what that has changed in it: empty where it met nothing."""

    words: str
    context: Any
    used: list[bool]


FAMILIES = {  # what is tried, the functions that it is done to, and how
    "log": ("the logarithm's argument is at least 1e-12", LOG, _low),
    "div": ("a divisor of 0 becomes 1e-12", DIVIDE, _divisor),
    "sqrt": ("the root's argument is at least 1e-12", ROOT, _low),
    "norm": ("the norm's argument is kept away from 0", NORM, _nonzero),
    "pow": ("the base of the power is kept away from 0", {"pow", "__pow__"}, _nonzero),
    "exp": ("the exponent stays below half of what overflows", EXPONENTIAL, _high),
    "mul": ("an infinite factor becomes 0", MULTIPLY, _factors),
    "ctc": ("the CTC loss with zero_infinity", {"ctc_loss"}, _without_infinity),
}
FAMILY_OF = {"log-of-zero": "log", "log-of-negative": "log", "division-by-zero": "div", "zero-over-zero": "div",
             "root-of-negative": "sqrt", "exp-overflow": "exp", "inf-times-zero": "mul",
             "no-alignment": "ctc"}  # fmt: skip


def for_operation(cause: str, op: str, optimizers: list[torch.optim.Optimizer]) -> Repair | None:
    """The repair of a fault of an operation; None where nothing can be tried."""
    name, used = op.lower(), list[bool]()
    family = FAMILY_OF.get(cause)
    if cause == "gradient-at-singularity":
        family = next((key for key in ("log", "sqrt", "div", "norm", "pow") if key in name), None)
    if cause == "zero-over-zero" and "norm" in name:
        return None  # the division is inside of one kernel
    if cause == "division-by-zero" and "pow" in name:
        family = "pow"
    if family is not None:
        words, names, guard = FAMILIES[family]
        return Repair(words, _guarded(names, guard, used), used)
    if cause == "half-overflow":
        return Repair("the step runs without autocast", _full_precision(used), used)
    if cause in ("second-moment-overflow", "second-moment-vanished", "update-overflow", "update-too-large"):
        return Repair("gradients are clipped to a norm of 1", clipped(optimizers, used), used)
    return None
