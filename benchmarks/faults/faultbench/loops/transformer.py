"""A small transformer that classifies padded sequences: attention by hand with a mask of -inf, AdamW."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from faultbench.loops.base import Batch, Loop, integers, normal


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(12, 36), nn.Linear(12, 12)

    def forward(self, x: Tensor, padded: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        scores = (q @ k.transpose(1, 2)) / math.sqrt(12)
        scores = scores.masked_fill(padded[:, None, :], -math.inf)
        return self.out(torch.softmax(scores, -1) @ v)  # at: attention


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2, self.attention = nn.LayerNorm(12), nn.LayerNorm(12), Attention()
        self.mlp = nn.Sequential(nn.Linear(12, 24), nn.GELU(), nn.Linear(24, 12))

    def forward(self, x: Tensor, padded: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x), padded)
        return x + self.mlp(self.norm2(x))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.blocks = nn.Linear(5, 12), nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor, padded: Tensor) -> Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = block(x, padded)
        return x


class Transformer(Loop):
    name = "transformer"

    def build(self) -> None:
        self.model = Net()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), 1e-3)

    def data(self, made: torch.Generator) -> Batch:
        lengths = integers(made, 2, 7, 8)
        padded = torch.arange(6) >= lengths[:, None]
        return {"x": normal(made, 8, 6, 5), "padded": padded, "y": integers(made, 0, 3, 8), "gain": torch.ones(8)}

    def step(self, batch: Batch) -> Tensor:
        self.optimizer.zero_grad()
        padded = batch["padded"]
        attended = padded if self.careless == "masked-row" else padded & ~padded.all(1, keepdim=True)
        hidden = self.model(batch["x"], attended)
        kept = (~padded).float()
        counted = kept.sum(1, keepdim=True)
        if self.careless != "pool-nothing":
            counted = counted.clamp(min=1)
        pooled = (hidden * kept[:, :, None]).sum(1) / counted  # at: pool
        logits = self.model.head(pooled) * batch["gain"][:, None]
        if self.careless == "all-ignored":
            loss = functional.cross_entropy(logits, batch["y"])  # at: cross entropy
        else:
            loss = self.reduced(self.losses(logits, batch["y"]), batch["weight"])
        self.on_loss(loss)
        loss.backward()
        if self.may_update(self.optimizer):
            self.optimizer.step()
        return loss

    def losses(self, logits: Tensor, y: Tensor) -> Tensor:
        if self.careless == "log-sum-exp":
            return torch.log(torch.exp(logits).sum(1)) - logits.gather(1, y[:, None])[:, 0]  # at: partition
        return functional.cross_entropy(logits, y, reduction="none")
