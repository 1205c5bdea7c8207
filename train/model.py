"""The network of `az.train.architecture` in torch: its modules are declared once, then run.

Names of tensors are part of the checkpoint and of the health reports (`blocks.2.conv1.weight`): keep them.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from az.engine.game import load_game
from az.train.architecture import VALUE_HEADS, Heads, Net, Shape, Shapes, Stage, heads
from az.train.config import NetConfig
from az.train.presets import preset as load_preset


class StageModule(nn.Module):
    """A stage of the description; its layers are its children."""

    def __init__(self, body: Stage, net: Net) -> None:
        super().__init__()
        self.body, self.net = body, net

    def forward(self, x: Tensor) -> Tensor:
        return self.body(Run(self), x, self.net)


class Declare(Shapes):
    """Ops that make the modules, in the order of the description: torch draws the initial weights in that order."""

    def __init__(self, root: nn.Module, momentum: float) -> None:
        super().__init__()
        self.module, self.momentum = root, momentum

    def stage(self, name: str, body: Stage, x: Shape, net: Net) -> Shape:
        outer, made = self.module, StageModule(body, net)
        group, dot, leaf = name.rpartition(".")
        if dot and group not in outer._modules:
            outer.add_module(group, nn.ModuleList())
        self._add(outer.get_submodule(group) if dot else outer, leaf, made)
        self.module = made
        try:
            return super().stage(name, body, x, net)
        finally:
            self.module = outer

    def conv(self, conv: str, norm: str, x: Shape, channels: int, size: int) -> Shape:
        self._add(self.module, conv, nn.Conv2d(x[0], channels, size, padding=size // 2, bias=False))
        self._add(self.module, norm, nn.BatchNorm2d(channels, momentum=self.momentum))
        return super().conv(conv, norm, x, channels, size)

    def linear(self, name: str, x: Shape, units: int, output: str = "") -> Shape:
        self._add(self.module, name, nn.Linear(x[0], units))
        return super().linear(name, x, units, output)

    def _add(self, parent: nn.Module, name: str, made: nn.Module) -> None:
        if name in parent._modules:  # torch would replace it, and the two would share their weights
            raise ValueError(f"two layers or stages are called '{self.path(name)}': each needs a name of its own")
        parent.add_module(name, made)


class Run:
    """Ops on tensors, with the layers that are the children of a module."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def layer(self, name: str) -> Any:
        """The module of that name in this stage."""
        found = self.module._modules.get(name)  # quicker than get_submodule, which only `blocks.0` needs
        return self.module.get_submodule(name) if found is None else found

    def stage(self, name: str, body: Stage, x: Tensor, net: Net) -> Tensor:
        return self.layer(name)(x)

    def training_only(self, name: str, body: Stage, x: Tensor, net: Net) -> Tensor | None:
        return self.layer(name)(x) if self.module.training else None

    def conv(self, conv: str, norm: str, x: Tensor, channels: int, size: int) -> Tensor:
        return self.layer(norm)(self.layer(conv)(x))

    def linear(self, name: str, x: Tensor, units: int, output: str = "") -> Tensor:
        return self.layer(name)(x)

    def relu(self, x: Tensor) -> Tensor:
        return torch.relu(x)

    def add(self, name: str, one: Tensor, two: Tensor) -> Tensor:
        return one + two

    def flatten(self, name: str, x: Tensor) -> Tensor:
        return x.flatten(1)

    def squeeze(self, name: str, x: Tensor) -> Tensor:
        return x.squeeze(1)

    def mean(self, name: str, x: Tensor) -> Tensor:
        return x.mean((2, 3))

    def scale(self, name: str, x: Tensor, factors: Tensor) -> Tensor:
        return x * factors[:, :, None, None]

    def times(self, name: str, x: Tensor, factor: float) -> Tensor:
        return x * factor

    def tanh(self, name: str, x: Tensor) -> Tensor:
        return torch.tanh(x)

    def sigmoid(self, name: str, x: Tensor) -> Tensor:
        return torch.sigmoid(x)

    def softmax(self, name: str, x: Tensor) -> Tensor:
        return torch.softmax(x, dim=1)

    def weighted_sum(self, name: str, x: Tensor, weights: tuple[float, ...]) -> Tensor:
        return (x * x.new_tensor(weights)).sum(1)


class Network(nn.Module):
    """planes [n, C, H, W] -> raw logits [n, A] and values [n] in (-1, 1), both from the view of the player to move."""

    stem: Any  # the stages and layers of the description; for type checkers
    blocks: Any
    policy_stem: Any
    policy_out: Any
    value_stem: Any
    value_out: Any

    def __init__(self, planes_shape: tuple[int, int, int], num_actions: int, config: NetConfig) -> None:
        super().__init__()
        self.planes_shape, self.num_actions, self.config = planes_shape, num_actions, config
        heads(Declare(self, config.bn_momentum), planes_shape, config, num_actions)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def heads(self, planes: Tensor) -> Heads[Tensor]:
        """Raw logits [n, A] and the value before its last function: what the monitors watch for saturation."""
        return heads(Run(self), planes, self.config, self.num_actions)

    def value(self, raw: Tensor) -> Tensor:
        """The values [n] in [-1, 1] of what `heads` gives as `raw`."""
        return VALUE_HEADS[self.config.value_head].value(Run(self), raw)

    def forward(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        found = self.heads(planes)
        return found.logits, self.value(found.raw)


def build(game: str, preset: str) -> nn.Module:
    """The network of a preset for a game, freshly drawn from torch's random state (`torch.manual_seed` before)."""
    rules = load_game(game)
    return Network(rules.planes_shape, rules.num_actions, load_preset(game, preset).net)


def l2_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The kernels of all convolutions and dense layers: what L2 is taken of (no bias, no batch norm)."""
    layers = (module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear))
    return [cast("nn.Parameter", layer.weight) for layer in layers]
