"""A signal at any line of a step leaves torch as it was, and the state as before the step or as after it."""

import itertools
import sys
import threading
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
import torch
from torch import nn

from az.train.health import FlightRecorder
from az.train.health.block import Block
from az.train.health.state import torch_modes
from az.train.health.trace import loss_roots

PACKAGE = torch_modes.__file__.rpartition("state")[0]
ENDS = ("contextlib.py", "grad_mode.py", "_python_dispatch.py", "overrides.py")  # where `with` statements end
END = Block.__exit__.__code__
END_BEGINS = min(line for *_, line in END.co_lines() if line is not None and line > END.co_firstlineno + 3)
Place = tuple[str, int]  # file and line
Run = Callable[[bool], Any]


class Lines:
    """Counts the lines that run, and raises KeyboardInterrupt in place of one of them, as a signal may.

    place: the line; time: which of its times, 1 the first. Lines of Python's own locks do not count, which promise
    nothing to who is interrupted there, nor the first line of a block's end, before which nothing can be guarded.
    """

    def __init__(self, place: Place = ("", 0), time: int = 0) -> None:
        self.place, self.time = place, time
        self.seen: Counter[Place] = Counter()

    def __enter__(self) -> None:
        self._kept = sys.gettrace()
        sys.settrace(self)

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._kept)

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename == threading.__file__:
            return None
        if event == "line" and (frame.f_code is not END or frame.f_lineno != END_BEGINS):
            place = frame.f_code.co_filename, frame.f_lineno
            self.seen[place] += 1
            if place == self.place and self.seen[place] == self.time:
                raise KeyboardInterrupt
        return self


class Session:
    """A network that learns under a recorder. every: steps to a copy of the state."""

    def __init__(self, every: int, form: str) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
        self.recorder = FlightRecorder(self.model, self.optimizer, interval=every)
        self.run: Run = self.function if form == "function" else self.block

    def step(self, batch: torch.Tensor) -> torch.Tensor:
        self.optimizer.zero_grad()
        loss = self.model(batch).square().mean()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def function(self, bad: bool) -> Any:
        return self.recorder.run(self.step, batch(bad))

    def block(self, bad: bool) -> Any:
        self.recorder.policy = None  # it ends a loop after three faults in a row
        with self.recorder.step(batch(bad), say=lambda _: None) as done:
            self.optimizer.zero_grad()
            self.model(batch(bad)).square().mean().backward()
            self.optimizer.step()
        return done.incident

    def state(self) -> list[torch.Tensor]:
        parts = [*self.model.parameters(), *self.model.buffers()]
        moments = [value for kept in self.optimizer.state.values() for value in kept.values() if value is not None]
        return [t.detach().clone() for t in (*parts, *moments, *(p.grad for p in parts if p.grad is not None))]


def batch(bad: bool) -> torch.Tensor:
    numbers = torch.linspace(-1, 1, 32).reshape(4, 8)
    if bad:
        numbers[1, 2] = torch.inf
    return numbers


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return len(a) == len(b) and all(map(torch.equal, a, b))


@pytest.fixture
def two_threads():
    before = torch_modes.modes()
    torch.set_num_threads(2)
    yield
    torch_modes.put_back(before)  # a test that fails must not take others with it
    loss_roots._open.clear()


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("form", ["function", "block"])
@pytest.mark.parametrize("every", [1, 8])
@pytest.mark.parametrize("bad", [False, True])
def test_a_signal_at_any_line_leaves_torch_and_the_state_as_they_were(bad, every, form):
    twin, session = Session(every, form), Session(every, form)
    for _ in range(3):
        twin.step(batch(False))
        assert session.run(False) is None
    assert session.run(True) is not None
    lines, modes, broken = Lines(), torch_modes.modes(), 0
    with lines:
        assert (session.run(bad) is not None) == bad
    if not bad:
        twin.step(batch(False))
    places = chosen(lines.seen, bad)
    for place, time in places:
        before, strike = session.state(), Lines(place, time)
        try:
            with strike:
                session.run(bad)
        except KeyboardInterrupt:
            broken += 1
        now = session.state()
        if not same(now, before):
            twin.step(batch(False))
            assert not bad, place
            assert same(now, twin.state()), place
        assert torch_modes.modes() == modes, place
    assert broken > 0.8 * len(places)
    assert session.run(False) is None
    assert session.run(True) is not None
    twin.step(batch(False))
    assert same(session.state(), twin.state())
    assert not loss_roots._open


def chosen(seen: Counter[Place], bad: bool) -> list[tuple[Place, int]]:
    """The recorder's own lines and those where a `with` statement ends: of a good step all, the first and last time; of
    a diagnosis some, and all at its ends, the last time."""
    ends = [(place, times) for place, times in seen.items() if place[0].endswith(ENDS)]
    own = [(place, times) for place, times in seen.items() if place[0].startswith(PACKAGE)]
    if not bad:
        return [(place, time) for place, times in (*ends, *own) for time in sorted({1, times})]
    edges = [(place, times) for place, times in own if place[0].endswith(("recorder.py", "block.py", "torch_modes.py"))]
    return [*ends, *edges, *own[::15]]


@pytest.mark.parametrize("bad", [False, True])
def test_a_signal_while_the_ranks_agree_undoes_only_a_bad_step(bad, monkeypatch):
    def agree(*_: object) -> bool:
        raise KeyboardInterrupt

    twin, session = Session(1, "function"), Session(1, "function")
    before = session.state()
    monkeypatch.setattr(session.recorder.ranks, "agree", agree)
    with pytest.raises(KeyboardInterrupt):
        session.run(bad)
    if not bad:
        twin.step(batch(False))  # the other ranks may go on with theirs
    assert same(session.state()[: len(before)], twin.state()[: len(before)])


def test_a_signal_after_steps_that_cannot_be_made_again_undoes_no_more_of_them(monkeypatch):
    session, count, states = Session(4, "function"), itertools.count(1), list[list[torch.Tensor]]()

    def step(given: torch.Tensor) -> torch.Tensor:
        session.optimizer.param_groups[0]["lr"] = 0.01 * (1 + next(count) % 7)
        return session.step(given)

    def strike(*_: object) -> None:
        raise KeyboardInterrupt

    for _ in range(7):
        states.append(session.state())
        assert session.recorder.run(step, batch(False)) is None
    monkeypatch.setattr("az.train.health.recorder.not_made_again", strike)
    with pytest.raises(KeyboardInterrupt):
        session.recorder.run(step, batch(True))
    assert same(session.state(), states[4])


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


def test_a_mode_of_the_users_that_was_entered_since_stays():
    from torch.utils.flop_counter import FlopCounterMode

    session = Session(1, "function")
    running = session.recorder.start(session.step, batch(False))
    with FlopCounterMode(display=False):
        with pytest.raises(ValueError, match="the user's"):
            session.recorder.finish(running, None, ValueError("the user's"), [])
        inside = torch_modes.modes().watches
    assert inside[1] == 1
    assert torch_modes.modes().watches == (0, 0)
