"""The look at one step before training: what the founding case left out is named, and nothing is changed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from az.train.health.preflight import Finding, preflight

STEP = Callable[[Tensor], Tensor]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 4, 1)
    )


KERNELS = ["0.weight", "4.weight"]


def step_of(model: nn.Module, optimizer: torch.optim.Optimizer, l2: list[str]) -> STEP:
    named = dict(model.named_parameters())

    def step(batch: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = model(batch).square().mean() + 1e-4 * sum((named[n].square().sum() for n in l2), torch.zeros(()))
        loss.backward()
        optimizer.step()
        return loss

    return step


def look(model: nn.Module, l2: list[str], decay: float = 0.0) -> list[Finding]:
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, weight_decay=decay)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rng = torch.get_rng_state()
    batch = torch.randn(8, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    found = preflight(model, optimizer, step_of(model, optimizer, l2), batch, decayed=KERNELS)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not optimizer.state
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(rng, torch.get_rng_state())
    return found


def causes(found: list[Finding]) -> dict[str, list[str]]:
    return {finding.cause: finding.names for finding in found}


def test_a_sound_step_has_no_finding() -> None:
    assert look(network(), KERNELS) == []


def test_weight_decay_of_the_optimizer_counts_as_l2() -> None:
    assert look(network(), [], decay=1e-4) == []


def test_missing_l2_is_named_layer_by_layer() -> None:
    assert causes(look(network(), [])) == {"no-l2": KERNELS}
    assert causes(look(network(), ["0.weight"])) == {"no-l2": ["4.weight"]}


@pytest.mark.parametrize("how", ["momentum", "eval"])
def test_averages_that_are_not_updated_are_named(how: str) -> None:
    model = network()
    norm = model.get_submodule("1")
    assert isinstance(norm, nn.BatchNorm2d)
    if how == "momentum":
        norm.momentum = 0.0
    else:
        norm.eval()
    assert causes(look(model, KERNELS)) == {"averages-not-updated": ["1"]}


def test_a_parameter_without_gradient_is_named() -> None:
    model = network()
    model.register_parameter("unused", nn.Parameter(torch.ones(3)))
    assert causes(look(model, KERNELS)) == {"no-gradient": ["unused"]}


def test_averages_from_elsewhere_are_named_but_young_ones_are_not() -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)
    step = step_of(model, optimizer, KERNELS)
    made = torch.Generator().manual_seed(2)
    for _ in range(5):
        step(torch.randn(32, 2, 4, 4, generator=made))
    optimizer.zero_grad()
    assert look(model, KERNELS) == []  # five steps old: far from the batch's, as far as five steps explain
    norm = model.get_submodule("1")
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    norm.running_mean += 5.0
    assert causes(look(model, KERNELS)) == {"modes-apart": ["1"]}
