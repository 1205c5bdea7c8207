"""The recorder's second thread: beside the first one, faults of either come out, a fork and the end are survived."""

import copy
import gc
import multiprocessing
import signal
import threading
import time
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import nn

from az.train.health import FlightRecorder, use_numba
from az.train.health.state import jit
from az.train.health.state.background import WORTH, BackgroundTask


@pytest.fixture(autouse=True)
def passes(monkeypatch):
    """Compiled passes, where the compiler is on."""
    monkeypatch.setattr(jit, "_is_on", False)
    assert use_numba() is not jit.JIT_OFF


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "flight recorder"}


def test_work_and_body_run_side_by_side():
    hand, seen = BackgroundTask(), []
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
    hand, seen, before = BackgroundTask(), [], threads()
    with hand.beside(lambda: seen.append(threading.current_thread()), worth=False):
        assert seen == [threading.current_thread()]
    with hand.beside(None, worth=True):
        pass
    assert not threads() - before


def test_whatever_the_body_raises_the_work_is_over_first():
    hand, over = BackgroundTask(), []

    def work() -> None:
        time.sleep(0.2)
        over.append(True)

    with pytest.raises(KeyError), hand.beside(work, worth=True):
        raise KeyError
    assert over == [True]


def test_a_fault_of_the_work_comes_out_and_the_next_is_done():
    hand, seen = BackgroundTask(), []

    def broken() -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"), hand.beside(broken, worth=True):
        pass
    with hand.beside(lambda: seen.append(1), worth=True):
        pass
    assert seen == [1]


@pytest.mark.parametrize("at", ["_asked", "_begun", "_done"])
def test_a_signal_in_any_wait_costs_no_later_look(at):
    """The lock raises once, as Ctrl-C makes it; what is asked afterwards is still over when the body is."""
    hand, over = BackgroundTask(), []
    with hand.beside(lambda: None, worth=True):
        pass
    bench = hand._at
    assert bench is not None
    lock = getattr(bench, at)

    class Struck:
        """Raises in the first thread's next wait (or question); then it is the lock again."""

        def acquire(self, blocking: bool = True) -> bool:
            if blocking and threading.current_thread() is threading.main_thread():
                setattr(bench, at, lock)
                raise KeyboardInterrupt
            return lock.acquire(blocking)

        def release(self) -> None:
            if at == "_asked":
                setattr(bench, at, lock)
                raise KeyboardInterrupt
            lock.release()

    def work() -> None:
        time.sleep(0.1)
        over.append(True)

    setattr(bench, at, Struck())
    with pytest.raises(KeyboardInterrupt), hand.beside(work, worth=True):
        pass
    assert over == [True]  # nothing is still being read or written
    for count in range(2, 5):
        with hand.beside(work, worth=True):
            pass
        assert len(over) == count


@pytest.mark.usefixtures("two_threads")
def test_interrupted_flights_see_and_undo_later_faults():
    session = large()
    recorder, model, optimizer = session
    assert not seen_bad(recorder, model, optimizer, bad=False)
    armed = False

    def strike(*_: object) -> None:
        if armed:  # a late one would strike the test
            raise KeyboardInterrupt

    kept = signal.signal(signal.SIGALRM, strike)
    try:
        for count in range(24):
            signal.setitimer(signal.ITIMER_REAL, 0.0003 * (count % 12 + 1))
            try:
                armed = True
                seen_bad(recorder, model, optimizer, bad=False)
                time.sleep(0.01)
            except KeyboardInterrupt:
                pass
            armed = False
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            if count % 8 == 7:
                assert seen_bad(recorder, model, optimizer, bad=True), count
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, kept)


def test_without_a_thread_the_caller_works_alone(monkeypatch):
    def none(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)
    seen, hand = [], BackgroundTask()
    with hand.beside(lambda: seen.append(threading.current_thread()), worth=True):
        assert seen == [threading.current_thread()]


@pytest.mark.usefixtures("two_threads")
def test_a_trainer_that_its_tensors_know_is_let_go():
    class Trainer:
        def __init__(self) -> None:
            self.recorder, self.model, self.optimizer = large()
            next(self.model.parameters()).owner = self  # pyright: ignore[reportAttributeAccessIssue]

    before, trainer = threads(), Trainer()
    gone = weakref.ref(trainer)
    assert not seen_bad(trainer.recorder, trainer.model, trainer.optimizer, bad=False)
    del trainer
    gc.collect()
    assert gone() is None
    wait_until(lambda: not threads() - before)


@pytest.mark.usefixtures("two_threads")
def test_a_recorder_inside_of_what_it_keeps_keeps_its_thread():
    class Trainer:
        recorder: FlightRecorder

        def __init__(self) -> None:
            self.count = 0

    trainer, (_, model, optimizer) = Trainer(), large()
    trainer.recorder = FlightRecorder(model, optimizer, extra_state=[trainer])
    before = threads()
    assert [seen_bad(trainer.recorder, model, optimizer, bad) for bad in (True, False, True)] == [True, False, True]
    assert len(threads() - before) == 1


@pytest.mark.usefixtures("two_threads")
def test_a_recorder_can_be_copied():
    recorder, model, optimizer = copy.deepcopy(large())
    assert [seen_bad(recorder, model, optimizer, bad) for bad in (False, True)] == [False, True]
    recorder, model, optimizer = copy.deepcopy((recorder, model, optimizer))
    assert [seen_bad(recorder, model, optimizer, bad) for bad in (False, True)] == [False, True]


def wait_until(so: Callable[[], bool]) -> None:
    for _ in range(200):
        if so():
            return
        time.sleep(0.02)
    pytest.fail("it never came")


def test_the_thread_ends_with_its_recorder():
    before, hand = threads(), BackgroundTask()
    with hand.beside(lambda: None, worth=True):
        assert len(threads() - before) == 1
    del hand
    gc.collect()
    wait_until(lambda: not threads() - before)


def seen_bad(recorder: FlightRecorder, model: nn.Module, optimizer: torch.optim.Optimizer, bad: bool) -> bool:
    """Whether a step was found faulty, and undone to the bit."""

    def step(batch: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(batch).square().mean()
        loss.backward()
        optimizer.step()
        if bad:
            with torch.no_grad():
                next(model.parameters()).view(-1)[-1] = torch.nan
        return loss.detach()

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
def test_a_large_state_is_run_of_with_a_second_thread():
    before, session = threads(), large()
    assert [seen_bad(*session, bad) for bad in (False, True, False)] == [False, True, False]
    assert len(threads() - before) == 1


@pytest.mark.usefixtures("two_threads")
def test_who_asked_torch_for_one_thread_gets_one():
    before, session = threads(), large()
    torch.set_num_threads(1)
    assert [seen_bad(*session, bad) for bad in (False, True, False)] == [False, True, False]
    assert not threads() - before


@pytest.mark.usefixtures("two_threads")
def test_a_fork_of_the_process_flies_on():
    hand, seen = BackgroundTask(), multiprocessing.get_context("fork").Queue()
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


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_step_broken_off_leaves_torch_as_it_was(error):
    """A signal in the end of a `no_grad` leaves it switched on."""

    def step(_: torch.Tensor) -> None:
        torch.set_grad_enabled(False)
        torch.set_num_threads(1)
        raise error

    with pytest.raises(error):
        large()[0].run(step, torch.ones(4, 700))
    assert torch.is_grad_enabled()
    assert torch.get_num_threads() == 2
