"""The health metrics: numbers, read off a network and its optimizer between two steps."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from .early_warnings import BY_NAME
from .state.finite_check import foreach_norm, vector_norm

MOST_HELD = 0.2  # of a running average may be its start: with more, what is left tells nothing yet
Norm = nn.modules.batchnorm._BatchNorm  # pyright: ignore[reportPrivateUsage]  # no public class has all of them


class HealthMetrics:
    """Look at it every few steps; what is costly is measured less often."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, costly_every: int = 10) -> None:
        self.model, self.optimizer, self.costly_every = model, optimizer, costly_every
        modules = cast("Iterable[tuple[str, nn.Module]]", model.named_modules())
        self.norms = {name: m for name, m in modules if isinstance(m, Norm)}
        self._kernels = [p for p in model.parameters() if p.ndim > 1]
        self.grad_norms: deque[float] = deque(maxlen=200)
        self.weights: deque[tuple[int, float]] = deque(maxlen=200)
        self.largest_moment: dict[int, float] = {}
        self.means: Tensor | None = None
        self.looks = 0
        self.near = False  # a costly metric is halfway to its threshold: measure it at every look

    @torch.no_grad()
    def look(self, step: int, grad_norm: float, loss: Callable[[], float] | None = None) -> dict[str, float]:
        """The health metrics of now. loss: the loss of a fixed small batch in the mode that the network is in."""
        values = {"grad_norm_ratio": self._grad_ratio(grad_norm), "weight_drift": self._drift(step)}
        values |= self._moments()
        if self.norms:
            values |= self._averages()
        if loss is not None and (self.near or self.looks < 3 or self.looks % self.costly_every == 0):
            modes = self._modes(loss)
            self.near = any(value > BY_NAME[name].warn / 2 for name, value in modes.items())
            values |= modes
        self.looks += 1
        return {name: value for name, value in values.items() if value is not None}

    def _grad_ratio(self, norm: float) -> float | None:
        past = sorted(self.grad_norms)
        if math.isfinite(norm):  # a non-finite value in the history would blind it from then on
            self.grad_norms.append(norm)
        return norm / past[len(past) // 2] if len(past) >= 20 and past[len(past) // 2] > 0 else None

    def _drift(self, step: int) -> float | None:
        """Growth of log|W| in a thousand steps, over the looks remembered; early on too short to tell."""
        norm = float(vector_norm(torch.stack(foreach_norm(self._kernels))))
        if math.isfinite(norm) and norm > 0:
            self.weights.append((step, math.log(norm)))
        first = self.weights[max(0, len(self.weights) - 100)] if self.weights else (step, 0.0)
        span = step - first[0]
        return (self.weights[-1][1] - first[1]) / span * 1000 if span >= 200 else None

    def _moments(self) -> dict[str, float]:
        """Gradients against Adam's second moment, and how far that has decayed from its largest value."""
        # By its place in the groups: the order of the optimizer's own states is another one after they were loaded.
        parameters = (p for group in self.optimizer.param_groups for p in group["params"])
        pairs = [
            (i, p.grad, self.optimizer.state[p]["exp_avg_sq"])
            for i, p in enumerate(parameters)
            if p.grad is not None and "exp_avg_sq" in self.optimizer.state.get(p, {})
        ]
        if not pairs:
            return {}
        count = torch.tensor([math.sqrt(g.numel()) for _, g, _ in pairs])
        grads = torch.stack(foreach_norm([g for _, g, _ in pairs])).cpu() / count
        roots = torch.stack(foreach_norm([v for _, _, v in pairs], 1)).cpu().sqrt() / count
        steps = max(float(s.get("step", 1)) for s in self.optimizer.state.values())
        beta = self.optimizer.param_groups[0].get("betas", (0.9, 0.999))[1]
        roots = roots / math.sqrt(1 - beta**steps) if steps >= 1 else roots
        decays = [0.0]
        numbers = cast("list[float]", roots.tolist())  # pyright: ignore[reportUnknownMemberType]
        for (i, _, _), root in zip(pairs, numbers, strict=True):
            largest = self.largest_moment[i] = max(self.largest_moment.get(i, 0.0), root)
            if largest > 0:
                decays.append(math.log10(largest / max(root, 1e-30)))
        ratio = (grads / roots.clamp_min(1e-30))[roots > 0]
        return {"moment_ratio": float(ratio.max()) if len(ratio) else 0.0, "moment_decay": max(decays)}

    def _averages(self) -> dict[str, float]:
        variances = [m.running_var for m in self.norms.values() if m.running_var is not None]
        means = [m.running_mean for m in self.norms.values() if m.running_mean is not None]
        if not variances:
            return {}
        values = {"variance_ratio": max(float(v.max() / v.min().clamp_min(1e-12)) for v in variances)}
        now = torch.cat(means).clone()
        if self.means is not None:
            values["averages_still"] = float(torch.equal(now, self.means))
        self.means = now
        return values

    def _modes(self, loss: Callable[[], float]) -> dict[str, float]:
        """One small batch in training and in evaluation mode, and the largest activation on the way."""
        was, peak = self.model.training, [torch.zeros(())]

        def see(_: nn.Module, __: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.is_floating_point() and output.numel():
                peak.append(output.detach().abs().max().float().cpu())

        with standing_averages(self.norms.values()):
            self.model.train()
            training = loss()
            handles = [m.register_forward_hook(see) for m in self.model.modules()]
            try:
                self.model.eval()
                held = self._free_averages()
                evaluation = loss()
            finally:
                for handle in handles:
                    handle.remove()
                self.model.train(was)
        values = {"activation_share": float(torch.stack(peak).max()) / 65504}
        if held is not None:
            values["average_gap"] = max(0.0, evaluation - training) if held < MOST_HELD else 0.0
        return values

    def _free_averages(self) -> float | None:
        """Take out of the running averages what they still hold of their start, mean 0 and variance 1.

        Returns the largest share that one held; None without averages that move. After n steps of momentum m it is
        (1 - m) ** n: at a momentum of 0.001 a tenth after 2,300 steps, and with activations of small variance that
        tenth is most of the average, though nothing is wrong.
        """
        shares: list[float] = []
        for module in self.norms.values():
            mean, variance, count = module.running_mean, module.running_var, module.num_batches_tracked
            if not module.momentum or mean is None or variance is None or count is None:
                continue
            share = (1 - module.momentum) ** int(count)
            shares.append(share)
            if share < MOST_HELD:
                mean.div_(1 - share)
                variance.sub_(share).div_(1 - share).clamp_min_(0.0)
        return max(shares, default=None)


@contextmanager
def standing_averages(norms: Iterable[Norm]) -> Generator[None]:
    """Batch norms that use the batch's statistics in training mode, and end with the averages that they began with."""
    kept = [(buffer, buffer.clone()) for module in norms for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, before in kept:
            buffer.copy_(before)
