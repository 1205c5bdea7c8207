"""One training step: the loss, its gradient, and the decision whether the optimizer may touch the weights.

Nothing that is not finite is ever written: the loss, the gradient's norm and the batch-norm averages are looked at
before the optimizer moves, and a refused step leaves weights, buffers and optimizer as they were.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from az.engine.errors import Refused
from az.engine.inference.precision import cpu_flags
from az.train.architecture import wdl_target
from az.train.config import LearnerConfig
from az.train.cuda_graph import Capture, wants_operations
from az.train.model import Network, l2_parameters
from az.train.replay import Batch

_torch: Any = torch  # its _foreach functions are documented but missing from the stubs
MASKED = -1e9  # logit of an illegal move: finite, so that 0 target times its log-probability is 0 and not NaN


class NonFinite(Refused):
    """A step was refused: something in it was not finite. The gradients are left in place as evidence."""

    def __init__(self, step: int, what: list[str]) -> None:
        super().__init__(f"step {step} was refused before it changed a weight: not finite: {', '.join(what)}.")
        self.step, self.what = step, what


@dataclass(frozen=True)
class StepMetrics:
    """What one step saw, before it changed the weights. Losses are means over rows, in nats for the policy."""

    step: int  # counted from 1: the step just done
    policy_loss: float
    value_loss: float
    l2: float
    total: float
    grad_norm: float  # before clipping
    buffer_norm: float  # of all batch-norm averages
    entropy: float  # of the network's policy
    target_entropy: float  # policy_loss less this is the divergence from the search
    max_logit: float  # largest |logit|
    max_pre_tanh: float  # largest |value before tanh|; beyond about 9 the float32 tanh is 1. wdl: |win - loss| / 2
    lr: float


FROM_DEVICE = (
    "policy_loss", "value_loss", "l2", "total", "grad_norm", "buffer_norm",
    "entropy", "target_entropy", "max_logit", "max_pre_tanh",
)  # fmt: skip


def learning_rate(config: LearnerConfig, step: int, progress: float) -> float:
    """The rate of step `step` (from 0) when `progress` in [0, 1] of the planned time or steps is over."""
    warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))
    return config.learning_rate * warm * (config.lr_final_fraction + (1.0 - config.lr_final_fraction) * cosine)


def data_losses(
    logits: Tensor, value: Tensor, policy: Tensor, mask: Tensor, target: Tensor, masked: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy with the search's policy, loss of the value (means over rows), log-probabilities [n, A].

    Unmasked, the softmax runs over all outputs, as the founding description has it. value: [n], whose loss is the
    squared error; or [n, 3], logits of win, draw and loss, whose loss is the cross-entropy with what `target` means.
    """
    log_probs = functional.log_softmax(torch.where(mask, logits, MASKED) if masked else logits, dim=1)
    if value.ndim == 1:
        value_loss = (value - target).square().mean()
    else:
        classes = torch.stack(wdl_target(target), dim=1)
        value_loss = -(classes * functional.log_softmax(value, dim=1)).sum(1).mean()
    return -(policy * log_probs).sum(1).mean(), value_loss, log_probs


def to_tensors(batch: Batch, device: torch.device) -> tuple[Tensor, ...]:
    """planes, policy, mask, value of a batch on a device (on the CPU: the same memory), and root values where it has
    some.
    """
    arrays = (batch.planes, batch.policy, batch.mask, batch.value, batch.root_value)
    return tuple(torch.from_numpy(np.ascontiguousarray(a)).to(device) for a in arrays if a is not None)


