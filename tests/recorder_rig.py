"""A loop around one loss, for tests of what the recorder says of small faults."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from az.train.health import FlightRecorder, Incident

torch.set_num_threads(1)
NAN, INF = math.nan, math.inf
F = torch.nn.functional


@pytest.fixture(autouse=True)
def seeded():
    """Import it: every test of that file begins with the same random state."""
    torch.manual_seed(0)
    np.random.seed(0)


def line(name: str, path: str) -> str:
    """file:line of the line of a test's file that ends in `# at: name`."""
    with open(path, encoding="utf-8") as file:
        numbers = [i for i, text in enumerate(file, 1) if text.rstrip().endswith(f"# at: {name}")]
    assert len(numbers) == 1, name
    return f"{path}:{numbers[0]}"


class Rig:
    """A loop around one loss, and how often its step has run."""

    def __init__(self, model: nn.Module, loss_of: Any, optimizer: Any = None, **options: Any):
        self.model: Any = model
        self.optimizer = optimizer or torch.optim.SGD(model.parameters(), 0.01)
        self.loss_of = loss_of
        self.recorder = FlightRecorder(model, self.optimizer, **options)

    def step(self, batch: Any) -> Any:
        self.optimizer.zero_grad()
        loss = self.loss_of(self.model, batch)
        loss.backward()
        self.optimizer.step()
        return loss

    def run(self, batch: Any) -> Incident | None:
        return self.recorder.run(self.step, batch)

    def fails(self, batch: Any) -> Incident:
        """The incident; the state must be that of before, to the bit."""
        before = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        incident = self.run(batch)
        assert incident is not None
        assert all(torch.equal(tensor, before[name]) or torch.isnan(before[name]).any()
                   for name, tensor in self.model.state_dict().items())  # fmt: skip
        return incident


def tried(incident: Incident) -> tuple[str, bool] | None:
    found = incident.counterfactual
    return None if found is None else (found["repair"], found["finite"])
