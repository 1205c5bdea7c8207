"""A classifier of rows of 6 numbers: three linear layers, Adam."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from faultbench.loops.base import Batch, Loop, integers, normal


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Linear(6, 16, bias=False), nn.Linear(16, 16), nn.Linear(16, 3)

    def features(self, x: Tensor) -> Tensor:
        return torch.tanh(self.one(x))

    def forward(self, features: Tensor) -> Tensor:
        return self.three(torch.relu(self.two(features)))


class Mlp(Loop):
    name = "mlp"

    def build(self) -> None:
        self.model = Net()
        self.optimizer = torch.optim.Adam(self.model.parameters(), 1e-3)

    def data(self, made: torch.Generator) -> Batch:
        return {"x": normal(made, 8, 6), "y": integers(made, 0, 3, 8), "sharpness": torch.ones(8)}

    def step(self, batch: Batch) -> Tensor:
        x = batch["x"]
        self.optimizer.zero_grad()
        if self.careless == "unit-zero":
            x = x / x.norm(dim=1, keepdim=True)  # at: unit
        features = self.model.features(x)
        logits = self.model(features) * batch["sharpness"][:, None]
        loss = self.reduced(self.losses(logits, batch["y"]), batch["weight"])
        if self.careless == "length-zero":
            loss = loss + 1e-3 * torch.sqrt((features**2).sum(1)).mean()  # at: length
        self.on_loss(loss)
        loss.backward()
        if self.may_update(self.optimizer):
            self.optimizer.step()
        return loss

    def losses(self, logits: Tensor, y: Tensor) -> Tensor:
        if self.careless == "log-zero":
            return -torch.log(torch.softmax(logits, 1)).gather(1, y[:, None])[:, 0]  # at: log
        if self.careless == "exp-overflow":
            powers = torch.exp(logits)  # at: exp
            return -torch.log((powers / powers.sum(1, keepdim=True)).gather(1, y[:, None])[:, 0] + 1e-6)
        return functional.cross_entropy(logits, y, reduction="none")
