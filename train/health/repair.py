"""Repairs that can be tried on the failing step itself: would it have stayed finite?"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, cast
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from az.train.health.op_trace import current_autograd_node

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
def _guarded(names: set[str], guard: Callable[[Any, Any], tuple[Any, Any]]) -> Generator[None]:
    with _GuardedBackward(names, guard), _Guarded(names, guard):
        yield


def _tiny(tensor: Tensor) -> float:
    return max(1e-12, float(torch.finfo(tensor.dtype).tiny)) if tensor.is_floating_point() else 1e-12


def _low(args: Any, kwargs: Any) -> tuple[Any, Any]:
    return (args[0].clamp_min(_tiny(args[0])), *args[1:]), kwargs


def _high(args: Any, kwargs: Any) -> tuple[Any, Any]:
    limit = torch.log(torch.tensor(torch.finfo(args[0].dtype).max)) - 1 if args[0].is_floating_point() else 80.0
    return (args[0].clamp_max(float(limit)), *args[1:]), kwargs


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
    if len(args) < 2 or not isinstance(args[1], Tensor) or not args[1].is_floating_point():
        return args, kwargs
    a, b = broadcast(args[0], args[1])
    zero = torch.zeros((), dtype=b.dtype)
    return (torch.where(torch.isinf(a), zero, a), torch.where(torch.isinf(b), zero, b)), kwargs


@contextmanager
def _full_precision() -> Generator[None]:
    """Autocast switched off, wherever it is asked for."""

    def stay(self: Any) -> Any:
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
def _clipped(optimizers: list[torch.optim.Optimizer]) -> Generator[None]:
    """Gradients are clipped to a norm of 1 before every optimizer step, without overflow on the way."""

    def clip(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not grads:
            return
        peak = torch.stack([g.abs().max() for g in grads]).max().clamp_min(1e-30)
        ratio = torch.stack([((g / peak) ** 2).sum() for g in grads]).sum().sqrt()  # the norm, in units of the peak
        for g in grads:
            g.div_(peak).mul_(torch.minimum(peak, 1.0 / ratio))

    handles = [o.register_step_pre_hook(clip) for o in optimizers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def for_operation(cause: str, op: str, optimizers: list[torch.optim.Optimizer]) -> tuple[str, Any] | None:
    """(what is tried, the context to run the step in) for a fault of an operation; None where nothing can be tried."""
    name = op.lower()
    if cause in ("log-of-zero", "log-of-negative") or (cause == "gradient-at-singularity" and name.startswith("log")):
        return "the logarithm's argument is at least 1e-12", _guarded(LOG, _low)
    if cause in ("division-by-zero", "zero-over-zero"):
        return "a divisor of 0 becomes 1e-12", _guarded(DIVIDE, _divisor)
    if cause == "root-of-negative" or (cause == "gradient-at-singularity" and ("sqrt" in name)):
        return "the root's argument is at least 1e-12", _guarded(ROOT, _low)
    if cause == "gradient-at-singularity" and "div" in name:
        return "a divisor of 0 becomes 1e-12", _guarded(DIVIDE, _divisor)
    if cause == "gradient-at-singularity" and "norm" in name:
        return "the norm's argument is kept away from 0", _guarded(NORM, _nonzero)
    if cause == "gradient-at-singularity" and "pow" in name:
        return "the base of the power is kept away from 0", _guarded({"pow", "__pow__"}, _nonzero)
    if cause == "exp-overflow":
        return "the exponent stays below the overflow", _guarded(EXPONENTIAL, _high)
    if cause == "inf-times-zero":
        return "an infinite factor becomes 0", _guarded(MULTIPLY, _factors)
    if cause == "half-overflow":
        return "the step runs without autocast", _full_precision()
    if cause in ("second-moment-overflow", "second-moment-vanished", "update-overflow", "update-too-large"):
        return "gradients are clipped to a norm of 1", _clipped(optimizers)
    return None
