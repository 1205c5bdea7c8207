"""The random states that a step begins from: the same as those that numpy and Python tell, however they were drawn."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from az.train.health.state.random_states import generators


def _drawn() -> list[float]:
    return [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), float(torch.rand(()))]


@pytest.mark.parametrize(
    "between",
    [
        lambda: None,
        lambda: random.random(),
        lambda: random.gauss(0, 1),  # keeps a second number in an attribute of the generator
        lambda: np.random.rand(),
        lambda: np.random.randn(),  # numpy keeps a second number, too
        lambda: (np.random.randn(), np.random.randn()),
        lambda: torch.rand(3),
        lambda: (random.seed(3), np.random.seed(3)),
    ],
)
def test_each_state_comes_back(between: Callable[[], object]) -> None:
    """Also where the second of numpy's normal numbers is taken, which no memory of the generator shows."""
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    backs, drawn = [], list[list[float]]()
    for _ in range(4):
        between()
        backs.append(generators())
        drawn.append(_drawn())
        np.random.randn()
        backs.append(generators())
        drawn.append(_drawn())
    for back, wanted in [*zip(backs, drawn, strict=True), (backs[0], drawn[0])]:
        back()
        assert _drawn() == wanted


def test_another_generator_of_numpy_comes_back() -> None:
    """One that is no Mersenne twister is asked each time."""
    numpy_random: Any = np.random  # its stubs lack both functions
    old = numpy_random.get_bit_generator()
    numpy_random.set_bit_generator(np.random.PCG64(4))
    try:
        back = generators()
        wanted = np.random.rand(3).tolist()
        back()
        assert np.random.rand(3).tolist() == wanted
    finally:
        numpy_random.set_bit_generator(old)
