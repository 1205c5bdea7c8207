"""Denoising of small images by a U-Net with group norm that is told the time step, AdamW."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from faultbench.loops.base import Batch, Loop, integers, normal

TIMES = 20


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.time = nn.Embedding(TIMES + 1, 8)
        self.enter, self.norm1 = nn.Conv2d(1, 8, 3, padding=1), nn.GroupNorm(2, 8)
        self.down, self.norm2 = nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.GroupNorm(2, 8)
        self.up, self.leave = nn.Conv2d(16, 8, 3, padding=1), nn.Conv2d(8, 1, 3, padding=1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        fine = functional.silu(self.norm1(self.enter(x)) + self.time(time)[:, :, None, None])
        coarse = functional.silu(self.norm2(self.down(fine)))
        both = torch.cat([fine, functional.interpolate(coarse, scale_factor=2.0)], 1)
        return self.leave(functional.silu(self.up(both)))


class Diffusion(Loop):
    name = "diffusion"

    def build(self) -> None:
        self.model = Net()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), 1e-3)
        self.kept = torch.linspace(1.0, 0.0, TIMES + 1)  # share of the image that is left at each time: 1 … 0

    def data(self, made: torch.Generator) -> Batch:
        times = integers(made, 1, TIMES, 8)
        return {"x": normal(made, 8, 1, 8, 8), "noise": normal(made, 8, 1, 8, 8), "time": times}

    def step(self, batch: Batch) -> Tensor:
        self.optimizer.zero_grad()
        x, noise, time = batch["x"], batch["noise"], batch["time"]
        kept = self.kept[time][:, None, None, None]
        noisy = kept.sqrt() * x + (1 - kept).sqrt() * noise
        answer = self.model(noisy, time)
        each = ((answer - noise) ** 2).mean((1, 2, 3))
        if self.careless == "image-at-the-end":
            image = (noisy - (1 - kept).sqrt() * answer) / kept.sqrt()  # at: image
            each = each + 0.01 * ((image - x) ** 2).mean((1, 2, 3))
        if self.careless == "signal-to-noise":
            each = each * (self.kept[time] / (1 - self.kept[time]))  # at: ratio
        if self.careless == "log-ratio":
            each = each + 0.01 * torch.log(1 - self.kept[time])  # at: log ratio
        loss = self.reduced(each, batch["weight"])
        self.on_loss(loss)
        loss.backward()
        if self.may_update(self.optimizer):
            self.optimizer.step()
        return loss
