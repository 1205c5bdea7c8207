"""The two-headed network of AlphaZero: planes -> policy under a mask of legal moves, and a value; SGD with momentum."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from faultbench.loops.base import Batch, Loop, normal


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.norm(self.conv(x)))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(2, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.block, self.policy, self.value = Residual(), nn.Linear(72, 9), nn.Linear(72, 1)

    def forward(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.relu(self.stem_norm(self.stem(planes)))
        flat = self.block(x).flatten(1)
        return self.policy(flat), torch.tanh(self.value(flat))[:, 0]


class AlphaZero(Loop):
    name = "alphazero"

    def build(self) -> None:
        self.model = Net()
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.02, momentum=0.9, weight_decay=1e-4)

    def data(self, made: torch.Generator) -> Batch:
        legal = torch.rand(8, 9, generator=made) > 0.3
        legal[:, 4] = True
        visits = (torch.rand(8, 9, generator=made) * 40).floor() * legal + legal
        planes = (normal(made, 8, 2, 3, 3) > 0.5).float()
        result = torch.rand(8, generator=made) * 1.8 - 0.9
        return {"x": planes, "legal": legal, "visits": visits, "z": result, "gain": torch.ones(8)}

    def step(self, batch: Batch) -> Tensor:
        self.optimizer.zero_grad()
        logits, value = self.model(batch["x"])
        logits = logits * batch["gain"][:, None]
        wrong = self.of_policy(logits, self.target(batch), batch["legal"]) + self.of_value(value, batch["z"])
        loss = self.reduced(wrong, batch["weight"])
        self.on_loss(loss)
        loss.backward()
        if self.may_update(self.optimizer):
            self.optimizer.step()
        return loss

    def target(self, batch: Batch) -> Tensor:
        visits = batch["visits"]
        if self.careless == "temperature":
            visits = visits ** (1 / 0.1)  # at: temperature
        if self.careless == "no-visits":
            return visits / visits.sum(1, keepdim=True)  # at: visits
        return visits / visits.sum(1, keepdim=True).clamp(min=1)

    def of_policy(self, logits: Tensor, target: Tensor, legal: Tensor) -> Tensor:
        if self.careless == "log-zero":
            chances = torch.softmax(logits.masked_fill(~legal, -1e9), 1)
            return -(target * torch.log(torch.where(legal, chances, 1.0))).sum(1)  # at: paper
        if self.careless != "no-legal-move":
            legal = legal | ~legal.any(1, keepdim=True)
        chances = torch.log_softmax(logits.masked_fill(~legal, -math.inf), 1)  # at: masked softmax
        if self.careless in ("mass-on-illegal", "no-legal-move"):
            return -torch.where(target > 0, target * chances, 0.0).sum(1)  # at: cross entropy
        return -(target * chances.masked_fill(~legal, 0.0)).sum(1)

    def of_value(self, value: Tensor, z: Tensor) -> Tensor:
        if self.careless == "atanh":
            return (torch.atanh(value * 0.99) - torch.atanh(z)) ** 2  # at: atanh
        return (value - z) ** 2
