"""A language model: embedding, LSTM, softmax over 20 tokens, gradients clipped, SGD with momentum."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from faultbench.loops.base import Batch, Loop, integers


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.lstm = nn.Embedding(20, 12), nn.LSTM(12, 16, batch_first=True)
        self.head = nn.Linear(16, 20)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.lstm(self.embed(tokens))[0])


class Lstm(Loop):
    name = "lstm"

    def build(self) -> None:
        self.model = Net()
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.1, momentum=0.9)

    def data(self, made: torch.Generator) -> Batch:
        text = integers(made, 0, 20, 8, 9)
        return {"x": text[:, :-1], "y": text[:, 1:].clone(), "length": torch.full((8,), 8.0), "gain": torch.ones(8)}

    def step(self, batch: Batch) -> Tensor:
        self.optimizer.zero_grad()
        logits = self.model(batch["x"]) * batch["gain"][:, None, None]
        if self.careless == "all-ignored":
            loss = functional.cross_entropy(logits.flatten(0, 1), batch["y"].flatten())  # at: cross entropy
        else:
            loss = self.reduced(self.losses(logits, batch), batch["weight"])
        self.on_loss(loss)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        if self.may_update(self.optimizer):
            self.optimizer.step()
        return loss

    def losses(self, logits: Tensor, batch: Batch) -> Tensor:
        if self.careless == "log-zero":
            chances = torch.softmax(logits, -1).gather(2, batch["y"][:, :, None])[:, :, 0]
            return -torch.log(chances).mean(1)  # at: log
        each = functional.cross_entropy(logits.transpose(1, 2), batch["y"], reduction="none")
        if self.careless == "length-zero":
            lengths = batch["length"]
            kept = torch.arange(8) < lengths[:, None]
            return (each * kept).sum(1) / lengths  # at: per length
        if self.careless == "perplexity":
            return torch.exp(each.sum(1) / 8)  # at: perplexity
        return each.mean(1)
