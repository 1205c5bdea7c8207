"""One step before training begins: whether it does what everyone believes it does. Nothing is changed by it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from .metrics import Norm
from .state.finite_check import vector_norm
from .state.snapshot import Snapshotter
from .trace.op_trace import OpTrace

TOLERANCE = 0.02  # of a running average against what the step should have given (bfloat16 rounds to 0.4 %)
MOST_GAP = 3.0  # standard deviations between an average, freed of its start, and the batch's own mean


@dataclass(frozen=True)
class Finding:
    """Something that the step leaves out or does wrong."""

    cause: str
    names: list[str]  # layers or parameters
    words: str
    fix: str

    def __str__(self) -> str:
        shown = ", ".join(self.names[:4]) + (f" and {len(self.names) - 4} more" if len(self.names) > 4 else "")
        return f"{self.cause}: {self.words}: {shown}. {self.fix}"


def preflight(
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    step: Callable[[Any], Any],
    batch: Any,
    *,
    extra_state: Sequence[Any] = (),
    decayed: Collection[str] | None = None,
) -> list[Finding]:
    """Run `step(batch)` once under watch, look at what it did, and put everything back.

    decayed: names of the parameters that L2 or weight decay should act on; None = do not look. Returns what is
    wrong, worst first; raises what the step raises.
    """
    optimizers = [optimizer] if optimizer is not None else []
    snapshotter = Snapshotter(model, optimizers, list(extra_state))
    before = snapshotter.take(batch)
    modules = cast("Iterable[tuple[str, nn.Module]]", model.named_modules())
    norms = {name: module for name, module in modules if isinstance(module, Norm)}
    starts = {name: _averages(module) for name, module in norms.items()}
    given: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in norms}
    handles = [m.register_forward_pre_hook(_statistics(given[name])) for name, m in norms.items()]
    addresses = {p.data_ptr(): ("weights", name) for name, p in model.named_parameters() if p.numel()}
    watch = _Reads(model, optimizers, addresses)
    try:
        with closing(watch), watch, torch.autograd.set_multithreading_enabled(False):
            step(batch)
        findings = [*_standing_averages(norms, starts, given), *_without_decay(model, optimizers, watch.read, decayed)]
        findings += [*_without_gradient(model), *_modes_apart(norms, starts, given)]
    finally:
        for handle in handles:
            handle.remove()
        snapshotter.put_back(before)
    return findings


class _Reads(OpTrace):
    """Also notes which weights the loss reads by itself, outside the network: that is L2 in the loss."""

    def __init__(self, model: nn.Module, optimizers: Any, state: Any) -> None:
        super().__init__(model, optimizers, 0, state)
        self.read: set[str] = set()

    def note(self, phase: str, inputs: list[tuple[str, Tensor]]) -> None:
        if phase in ("loss", "data"):
            self.read |= {self.name_of(t).partition(": ")[2] for _, t in inputs if self.name_of(t)}


def _averages(module: Norm) -> tuple[Tensor, Tensor, int] | None:
    if module.running_mean is None or module.running_var is None:
        return None
    count = int(module.num_batches_tracked) if module.num_batches_tracked is not None else 0
    return module.running_mean.detach().clone(), module.running_var.detach().clone(), count


def _statistics(into: list[tuple[Tensor, Tensor]]) -> Callable[..., None]:
    def see(_: nn.Module, inputs: Any) -> None:
        x = inputs[0].detach().float()
        others = [d for d in range(x.ndim) if d != 1]
        into.append((x.mean(others), x.var(others, unbiased=True) if x.numel() > x.shape[1] else x.mean(others) * 0))

    return see


def _standing_averages(norms: dict[str, Norm], starts: Any, given: Any) -> list[Finding]:
    """Averages that the step did not move to where one step of their momentum should have brought them."""
    wrong: list[str] = []
    for name, module in norms.items():
        start = starts[name]
        if start is None or not given[name] or module.running_mean is None or module.running_var is None:
            continue
        mean, variance, _ = start
        for batch_mean, batch_variance in given[name]:
            share = module.momentum if module.momentum is not None else 1.0 / (start[2] + 1)
            share = share or DEFAULT_MOMENTUM  # a momentum of 0 is the omission itself
            mean = (1 - share) * mean + share * batch_mean
            variance = (1 - share) * variance + share * batch_variance
        moved = torch.cat([mean - start[0], variance - start[1]])
        did = torch.cat([module.running_mean - start[0], module.running_var - start[1]])
        if float(vector_norm(did - moved)) > max(TOLERANCE * float(vector_norm(moved)), 1e-7):
            wrong.append(name)
    if not wrong:
        return []
    return [
        Finding(
            "averages-not-updated",
            wrong,
            "batch-norm averages do not take in what the step sees",
            "Train in training mode and run the updates of the averages with every step.",
        )
    ]


DEFAULT_MOMENTUM = 0.1


def _without_decay(model: nn.Module, optimizers: Any, read: set[str], decayed: Collection[str] | None) -> list[Finding]:
    if not decayed:
        return []
    names = {id(p): name for name, p in model.named_parameters()}
    by_optimizer = {
        names.get(id(p), "")
        for optimizer in optimizers
        for group in optimizer.param_groups
        if group.get("weight_decay", 0.0)
        for p in group["params"]
    }
    missing = [name for name in decayed if name not in read and name not in by_optimizer]
    if not missing:
        return []
    return [
        Finding(
            "no-l2",
            missing,
            "neither the loss nor the optimizer decays these weights",
            "Add the L2 of every kernel to the loss that is minimized, or give the optimizer a weight decay.",
        )
    ]


def _without_gradient(model: nn.Module) -> list[Finding]:
    missing = [
        name
        for name, p in model.named_parameters()
        if p.requires_grad and (p.grad is None or not bool((p.grad != 0).any()))
    ]
    words, fix = "the step gives these parameters no gradient", "Make the loss depend on them, or freeze them."
    return [Finding("no-gradient", missing, words, fix)] if missing else []


def _modes_apart(norms: dict[str, Norm], starts: Any, given: Any) -> list[Finding]:
    """Averages that, freed of what they still hold of their start (mean 0, variance 1), are far from the batch's own.

    After n steps of decay d they are d^n · start + (1 - d^n) · what those steps saw.
    """
    apart: list[str] = []
    for name, module in norms.items():
        start = starts[name]
        if start is None or not given[name] or module.momentum is None or not start[2]:
            continue
        held = (1 - module.momentum) ** start[2]
        if held > 0.99:
            continue
        mean, variance = start[0] / (1 - held), (start[1] - held) / (1 - held)
        batch_mean, batch_variance = given[name][0]
        spread = batch_variance.clamp_min(1e-12).sqrt()
        gap = float(((mean - batch_mean).abs() / spread).median())
        factor = float((variance.clamp_min(1e-12) / batch_variance.clamp_min(1e-12)).log().abs().median())
        if gap > MOST_GAP or factor > 3.0:
            apart.append(name)
    words = "training and evaluation mode differ by more than the averages' age explains"
    fix = "Look for averages that were not saved, not updated or taken from another network."
    return [Finding("modes-apart", apart, words, fix)] if apart else []
