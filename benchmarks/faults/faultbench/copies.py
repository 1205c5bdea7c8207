"""The suite's own copy of what a loop trains, taken without the help of any tool, to notice damage."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from faultbench.loops import Loop


def copied(value: Any) -> Any:
    """A deep copy: tensors cloned, containers rebuilt, everything else as it is."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: copied(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [copied(inner) for inner in value]
    return value


def state_of(loop: Loop) -> dict[str, Any]:
    """Copies of parameters, buffers, optimizer states, and the states of schedulers, scalers and averages.

    Gradients and random states are left out: the next step of these loops writes its gradients itself, and their
    batches come from generators of their own. Learning rates are left out too: a schedule sets them in every step.
    """
    found: dict[str, Any] = {f"model {i}": copied(model.state_dict()) for i, model in enumerate(loop.models())}
    for i, optimizer in enumerate(loop.optimizers):
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        found[f"optimizer {i}"] = [copied(dict(optimizer.state.get(p, {}))) for p in parameters]
    for i, item in enumerate(loop.extra):
        found[f"extra {i}"] = copied(item.state_dict())
    return found


def same_bits(a: Any, b: Any) -> bool:
    """Whether two copies are equal to the bit; NaN equals a NaN of the same bits."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and _bytes(a) == _bytes(b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same_bits(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same_bits(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, float) and isinstance(b, float):
        return np.float64(a).tobytes() == np.float64(b).tobytes()
    return type(a) is type(b) and (callable(a) or bool(a == b))


def _bytes(tensor: Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def all_finite(value: Any) -> bool:
    """Whether every number of a copy is finite."""
    if isinstance(value, Tensor):
        return bool(torch.isfinite(value).all())
    if isinstance(value, dict):
        return all(all_finite(inner) for inner in value.values())
    if isinstance(value, list):
        return all(all_finite(inner) for inner in value)
    return not isinstance(value, float) or bool(np.isfinite(value))
