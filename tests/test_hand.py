"""The recorder's second thread: beside the first one, faults of either come out, a fork and the end are survived."""

import gc
import multiprocessing
import threading
import time

import pytest
import torch
from torch import nn

from az.train.health import FlightRecorder
from az.train.health.hand import WORTH, Hand


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "flight recorder"}


def test_work_and_body_run_side_by_side():
    hand, seen = Hand(), []
    first, second = threading.Event(), threading.Event()

    def work() -> None:
        seen.append(threading.current_thread().name)
        first.set()
        assert second.wait(20)  # only the body lets it go on

    for _ in range(3):
        first.clear()
        second.clear()
        with hand.beside(work, worth=True):
            assert first.wait(20)
            second.set()
    assert seen == ["flight recorder"] * 3


def test_little_work_is_done_at_once_by_the_caller():
    hand, seen, before = Hand(), [], threads()
    with hand.beside(lambda: seen.append(threading.current_thread()), worth=False):
        assert seen == [threading.current_thread()]
    with hand.beside(None, worth=True):
        pass
    assert not threads() - before


def test_whatever_the_body_raises_the_work_is_over_first():
    hand, over = Hand(), []

    def work() -> None:
        time.sleep(0.2)
        over.append(True)

    with pytest.raises(KeyError), hand.beside(work, worth=True):
        raise KeyError
    assert over == [True]


def test_a_fault_of_the_work_comes_out_and_the_next_is_done():
    hand, seen = Hand(), []

    def broken() -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"), hand.beside(broken, worth=True):
        pass
    with hand.beside(lambda: seen.append(1), worth=True):
        pass
    assert seen == [1]


def test_the_thread_ends_with_its_recorder():
    before, hand = threads(), Hand()
    with hand.beside(lambda: None, worth=True):
        assert len(threads() - before) == 1
    del hand
    gc.collect()
    for _ in range(200):
        if not threads() - before:
            return
        time.sleep(0.02)
    pytest.fail("the thread is still there")


def flown(recorder: FlightRecorder, model: nn.Module, optimizer: torch.optim.Optimizer, bad: bool) -> bool:
    """Whether a step was found faulty, and undone to the bit."""

    def step(batch: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(batch).square().mean()
        loss.backward()
        optimizer.step()
        if bad:
            with torch.no_grad():
                next(model.parameters()).view(-1)[-1] = torch.nan
        return loss

    kept = [p.detach().clone() for p in model.parameters()]
    incident = recorder.run(step, torch.ones(4, 700))
    if incident is not None:
        assert all(torch.equal(a, b) for a, b in zip(kept, model.parameters(), strict=True))
    return incident is not None


def large() -> tuple[FlightRecorder, nn.Module, torch.optim.Optimizer]:
    model = nn.Sequential(nn.Linear(700, 700), nn.Linear(700, 3))
    assert sum(p.nbytes for p in model.parameters()) > WORTH
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    return FlightRecorder(model, optimizer), model, optimizer


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_a_large_state_is_flown_with_a_second_thread():
    before, flight = threads(), large()
    assert [flown(*flight, bad) for bad in (False, True, False)] == [False, True, False]
    assert len(threads() - before) == 1


@pytest.mark.usefixtures("two_threads")
def test_who_asked_torch_for_one_thread_gets_one():
    before, flight = threads(), large()
    torch.set_num_threads(1)
    assert [flown(*flight, bad) for bad in (False, True, False)] == [False, True, False]
    assert not threads() - before


@pytest.mark.usefixtures("two_threads")
def test_a_fork_of_the_process_flies_on():
    hand, seen = Hand(), multiprocessing.get_context("fork").Queue()
    with hand.beside(lambda: None, worth=True):
        pass

    def child() -> None:
        with hand.beside(lambda: seen.put(threading.current_thread().name), worth=True):
            pass

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert seen.get(timeout=10) == "flight recorder"
