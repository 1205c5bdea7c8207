"""What a step has done of the collectives of its DistributedDataParallel models, and what it owes after an error.

The other ranks wait in the reduction of their gradients for a rank whose step raised. Where the steps so far tell what
is left of it, one forward and backward of one model or less, that rank takes part in it with gradients of zero, so that
no later collective of it meets one of theirs.
"""

from __future__ import annotations

import contextlib
import gc
import math
from collections.abc import Callable
from typing import Any, cast
from unittest.mock import patch

import torch
from torch import Tensor, nn

from ..state.finite_check import foreach_norm

FORWARD, BACKWARD = "forward", "backward"
MOST = 16  # kinds of steps that are told apart
_done: list[str] = []  # by the step that runs now
_queue: Callable[[Callable[[], None]], None] | None = getattr(
    getattr(torch.autograd.Variable, "_execution_engine", None), "queue_callback", None
)


def _note_forward(model: Any, _: Any) -> None:
    """A hook before the forward of a model; a function of this module, so that copying the model copies no state."""
    if torch.is_grad_enabled() and model.require_backward_grad_sync:
        _done.append(FORWARD)


class Collectives:
    """Of one recorder. models: its DistributedDataParallel ones."""

    def __init__(self, models: list[Any]) -> None:
        self.models = models
        self._steps: set[tuple[str, ...]] = set()  # what steps that ended have done
        self._ended = 0  # steps; the first two also settle the order in which gradients are reduced
        self._counts: set[int] = set()  # how many collectives later steps have begun
        self._from = 0
        self._begun = 0  # backwards of this step
        self._own: list[Tensor] | None = None  # numbers of this rank's gradients, from before they were reduced
        for model in models:
            model.register_forward_pre_hook(_note_forward)

    def begin(self) -> None:
        """A step begins."""
        _done.clear()
        self._begun, self._own, self._from = 0, None, self._count()

    def end(self) -> None:
        """It ended without an error."""
        if len(self._steps) < MOST:
            self._steps.add(tuple(_done))
        self._ended += 1
        if self._ended > 2 and len(self._counts) < MOST:
            self._counts.add(self._count() - self._from)

    def _count(self) -> int:
        """Collectives that this rank has begun in the group of its model, the user's own among them."""
        if not self.models or not hasattr(self.models[0].process_group, "_get_sequence_number_for_group"):
            return 0
        return int(self.models[0].process_group._get_sequence_number_for_group())

    def told_root(self, root: Tensor) -> None:
        """Backward is about to begin from this tensor: look at its end, before the gradients of other ranks come in."""
        self._begun += 1
        if root.grad_fn is not None:
            cast("Any", root).register_hook(self._at_begin)

    def _at_begin(self, _: Tensor) -> None:
        if _queue is not None:
            _queue(self._at_end)  # before the reducer's own, which puts the reduced gradients in place

    def _at_end(self) -> None:
        """Backward has made all gradients; those of the other ranks are written over them after this."""
        _done.append(BACKWARD)
        if self._own is None:
            views = any(model.gradient_as_bucket_view for model in self.models)
            self._own = [] if views else _greatest(
                [p.grad.detach() for model in self.models for p in model.parameters() if p.grad is not None]
            )  # fmt: skip

    def own_gradients_are_bad(self) -> bool:
        """Whether this rank's own gradients, of the first backward of the step, held a non-finite number."""
        return any(not bool(torch.isfinite(total)) for total in self._own or [])

    def own_gradients_are_good(self) -> bool:
        """Whether they were looked at and are finite: then what is bad now did not come by the reduction."""
        return bool(self._own) and not self.own_gradients_are_bad()

    def pay(self) -> bool:
        """After an error of the step: do what the other ranks wait for. False where that is not known."""
        done = tuple(_done)
        known = [one for one in self._steps or {(FORWARD, BACKWARD)} if one[: len(done)] == done]
        owed = {_owed(done, one[len(done) :]) for one in known}
        if not self.models or self._begun != done.count(BACKWARD) or len(owed) != 1:
            return False
        left = owed.pop()
        if left and (len(self.models) != 1 or left not in ((FORWARD, BACKWARD), (BACKWARD,))):
            return False
        if left:
            with contextlib.suppress(Exception):  # another rank is gone: the agreement will find that too
                _backward_of_zeros(self.models[0], begun=FORWARD not in left)
        return not self._counts or self._count() - self._from in self._counts  # else one of the user's own is missing


def _greatest(gradients: list[Tensor]) -> list[Tensor]:
    """Numbers that are finite where all of these are, in few calls: the greatest magnitude has no overflow."""
    dense = [g for g in gradients if g.layout == torch.strided and g.numel()]
    found = [g.sum() for g in gradients if g.layout != torch.strided]
    norms = foreach_norm(dense, math.inf) if dense else ()
    return [
        *found,
        *([torch.stack([norm.to(norms[0].device, torch.float64) for norm in norms]).max()] if norms else []),
    ]


def _owed(done: tuple[str, ...], left: tuple[str, ...]) -> tuple[str, ...]:
    """What of the rest of a step meets other ranks: a backward after no synchronized forward does not."""
    if done[-1:] == (FORWARD,):
        return left
    return left[left.index(FORWARD) :] if FORWARD in left else ()


def _backward_of_zeros(model: Any, begun: bool) -> None:
    """begun: its forward has done its own collectives already."""
    parameters = [p for p in model.parameters() if p.requires_grad]

    def zeros(*_: Any, **__: Any) -> Tensor:
        return torch.stack([(p * 0).sum() for p in parameters]).sum()

    with torch.enable_grad():
        if begun:
            total = zeros()
            model.reducer.prepare_for_backward([])
        else:
            with patch.object(model, "_run_ddp_forward", zeros):
                total = model()
        cast("Any", total).backward()


def parallel_models(modules: list[nn.Module]) -> list[Any]:
    """The DistributedDataParallel models among these, or around one of them."""
    parallel: Any = nn.parallel.DistributedDataParallel
    given = {id(part) for module in modules for part in module.modules()}
    alive = [one for one in gc.get_objects() if issubclass(type(one), parallel)]  # never asks the object
    return [one for one in alive if id(one) in given or id(one.module) in given]
