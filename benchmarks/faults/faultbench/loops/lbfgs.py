"""A regression with LBFGS: the optimizer calls the closure several times a step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from faultbench.loops.base import Batch, Loop, normal


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 8), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(torch.tanh(self.one(x)))[:, 0]


class Lbfgs(Loop):
    name = "lbfgs"

    def build(self) -> None:
        self.model = Net()
        self.optimizer = torch.optim.LBFGS(self.model.parameters(), 0.05, max_iter=3, history_size=4)

    def data(self, made: torch.Generator) -> Batch:
        x = normal(made, 8, 4)
        return {"x": x, "y": x.abs().sum(1) + 0.5, "scale": torch.ones(8)}

    def step(self, batch: Batch) -> Tensor:
        def closure() -> Tensor:
            self.optimizer.zero_grad()
            loss = self.reduced(self.losses(batch), batch["weight"]) + 1e-3 * self.decay()
            self.on_loss(loss)
            loss.backward()
            return loss

        if self.may_update(self.optimizer):
            return self.optimizer.step(closure)
        return torch.zeros(())

    def decay(self) -> Tensor:
        return sum((p.square().sum() for p in self.model.parameters()), torch.zeros(()))

    def losses(self, batch: Batch) -> Tensor:
        x, y = batch["x"], batch["y"]
        if self.careless in ("log-target", "negative-target"):
            y = torch.log(y)  # at: log target
        if self.careless == "inverse-zero":
            y = y + 0.1 / batch["scale"]  # at: inverse
        answer = self.model(x)
        if self.careless == "exp-overflow":
            answer = torch.exp(answer * batch["scale"])  # at: exp
        return (answer - y) ** 2
