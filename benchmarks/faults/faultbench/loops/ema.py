"""Distillation with an exponential average of the weights and a warm-up of the learning rate, AdamW."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from faultbench.loops.base import Batch, Loop, normal


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm, self.two = nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(torch.relu(self.norm(self.one(x))))


class Ema(Loop):
    name = "ema"
    scheduled = True

    def build(self) -> None:
        self.model = Net()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), 2e-3)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: min(1.0, (step + 1) / 20))
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(0.99), use_buffers=True)
        self.extra = [self.scheduler, self.average]

    def data(self, made: torch.Generator) -> Batch:
        target = torch.softmax(2 * normal(made, 8, 4), 1)
        return {"x": normal(made, 8, 6), "target": target, "heat": torch.ones(8)}

    def step(self, batch: Batch) -> Tensor:
        self.optimizer.zero_grad()
        x, heat = batch["x"], batch["heat"][:, None]
        if self.careless == "range-zero":
            low, high = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
            x = (x - low) / (high - low)  # at: range
        logits = self.model(x)
        if self.careless == "heat-zero":
            logits = logits / heat  # at: heat
        loss = self.reduced(self.losses(logits, batch["target"]), batch["weight"])
        self.on_loss(loss)
        loss.backward()
        if self.may_update(self.optimizer):
            self.optimizer.step()
        self.scheduler.step()
        self.average.update_parameters(self.model)
        return loss

    def losses(self, logits: Tensor, target: Tensor) -> Tensor:
        chances = torch.log_softmax(logits, 1)
        if self.careless == "target-log":
            return (target * (torch.log(target) - chances)).sum(1)  # at: divergence
        return (target * (torch.log(target.clamp(min=1e-9)) - chances)).sum(1)
