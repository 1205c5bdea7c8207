"""Hooks around the steps of any optimizer, also of one that wraps another and was never initialized as an optimizer.

accelerate's AcceleratedOptimizer and most Lookahead are of this kind: subclasses of Optimizer without its hooks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch

Optimizer = torch.optim.Optimizer
Hook = Callable[..., Any]  # one before a step may return other (args, kwargs)


class _Patched:
    """`step` of one object, wrapped until `remove`."""

    def __init__(self, optimizer: Any, before: Hook | None, after: Hook | None) -> None:
        self.optimizer = optimizer
        self.own = cast("dict[str, Any]", vars(optimizer)).get("step")
        step = optimizer.step

        def stepped(*args: Any, **kwargs: Any) -> Any:
            changed = before(optimizer, args, kwargs) if before is not None else None
            args, kwargs = (args, kwargs) if changed is None else changed
            value = step(*args, **kwargs)
            if after is not None:
                after(optimizer, args, kwargs)
            return value

        optimizer.step = stepped

    def remove(self) -> None:
        """The object's own `step` again."""
        if self.own is None:
            del self.optimizer.step
        else:
            self.optimizer.step = self.own


def with_inner(optimizer: Any, depth: int = 3) -> list[Any]:
    """An optimizer and those that it wraps, the outermost first."""
    found = [optimizer]
    held = cast("dict[str, Any]", vars(optimizer)) if depth and hasattr(optimizer, "__dict__") else {}
    for value in held.values():
        if isinstance(value, Optimizer) and value is not optimizer:
            found += with_inner(value, depth - 1)
    return found


def with_own_state(optimizer: Any) -> list[Any]:
    """An optimizer, and those that it wraps where their state is not the one that it shows."""
    return [one for one in with_inner(optimizer) if one is optimizer or one.state is not optimizer.state]


def hook_steps(optimizers: Iterable[Any], before: Hook | None = None, after: Hook | None = None) -> list[Any]:
    """Call `before(optimizer, args, kwargs)` and `after(...)` around every step; returns handles with `remove()`."""
    handles: list[Any] = []
    for optimizer in optimizers:
        hooked = [one for one in with_inner(optimizer) if _has_hooks(one)]
        for one in hooked:
            handles += [one.register_step_pre_hook(before)] if before is not None else []
            handles += [one.register_step_post_hook(after)] if after is not None else []
        if not hooked and hasattr(optimizer, "__dict__"):
            handles.append(_Patched(optimizer, before, after))
    return handles


def _has_hooks(optimizer: Any) -> bool:
    """Whether the hooks are kept and `step` calls them: `Optimizer.__init__` sees to both."""
    return hasattr(optimizer, "_optimizer_step_pre_hooks") and hasattr(
        getattr(cast("Any", type(optimizer)), "step", None), "hooked"
    )
