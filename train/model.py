"""The residual network with a policy and a value head.

Names of tensors are part of the checkpoint and of the health reports (`blocks.2.conv1.weight`): keep them.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from az.engine.game import load_game
from az.train.config import NetConfig
from az.train.presets import preset as load_preset


class Block(nn.Module):
    """3x3 convolution, batch norm, ReLU, 3x3 convolution, batch norm, plus the input, ReLU."""

    def __init__(self, channels: int, momentum: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels, momentum=momentum)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels, momentum=momentum)

    def forward(self, x: Tensor) -> Tensor:
        inner = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(inner)) + x)


class Stem(nn.Module):
    """A convolution without bias, batch norm, ReLU: the network's first layer, and the first of each head."""

    def __init__(self, inputs: int, outputs: int, kernel: int, momentum: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs, momentum=momentum)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x)))


class Network(nn.Module):
    """planes [n, C, H, W] -> raw logits [n, A] and values [n] in (-1, 1), both from the view of the player to move."""

    def __init__(self, planes_shape: tuple[int, int, int], num_actions: int, config: NetConfig) -> None:
        super().__init__()
        planes, height, width = planes_shape
        self.planes_shape, self.num_actions, self.config = planes_shape, num_actions, config
        momentum, cells = config.bn_momentum, height * width
        self.stem = Stem(planes, config.channels, 3, momentum)
        self.blocks = nn.Sequential(*(Block(config.channels, momentum) for _ in range(config.blocks)))
        self.policy_stem = Stem(config.channels, config.policy_channels, 1, momentum)
        self.policy_out = nn.Linear(config.policy_channels * cells, num_actions)
        self.value_stem = Stem(config.channels, config.value_channels, 1, momentum)
        flat = config.value_channels * cells
        self.value_hidden = nn.Linear(flat, config.value_hidden) if config.value_hidden else None
        self.value_out = nn.Linear(config.value_hidden or flat, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def heads(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        """Raw logits [n, A] and the value before its tanh [n]: what the monitors watch for saturation."""
        trunk = self.blocks(self.stem(planes))
        logits = self.policy_out(self.policy_stem(trunk).flatten(1))
        value = self.value_stem(trunk).flatten(1)
        if self.value_hidden is not None:
            value = torch.relu(self.value_hidden(value))
        return logits, self.value_out(value).squeeze(1)

    def forward(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        logits, value = self.heads(planes)
        return logits, torch.tanh(value)


def build(game: str, preset: str) -> nn.Module:
    """The network of a preset for a game, freshly drawn from torch's random state (`torch.manual_seed` before)."""
    rules = load_game(game)
    return Network(rules.planes_shape, rules.num_actions, load_preset(game, preset).net)


def l2_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The kernels of all convolutions and dense layers: what L2 is taken of (no bias, no batch norm)."""
    layers = (module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear))
    return [cast("nn.Parameter", layer.weight) for layer in layers]
