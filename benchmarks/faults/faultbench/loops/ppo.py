"""Policy and value by the clipped ratio of PPO: one minibatch of a rollout a step, Adam, gradients clipped."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from faultbench.loops.base import Batch, Loop, integers, normal


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.policy, self.value = nn.Linear(5, 16), nn.Linear(16, 3), nn.Linear(16, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.tanh(self.body(x))
        return self.policy(hidden), self.value(hidden)[:, 0]


class Ppo(Loop):
    name = "ppo"

    def build(self) -> None:
        self.model = Net()
        self.optimizer = torch.optim.Adam(self.model.parameters(), 3e-4)

    def data(self, made: torch.Generator) -> Batch:
        drawn = {"x": normal(made, 8, 5), "action": integers(made, 0, 3, 8), "advantage": normal(made, 8)}
        return {**drawn, "old": torch.full((8,), -1.1), "value": normal(made, 8), "gain": torch.ones(8)}

    def step(self, batch: Batch) -> Tensor:
        self.optimizer.zero_grad()
        advantage = batch["advantage"]
        if self.careless == "equal-advantages":
            advantage = (advantage - advantage.mean()) / advantage.std()  # at: advantages
        logits, value = self.model(batch["x"])
        logits = logits * batch["gain"][:, None]
        chances = torch.log_softmax(logits, 1)
        ratio = torch.exp(chances.gather(1, batch["action"][:, None])[:, 0] - batch["old"])  # at: ratio
        worth = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
        errors = (value - batch["value"]) ** 2
        if self.careless == "explained":
            errors = errors / batch["value"].var()  # at: explained
        loss = self.reduced(errors, batch["weight"]) - worth.mean() - 0.01 * self.entropy(logits)
        self.on_loss(loss)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 0.5)
        if self.may_update(self.optimizer):
            self.optimizer.step()
        return loss

    def entropy(self, logits: Tensor) -> Tensor:
        chances = torch.softmax(logits, 1)
        if self.careless == "entropy-log":
            return -(chances * torch.log(chances)).sum(1).mean()  # at: entropy
        return -(chances * torch.log_softmax(logits, 1)).sum(1).mean()
