"""What the loops have in common: seeds, the places where a tool may look, and careless ways to reduce a loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Batch = dict[str, Tensor]


class Loop:
    """One training loop: `batch(number)` makes a batch, `step(batch)` trains on it and returns the loss.

    careless: the name of the fault whose careless line is in place in every step (see ../../list.csv). A careless line
    does no harm on ordinary batches. on_loss is called before each backward, may_update before each optimizer step:
    a tool that looks there replaces them.
    """

    name = ""
    rows = 8
    model: Any  # an nn.Module
    optimizer: Any  # a tool may wrap it
    more_models: tuple[nn.Module, ...] = ()
    scheduled = False  # whether the loop sets its own learning rate in every step

    def __init__(self, seed: int, careless: str = "") -> None:
        torch.manual_seed(seed)
        self.seed, self.careless = seed, careless
        self.armed = False  # whether hooks that poison a gradient do so now
        self.extra: list[Any] = []  # schedulers, scalers, averages
        self.on_loss: Callable[[Tensor], None] = lambda _: None
        self.may_update: Callable[[torch.optim.Optimizer], bool] = lambda _: True
        self.build()
        self.optimizers = [value for value in vars(self).values() if isinstance(value, torch.optim.Optimizer)]

    def build(self) -> None:
        """Make model, optimizer and whatever else the step needs."""
        raise NotImplementedError

    def data(self, made: torch.Generator) -> Batch:
        """A batch drawn from this generator: tensors by name, rows in the first dimension."""
        raise NotImplementedError

    def step(self, batch: Batch) -> Tensor:
        """Forward, loss, backward, update. Returns the loss, a scalar tensor."""
        raise NotImplementedError

    def batch(self, number: int) -> Batch:
        """The batch of a step, a function of seed and number alone; `weight` float32 [rows] is 1 everywhere."""
        made = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        return {**self.data(made), "weight": torch.ones(self.rows)}

    def models(self) -> tuple[nn.Module, ...]:
        """All models that the loop trains."""
        return (self.model, *self.more_models)

    def poison(self, gradient: Tensor) -> Tensor:
        """A hook of a parameter: writes a NaN into its gradient while the loop is armed."""
        if not self.armed:
            return gradient
        return gradient.index_fill(0, torch.tensor([0]), float("nan"))  # at: hook

    def parameter(self, name: str) -> Tensor:
        """A parameter or buffer of one of the models or averages, by its name there. Raises KeyError."""
        for model in (*self.models(), *(item for item in self.extra if isinstance(item, nn.Module))):
            found = dict(model.named_parameters()) | dict(model.named_buffers())
            if name in found:
                return found[name]
        raise KeyError(name)

    def reduced(self, each: Tensor, weight: Tensor) -> Tensor:
        """The mean of the weighted losses of the rows, float32 [rows] both; or a careless way to take it."""
        if self.careless == "root-zero":
            return torch.sqrt(weight * each).mean()  # at: root
        if self.careless == "weights-zero":
            return (weight * each).sum() / weight.sum()  # at: weights
        if self.careless == "empty-mean":
            return each[weight > 0].mean()  # at: selected
        return (weight * each).mean()


def normal(made: torch.Generator, *shape: int) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=made)


def integers(made: torch.Generator, low: int, high: int, *shape: int) -> Tensor:
    """Integers in [low, high)."""
    return torch.randint(low, high, shape, generator=made)
