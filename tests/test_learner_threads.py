"""The learner's threads: all cores only while self-play rests, and only where that is faster now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import torch

from az.train import process
from az.train.config import RunConfig
from az.train.process import FIRST_WAIT, LearnerThreads


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    monkeypatch.setattr(process, "usable_cores", lambda: 2)
    yield
    torch.set_num_threads(before)


class Machine:
    """A clock that goes on as steps are made; seconds of a step by its threads."""

    def __init__(self, seconds: Callable[[int], float]) -> None:
        self.seconds, self.now, self.made = seconds, 0.0, Counter[int]()

    def clock(self) -> float:
        return self.now

    def step(self) -> None:
        threads = torch.get_num_threads()
        self.made[threads] += 1
        self.now += self.seconds(threads)


def run(seconds: Callable[[int], float], steps: int, alone: bool = True, deterministic: bool = False) -> Machine:
    machine = Machine(seconds)
    threads = LearnerThreads(RunConfig(deterministic=deterministic), machine.clock)
    for _ in range(steps):
        threads.use(alone)
        threads.timed(machine.step)
    return machine


def test_a_quiet_machine_uses_all_cores() -> None:
    made = run(lambda threads: 0.1 / threads, 10 * FIRST_WAIT).made
    assert made[2] > 0.95 * made.total()


def test_a_busy_machine_uses_one_and_tries_ever_less() -> None:
    machine = run(lambda threads: 0.1 if threads == 1 else 5.0, 10 * FIRST_WAIT)
    assert 1 <= machine.made[2] <= 5  # a trial is one step, and the wait for the next doubles
    assert machine.now < 1.2 * 0.1 * 10 * FIRST_WAIT


def test_it_goes_with_the_machine() -> None:
    machine = Machine(lambda threads: 0.1 if threads == 1 else 1.0)
    threads = LearnerThreads(RunConfig(), machine.clock)

    def steps(count: int) -> Counter[int]:
        machine.made.clear()
        for _ in range(count):
            threads.use(alone=True)
            threads.timed(machine.step)
        return machine.made.copy()

    assert steps(3 * FIRST_WAIT)[1] > 2.9 * FIRST_WAIT
    machine.seconds = lambda count: 0.1 / count
    assert steps(10 * FIRST_WAIT)[2] > 5 * FIRST_WAIT
    machine.seconds = lambda count: 0.1 if count == 1 else 1.0
    assert steps(10 * FIRST_WAIT)[1] > 8 * FIRST_WAIT


@pytest.mark.parametrize(("alone", "deterministic"), [(False, False), (True, True)])
def test_one_thread_beside_self_play_and_where_bits_count(alone: bool, deterministic: bool) -> None:
    assert run(lambda threads: 0.1 / threads, 50, alone, deterministic).made == {1: 50}
