"""A variational autoencoder of binary rows: Gaussian latent numbers, Bernoulli output, Adam."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from faultbench.loops.base import Batch, Loop, normal


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode, self.mean, self.spread = nn.Linear(12, 16), nn.Linear(16, 4), nn.Linear(16, 4)
        self.decode, self.out = nn.Linear(4, 16), nn.Linear(16, 12)

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden = torch.relu(self.encode(x))
        mean, log_variance = self.mean(hidden), self.spread(hidden)
        z = mean + noise * torch.exp(0.5 * log_variance)  # at: draw
        return self.out(torch.relu(self.decode(z))), mean, log_variance


class Vae(Loop):
    name = "vae"

    def build(self) -> None:
        self.model = Net()
        self.optimizer = torch.optim.Adam(self.model.parameters(), 2e-3)

    def data(self, made: torch.Generator) -> Batch:
        x = (normal(made, 8, 12) > 0).float()
        return {"x": x, "noise": normal(made, 8, 4), "gain": torch.ones(8)}

    def step(self, batch: Batch) -> Tensor:
        x = batch["x"]
        self.optimizer.zero_grad()
        logits, mean, log_variance = self.model(x, batch["noise"])
        wrong = self.reconstruction(logits * batch["gain"][:, None], x)
        kl = 0.5 * (log_variance.exp() + mean**2 - 1 - log_variance).sum(1)
        if self.careless == "precision-zero":
            spread = (mean - mean.mean(1, keepdim=True)).pow(2).sum(1) * batch["weight"]
            kl = kl + 1e-3 / spread  # at: precision
        loss = self.reduced(wrong + 0.1 * kl, batch["weight"])
        self.on_loss(loss)
        loss.backward()
        if self.may_update(self.optimizer):
            self.optimizer.step()
        return loss

    def reconstruction(self, logits: Tensor, x: Tensor) -> Tensor:
        if self.careless == "log-zero":
            p = torch.sigmoid(logits)
            return -(x * torch.log(p) + (1 - x) * torch.log(1 - p)).sum(1)  # at: bernoulli
        return functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
