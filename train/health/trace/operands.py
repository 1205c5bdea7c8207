"""What the tensors of an operation held: ranges and counts, and where they lie in memory."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from .pytree import is_finite, parts_of


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


def measure(role: str, tensor: Tensor, name: str = "") -> Operand:
    """Range and counts of a tensor."""
    values = _numbers(tensor.detach())
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
    return Operand(role, _shape(tensor), dtype, low, high, nans, infs, zeros, name)


def has_nan(tensor: Tensor) -> bool:
    """Whether a tensor holds NaN."""
    values = _numbers(tensor.detach())
    return bool(torch.isnan(values).any()) if values.is_floating_point() or values.is_complex() else False


def has_plus_infinity(tensor: Tensor) -> bool:
    """Whether a tensor holds +inf."""
    values = _numbers(tensor.detach())
    return values.is_floating_point() and bool((values == math.inf).any())


def is_bad(tensor: Tensor) -> bool:
    """Whether a tensor holds NaN or an infinity."""
    return not is_finite(tensor)


def _numbers(values: Tensor) -> Tensor:
    """Those of a sparse or nested tensor; none of what has no numbers to look at."""
    if values.layout is not torch.strided or values.is_nested:
        parts = parts_of(values)
        return parts[0][1] if parts else torch.empty(0)
    return torch.empty(0) if values.is_quantized or values.is_meta else values


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return (tensor.size(0),) if tensor.is_nested else tuple(tensor.shape)


def has_memory(tensor: Tensor) -> bool:
    """Whether a tensor's numbers lie at an address of its own."""
    return tensor.layout is torch.strided and not tensor.is_nested and not tensor.is_meta


def address(tensor: Tensor) -> int:
    """Where a tensor's numbers lie; 0 for a tensor without memory of its own."""
    return tensor.data_ptr() if has_memory(tensor) else 0


def memory(tensor: Tensor) -> int:
    """The same for all tensors that share their memory."""
    if not has_memory(tensor):
        return id(tensor)
    return tensor.untyped_storage()._cdata  # pyright: ignore[reportPrivateUsage]


def fills_memory(tensor: Tensor) -> bool:
    """Whether a tensor is all there is in its memory, and no view of a part."""
    return not has_memory(tensor) or tensor.nbytes == tensor.untyped_storage().nbytes()


def spans(tensors: Iterable[Tensor]) -> list[tuple[int, int]]:
    """(first address, the one behind the last) of the memory of tensors."""
    lying = [t for t in tensors if has_memory(t) and t.numel()]
    return [(t.data_ptr(), t.data_ptr() + t.untyped_storage().nbytes()) for t in lying]


def named_inputs(func: Any, args: Any, kwargs: Any) -> list[tuple[str, Tensor]]:
    """(argument, tensor) of a call, lists of tensors flattened."""
    names = [a.name for a in func._schema.arguments]
    found: list[tuple[str, Tensor]] = []
    for name, value in [*zip(names, args, strict=False), *kwargs.items()]:
        found += [(name, t) for t in tree_leaves(value) if isinstance(t, Tensor)]
    return found


def written_by(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
    """Tensors that the operation writes in place."""
    found: list[Tensor] = []
    for i, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[i] if i < len(args) else kwargs.get(argument.name)
            found += [t for t in tree_leaves(value) if isinstance(t, Tensor)]
    return found
