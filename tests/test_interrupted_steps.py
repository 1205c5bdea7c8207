"""A signal at any line of a step leaves torch as it was, and the weights as before the step or as after it."""

import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
import torch
from torch import nn

from train.health import FlightRecorder
from train.health.state import torch_modes
from train.health.trace import loss_roots

Run = Callable[[bool], Any]


class Strike:
    """Raises KeyboardInterrupt in place of the `at`th line that runs, as a signal may; `line` is where.

    Lines of Python's own locks do not count: they promise nothing to who is interrupted there.
    """

    def __init__(self, at: int) -> None:
        self.left, self.line = at, ""

    def __enter__(self) -> None:
        self._kept = sys.gettrace()
        sys.settrace(self)

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._kept)

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename == threading.__file__:
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                self.line = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                raise KeyboardInterrupt
        return self


def session(every: int) -> tuple[nn.Module, Run, Run]:
    """(a network, a step of it, one under a recorder); every: steps to a copy of the state."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    recorder = FlightRecorder(model, optimizer, interval=every)

    def step(batch: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(batch).square().mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    def run(bad: bool) -> Any:
        batch = torch.ones(4, 8)
        if bad:
            batch[1, 2] = torch.inf
        return recorder.run(step, batch)

    return model, lambda _: step(torch.ones(4, 8)), run


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def lines_of(run: Callable[[], Any]) -> int:
    count = Strike(1_000_000)
    with count:
        run()
    return 1_000_000 - count.left


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch_modes.put_back(torch_modes.Modes(True, before, (0, 0)))  # a test that fails must not take others with it
    loss_roots._open.clear()


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("every", [1, 8])
@pytest.mark.parametrize("bad", [False, True])
def test_a_signal_at_any_line_leaves_torch_and_the_weights_as_they_were(bad, every):
    plain, alone, _ = session(every)
    model, _, run = session(every)
    for _ in range(3):
        alone(False)
        assert run(False) is None
    lines, broken = lines_of(lambda: run(bad)), 0
    if not bad:
        alone(False)
    places = range(1, lines + 1, 1 + lines // 200 * bad)  # a diagnosis has many lines
    for at in places:
        before, strike = weights(model), Strike(at)
        try:
            with strike:
                run(bad)
        except KeyboardInterrupt:
            broken += 1
        now = weights(model)
        if not torch.equal(now, before):
            alone(False)
            assert not bad, strike.line
            assert torch.equal(now, weights(plain)), strike.line
        assert torch_modes.modes() == torch_modes.Modes(True, 2, (0, 0)), strike.line
    assert broken > 0.6 * len(places)
    assert run(False) is None
    assert run(True) is not None
    alone(False)
    assert torch.equal(weights(model), weights(plain))
    assert not loss_roots._open


def test_a_list_of_losses_that_a_signal_left_open_is_let_go():
    left = loss_roots.noted_roots()
    left.__enter__()
    del left
    weight = torch.ones(2, requires_grad=True)
    with loss_roots.noted_roots() as roots:
        weight.sum().backward()
    assert [float(root) for root in roots] == [2.0]
    weight.sum().backward()
    assert len(roots) == 1
    assert not loss_roots._open
