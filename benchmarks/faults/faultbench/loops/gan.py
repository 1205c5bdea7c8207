"""A generator and a discriminator of points, each with an Adam of its own, both trained in one step."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from faultbench.loops.base import Batch, Loop, normal


class Discriminator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 16), nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(functional.leaky_relu(self.one(x), 0.2))[:, 0]


class Generator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 16), nn.Linear(16, 4)

    def forward(self, noise: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(noise)))


class Gan(Loop):
    name = "gan"

    def build(self) -> None:
        self.model, self.generator = Discriminator(), Generator()
        self.more_models = (self.generator,)
        self.optimizer = torch.optim.Adam(self.model.parameters(), 1e-3, betas=(0.5, 0.999))
        self.optimizer_of_generator = torch.optim.Adam(self.generator.parameters(), 1e-3, betas=(0.5, 0.999))

    def data(self, made: torch.Generator) -> Batch:
        return {"x": normal(made, 8, 4) + 2, "noise": normal(made, 8, 6), "gain": torch.ones(8)}

    def step(self, batch: Batch) -> Tensor:
        noise = batch["noise"]
        if self.careless == "noise-zero":
            noise = noise / noise.std(1, keepdim=True)  # at: noise
        fake = self.generator(noise)
        self.optimizer.zero_grad()
        of_real, of_fake = self.model(batch["x"]) * batch["gain"], self.model(fake.detach()) * batch["gain"]
        loss = self.reduced(self.discriminated(of_real, of_fake), batch["weight"])
        self.on_loss(loss)
        loss.backward()
        if self.may_update(self.optimizer):
            self.optimizer.step()
        self.optimizer_of_generator.zero_grad()
        loss_of_generator = self.generated(self.model(fake))
        self.on_loss(loss_of_generator)
        loss_of_generator.backward()
        if self.may_update(self.optimizer_of_generator):
            self.optimizer_of_generator.step()
        return loss.detach() + loss_of_generator.detach()

    def discriminated(self, of_real: Tensor, of_fake: Tensor) -> Tensor:
        if self.careless == "log-zero":
            return -torch.log(torch.sigmoid(of_real)) - torch.log(1 - torch.sigmoid(of_fake))  # at: minimax
        return functional.softplus(-of_real) + functional.softplus(of_fake)

    def generated(self, of_fake: Tensor) -> Tensor:
        return functional.softplus(-of_fake).mean()
