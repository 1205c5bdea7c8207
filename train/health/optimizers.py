"""An optimizer kept and put back in place: its groups, their options, and what its state is made of."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def keep_optimizer(optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """Puts the optimizer back, in the same objects. The numbers of the tensors in its state are kept elsewhere."""
    holder, whole = optimizer.param_groups, optimizer.state
    groups = [(group, list(group["params"]), _options(group)) for group in holder]
    state = [(parameter, inner, _values(inner)) for parameter, inner in whole.items()]

    def back() -> None:
        if optimizer.param_groups is not holder:  # a state was loaded
            optimizer.param_groups = holder
        if optimizer.state is not whole:
            optimizer.state = whole
        holder[:] = [group for group, _, _ in groups]
        for group, parameters, options in groups:
            group["params"][:] = parameters
            _write(group, {name: _again(*option) for name, option in options.items()} | {"params": group["params"]})
        whole.clear()
        for parameter, inner, values in state:
            whole[parameter] = inner
            _write(inner, {name: _copied(value) for name, value in values.items()})

    return back


def _options(group: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """name → (value, its copy); a rate may be a tensor."""
    named = ((name, value) for name, value in group.items() if name != "params")
    return {name: (value, value.clone() if isinstance(value, Tensor) else copy.copy(value)) for name, value in named}


def _again(value: Any, kept: Any) -> Any:
    return value.copy_(kept) if isinstance(value, Tensor) else copy.copy(kept)


def _values(inner: dict[str, Any]) -> dict[str, Any]:
    return {name: _copied(value) for name, value in inner.items()}


def _copied(value: Any) -> Any:
    """Tensors by reference, all else copied."""
    return value if value is None or isinstance(value, Tensor) else copy.deepcopy(value)


def _write(holder: dict[str, Any], values: dict[str, Any]) -> None:
    for name in [name for name in holder if name not in values]:
        del holder[name]
    holder.update(values)
