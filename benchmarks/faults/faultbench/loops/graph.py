"""A graph network over one graph of 12 nodes, its rows: messages added by index_add under a softmax of edges; Adam."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from faultbench.loops.base import Batch, Loop, integers, normal

NODES, EDGES = 12, 36


class Layer(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.own, self.others, self.score = nn.Linear(before, after), nn.Linear(before, after), nn.Linear(before, 1)
        self.careless = ""

    def forward(self, x: Tensor, source: Tensor, target: Tensor) -> Tensor:
        share = self.shares(x, source, target)
        heard = torch.zeros(NODES, x.shape[1]).index_add(0, target, x[source] * share)
        return self.own(x) + self.others(heard)

    def shares(self, x: Tensor, source: Tensor, target: Tensor) -> Tensor:
        scores = self.score(x)[source]
        if self.careless == "edge-softmax":
            powers = torch.exp(scores)  # at: edge exp
        else:
            powers = torch.exp(scores.clamp(-20, 20))
        sums = torch.zeros(NODES, 1).index_add(0, target, powers)
        return powers / sums[target]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = Layer(5, 12), Layer(12, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor, source: Tensor, target: Tensor) -> Tensor:
        x = torch.relu(self.first(x, source, target))
        return torch.tanh(self.second(x, source, target))


class Graph(Loop):
    name = "graph"
    rows = NODES

    def build(self) -> None:
        self.model = Net()
        self.model.first.careless = self.careless
        self.optimizer = torch.optim.Adam(self.model.parameters(), 2e-3)

    def data(self, made: torch.Generator) -> Batch:
        ring = (torch.arange(EDGES) + 1) % NODES  # every node hears three others
        drawn = {"x": normal(made, NODES, 5), "source": integers(made, 0, NODES, EDGES), "target": ring}
        return {**drawn, "y": integers(made, 0, 3, NODES), "gain": torch.ones(NODES)}

    def step(self, batch: Batch) -> Tensor:
        self.optimizer.zero_grad()
        target = batch["target"]
        hidden = self.model(batch["x"], batch["source"], target)
        degree = torch.zeros(NODES).index_add(0, target, torch.ones(EDGES))
        if self.careless == "isolated-node":
            sums = torch.zeros(NODES, 12).index_add(0, target, hidden[batch["source"]])
            hidden = hidden + 0.1 * sums / degree[:, None]  # at: degree
        if self.careless == "degree-root":
            hidden = hidden * degree[:, None] ** -0.5  # at: degree root
        logits = self.model.head(hidden) * batch["gain"][:, None]
        if self.careless == "all-ignored":
            loss = functional.cross_entropy(logits, batch["y"])  # at: cross entropy
        else:
            each = functional.cross_entropy(logits, batch["y"], reduction="none")
            loss = self.reduced(each, batch["weight"])
        self.on_loss(loss)
        loss.backward()
        if self.may_update(self.optimizer):
            self.optimizer.step()
        return loss
