"""Labels without an alignment: a GRU over frames and the CTC loss, AdamW."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from faultbench.loops.base import Batch, Loop, integers, normal


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.gru, self.head = nn.LayerNorm(5), nn.GRU(5, 12, batch_first=True), nn.Linear(12, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(self.norm(x))[0])


class Ctc(Loop):
    name = "ctc"

    def build(self) -> None:
        self.model = Net()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), 2e-3)

    def data(self, made: torch.Generator) -> Batch:
        labels, frames = integers(made, 1, 6, 8, 3), torch.full((8,), 10)
        lengths = {"frames": frames, "letters": torch.full((8,), 3)}
        return {"x": normal(made, 8, 10, 5), "y": labels, "gain": torch.ones(8), **lengths}

    def step(self, batch: Batch) -> Tensor:
        self.optimizer.zero_grad()
        logits = self.model(batch["x"]) * batch["gain"][:, None, None]
        if self.careless == "log-zero":
            chances = torch.log(torch.softmax(logits, -1))  # at: log
        else:
            chances = torch.log_softmax(logits, -1)
        each = functional.ctc_loss(  # at: ctc
            chances.transpose(0, 1), batch["y"], batch["frames"], batch["letters"], reduction="none"
        )
        if self.careless == "letters-zero":
            each = each / batch["letters"]  # at: per letter
        loss = self.reduced(each, batch["weight"])
        self.on_loss(loss)
        loss.backward()
        if self.may_update(self.optimizer):
            self.optimizer.step()
        return loss
