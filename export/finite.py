"""The finite gate: which tensor is not finite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Violation:
    """What a guard found. It decides nothing; its text is part of the caller's sentence."""

    tensor: str  # its name in the state dict (with a prefix for other states: `optimizer.…`)
    kind: str  # "NaN", "inf", or "inf or NaN"
    count: int  # bad entries
    first: tuple[int, ...]  # index of the first

    def __str__(self) -> str:
        where = f"first at [{','.join(map(str, self.first))}]" if self.first else "its only number"
        return f"{self.tensor} holds {self.count} {self.kind}, {where}"


def first_non_finite(tensors: Mapping[str, Tensor]) -> Violation | None:
    """The first tensor, in the mapping's order, with a NaN or an infinity; None when all are finite.

    Takes weights, buffers, averaged weights, optimizer state: any tensors by name. Integers are finite by nature.
    """
    for name, tensor in tensors.items():
        if not (tensor.is_floating_point() or tensor.is_complex()):
            continue
        numbers = tensor.detach().to("cpu", torch.float32 if tensor.dtype == torch.bfloat16 else tensor.dtype).numpy()
        finite = np.isfinite(numbers)  # numpy: no thread pool to wake for a few thousand numbers
        if finite.all():
            continue
        bad = np.argwhere(~finite)
        nans = int(np.isnan(numbers).sum())
        kind = "NaN" if nans == len(bad) else "inf or NaN" if nans else "inf"
        return Violation(name, kind, len(bad), tuple(int(i) for i in bad[0]))
    return None
