"""Where in the user's code an operation stands: in a closure, in a hook, or in a function of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any

import torch
from torch import Tensor

_custom: Any = torch.autograd.function.BackwardCFunction


def is_custom(node: Any) -> bool:
    """Whether an autograd node is that of a `torch.autograd.Function`: its backward is the user's own code."""
    return isinstance(node, _custom)


def parameter_of(node: Any, name_of: Callable[[Tensor], str]) -> str:
    """`two.weight`, where this node adds up the gradient of that parameter; "" elsewhere."""
    variable = getattr(node, "variable", None)
    return name_of(variable).partition(": ")[2] if isinstance(variable, Tensor) else ""


def hand_over(
    args: tuple[Any, ...], kwargs: dict[str, Any], within: Callable[[], AbstractContextManager[None]]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of an optimizer's step, its closure run within a context."""

    def wrapped(one: Any) -> Any:
        if not callable(one) or isinstance(one, torch.optim.Optimizer):
            return one

        @wraps(one)
        def closure(*args: Any, **kwargs: Any) -> Any:
            with within():
                return one(*args, **kwargs)

        return closure

    return tuple(map(wrapped, args)), {name: wrapped(one) for name, one in kwargs.items()}