class Learner:
    """The network in training, its optimizer, and the averaged weights if there are any."""

    def __init__(self, model: nn.Module, config: LearnerConfig, device: str | torch.device = "cpu") -> None:
        assert isinstance(model, Network)
        self.config, self.device = config, torch.device(device)
        self.model: Network = model.to(self.device)
        if self.device.type == "cpu":  # measured: 10 to 30 % faster there
            self.model = self.model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.half = uses_bf16(config.precision, self.device)
        self.captures = config.cuda_graph and self.device.type == "cuda"
        self._capture: Capture | None = None
        self.steps = 0
        self.parameters = list(self.model.parameters())
        self.kernels = l2_parameters(self.model)
        self.buffers = list(self.model.buffers())
        self._float_buffers = [b for b in self.buffers if b.is_floating_point()]
        self._kept = [b.clone() for b in self.buffers]
        self.optimizer = make_optimizer(self.model, config)
        self.average: Network | None = None
        if config.average:
            self.average = copy.deepcopy(self.model).eval().requires_grad_(False)

    def published(self) -> Network:
        """The network to hand to self-play: the averaged weights where there are some."""
        return self.average or self.model

    def precision_line(self) -> str:
        """For people: what the products of a step are made in."""
        return f"the learner in {'bf16' if self.half else 'fp32'} on {self.device.type}"

    def step(self, batch: Batch, progress: float = 0.0) -> StepMetrics:
        """One optimizer step on a batch. Raises NonFinite, with nothing changed, when something is not finite."""
        torch.set_flush_denormal(True)  # libraries loaded since may have changed it, and with it the bits
        self.model.train()
        _torch._foreach_copy_(self._kept, self.buffers)
        try:
            metrics = self._gradients(batch, progress)
            bad = [n for n in FROM_DEVICE if not math.isfinite(getattr(metrics, n))]
            if bad:
                raise NonFinite(metrics.step, bad)
        except BaseException:  # whatever stopped the step: the averages must not keep half of it
            _torch._foreach_copy_(self.buffers, self._kept)
            raise
        self._clip(metrics.grad_norm)
        self.optimizer.param_groups[0]["lr"] = metrics.lr
        self.optimizer.step()
        self.steps += 1
        self._update_average()
        return metrics

    def _gradients(self, batch: Batch, progress: float) -> StepMetrics:
        """Forward and backward; the metrics come back in a single transfer from the device."""
        numbers = self._computed(batch).tolist()
        named = dict(zip(FROM_DEVICE, numbers, strict=True))
        return StepMetrics(self.steps + 1, lr=learning_rate(self.config, self.steps, progress), **named)

    def _computed(self, batch: Batch) -> Tensor:
        """[10] the numbers of FROM_DEVICE, with the gradients left in the parameters."""
        if not self.captures or wants_operations(self.model):
            return self._passes(*to_tensors(batch, self.device))
        inputs = to_tensors(batch, torch.device("cpu"))
        if self._capture is None or not self._capture.fits(inputs):
            self._capture = Capture(self._passes, self.model, inputs, self.device)
        return self._capture.run(inputs)

    def _passes(
        self, planes: Tensor, policy: Tensor, mask: Tensor, target: Tensor, root_value: Tensor | None = None
    ) -> Tensor:
        config = self.config
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            logits, raw, auxiliary = self.model.heads(planes)
        logits, raw = logits.float(), raw.float()
        scalar = raw.ndim == 1
        policy_loss, value_loss, log_probs = data_losses(
            logits, self.model.value(raw) if scalar else raw, policy, mask, target, config.masked_loss
        )
        l2 = 0.5 * config.l2 * torch.stack([kernel.square().sum() for kernel in self.kernels]).sum()
        total = policy_loss + config.value_weight * value_loss + l2
        if auxiliary is not None:
            if root_value is None:
                raise ValueError("net.auxiliary learns the root's value, and the batch has none")
            total = total + config.auxiliary_weight * (torch.tanh(auxiliary.float()) - root_value).square().mean()
        total.backward()
        with torch.no_grad():
            seen = [policy_loss, value_loss, l2, total, _norm(self._grads()), _norm(self._float_buffers)]
            seen += [-(log_probs.exp() * log_probs).sum(1).mean(), torch.special.entr(policy).sum(1).mean()]
            before_tanh = raw if scalar else 0.5 * (raw[:, 0] - raw[:, 2])  # of win - loss, when no draw is likely
            seen += [logits.abs().max(), before_tanh.abs().max()]
            return torch.stack([number.detach() for number in seen])

    def _grads(self) -> list[Tensor]:
        return [p.grad for p in self.parameters if p.grad is not None]

    def _clip(self, norm: float) -> None:
        """Only ever called with a finite norm: a NaN here would spread to every gradient."""
        if 0 < self.config.grad_clip < norm:
            _torch._foreach_mul_(self._grads(), self.config.grad_clip / norm)

    @torch.no_grad()
    def _update_average(self) -> None:
        """Move the averaged weights; early on faster, so that the initial weights are soon forgotten."""
        if self.average is None:
            return
        decay = min(self.config.average, self.steps / (self.steps + 9))
        _torch._foreach_lerp_(list(self.average.parameters()), self.parameters, 1.0 - decay)
        _torch._foreach_copy_(list(self.average.buffers()), self.buffers)


def uses_bf16(asked: str, device: torch.device) -> bool:
    """Whether products are made in bfloat16: as asked, and with `auto` where the device multiplies it faster."""
    if asked != "auto":
        return asked == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return not cpu_flags().isdisjoint(("amx_bf16", "avx512_bf16"))


def make_optimizer(model: nn.Module, config: LearnerConfig) -> torch.optim.Optimizer:
    """Without weight decay of its own: L2 is in the loss."""
    if config.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), lr=config.learning_rate, momentum=0.9)
    return torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    return torch.linalg.vector_norm(torch.stack(_torch._foreach_norm(tensors)))
