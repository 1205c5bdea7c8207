"""Mixed precision: float16 by autocast on the CPU and a gradient scaler, Adam."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from faultbench.loops.base import Batch, Loop, integers, normal


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm, self.two, self.three = (
            nn.Linear(8, 16),
            nn.LayerNorm(16),
            nn.Linear(16, 16),
            nn.Linear(16, 3),
        )

    def forward(self, x: Tensor, gain: Tensor) -> Tensor:
        hidden = torch.relu(self.norm(self.one(x)))
        hidden = torch.relu(self.two(hidden * gain[:, None]))  # at: two
        return self.three(hidden)


class Half(Loop):
    name = "half"

    def build(self) -> None:
        self.model = Net()
        self.optimizer = torch.optim.Adam(self.model.parameters(), 1e-3)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
        self.extra = [self.scaler]

    def data(self, made: torch.Generator) -> Batch:
        return {
            "x": normal(made, 8, 8),
            "y": integers(made, 0, 3, 8),
            "gain": torch.ones(8),
            "sharpness": torch.ones(8),
        }

    def step(self, batch: Batch) -> Tensor:
        self.optimizer.zero_grad()
        with torch.autocast("cpu", torch.float16):
            logits = self.model(batch["x"], batch["gain"])
            losses = self.losses(logits * batch["sharpness"][:, None], batch["y"])
            loss = self.reduced(losses, batch["weight"])
        self.on_loss(loss)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        if self.may_update(self.optimizer):
            self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss

    def losses(self, logits: Tensor, y: Tensor) -> Tensor:
        if self.careless == "square-half":
            return (logits.half() ** 2).sum(1).float() * 1e-3 + functional.cross_entropy(logits, y)  # at: square
        if self.careless == "log-zero":
            smooth = 0.9 * functional.one_hot(y, 3) + 0.1 / 3
            return -(smooth * torch.log(torch.softmax(logits, 1))).sum(1)  # at: log
        return functional.cross_entropy(logits, y, reduction="none")
