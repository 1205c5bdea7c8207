"""A classifier of small images: two convolutions with batch norm, SGD with momentum."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from faultbench.loops.base import Batch, Loop, integers, normal


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.norm2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor, gain: Tensor) -> Tensor:
        x = torch.relu(self.norm1(self.conv1(x)))
        x = torch.relu(self.norm2(self.conv2(x)))
        pooled = x.mean((2, 3))
        return self.head(pooled * gain[:, None])


class Convnet(Loop):
    name = "convnet"

    def build(self) -> None:
        self.model = Net()
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.05, momentum=0.9)

    def data(self, made: torch.Generator) -> Batch:
        return {"x": normal(made, 8, 3, 8, 8), "y": integers(made, 0, 4, 8), "gain": torch.ones(8)}

    def step(self, batch: Batch) -> Tensor:
        x, y = batch["x"], batch["y"]
        self.optimizer.zero_grad()
        if self.careless == "flat-image":
            flat = x.flatten(1)
            x = ((flat - flat.mean(1, keepdim=True)) / flat.std(1, keepdim=True)).view_as(x)  # at: standardize
        logits = self.model(x, batch["gain"])
        if self.careless == "all-ignored":
            loss = functional.cross_entropy(logits, y, ignore_index=-100)  # at: cross entropy
        else:
            loss = self.reduced(self.losses(logits, y), batch["weight"])
        self.on_loss(loss)
        loss.backward()
        if self.may_update(self.optimizer):
            self.optimizer.step()
        return loss

    def losses(self, logits: Tensor, y: Tensor) -> Tensor:
        if self.careless == "focal-log":
            chance = torch.softmax(logits, 1).gather(1, y[:, None])[:, 0]
            return -((1 - chance) ** 2) * torch.log(chance)  # at: focal
        return functional.cross_entropy(logits, y, reduction="none")
