"""Gradients of two micro-batches added up before one step of RMSprop; the clipping is written by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from faultbench.loops.base import Batch, Loop, normal


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.three(torch.tanh(self.two(torch.tanh(self.one(x)))))


class Accumulation(Loop):
    name = "accumulation"

    def build(self) -> None:
        self.model = Net()
        self.optimizer = torch.optim.RMSprop(self.model.parameters(), 1e-3, momentum=0.5)

    def data(self, made: torch.Generator) -> Batch:
        return {"x": normal(made, 8, 6), "y": normal(made, 8, 2), "precision": torch.ones(8)}

    def step(self, batch: Batch) -> Tensor:
        self.optimizer.zero_grad()
        total = torch.zeros(())
        for part in range(2):
            small = {name: values.chunk(2)[part] for name, values in batch.items()}
            loss = self.reduced(self.losses(small), small["weight"]) / 2
            self.on_loss(loss)
            loss.backward()
            total += loss.detach()
        self.clip()
        if self.may_update(self.optimizer):
            self.optimizer.step()
        return total

    def losses(self, small: Batch) -> Tensor:
        wrong = self.model(small["x"]) - small["y"]
        if self.careless == "root-mean-square":
            return torch.sqrt((wrong**2).sum(1) * small["precision"])  # at: distance
        if self.careless in ("likelihood", "likelihood-negative"):
            precision = small["precision"]
            return precision * (wrong**2).sum(1) - torch.log(precision)  # at: likelihood
        return (wrong**2).sum(1)

    def clip(self) -> None:
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
        if self.careless == "norm-zero":
            for gradient in gradients:
                gradient.copy_(gradient / norm * norm.clamp(max=1.0))  # at: clip
            return
        for gradient in gradients:
            gradient.mul_((1.0 / (norm + 1e-6)).clamp(max=1.0))
