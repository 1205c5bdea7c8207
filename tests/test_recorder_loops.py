"""The recorder around a loop that is there: what is yielded, left out, undone and raised."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from az.train.health import FaultFound, FlightRecorder, recorded, watched

torch.set_num_threads(1)


class Loop:
    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Linear(4, 1)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.recorder = FlightRecorder(self.model, self.optimizer)
        self.said: list[str] = []

    def step(self, batch: Tensor) -> Tensor:
        self.optimizer.zero_grad()
        loss = self.model(batch).square().mean()
        loss.backward()
        self.optimizer.step()
        return loss.detach()


def batches(count: int, bad: tuple[int, ...] = ()) -> list[Tensor]:
    found = [torch.randn(5, 4, generator=torch.Generator().manual_seed(i)) for i in range(count)]
    for i in bad:
        found[i][2, 1] = torch.nan
    return found


def test_a_bad_batch_is_left_out_and_told():
    plain, loop = Loop(), Loop()
    expected = [plain.step(batch) for i, batch in enumerate(batches(8)) if i not in (2, 5)]
    found = list(recorded(loop.recorder, batches(8, (2, 5)), loop.step, say=loop.said.append))
    assert found == expected
    assert torch.equal(loop.model.weight, plain.model.weight)
    assert len(loop.said) == 2
    assert "step 2" in loop.said[0]


def test_three_in_a_row_end_the_loop_whatever_the_policy():
    loop = Loop()
    values = recorded(loop.recorder, batches(9, (3, 4, 5)), loop.step, say=loop.said.append)
    with pytest.raises(FaultFound, match="3 steps in a row") as caught:
        list(values)
    assert caught.value.incident.first_bad_step == 5
    assert len(loop.said) == 2


def test_stop_stops_at_the_first_and_the_state_is_that_of_before():
    plain, loop = Loop(), Loop()
    for batch in batches(3):
        plain.step(batch)
    with pytest.raises(FaultFound, match="batch holds NaN"):
        list(recorded(loop.recorder, batches(9, (3,)), loop.step, on_fault="stop"))
    assert torch.equal(loop.model.weight, plain.model.weight)
    with pytest.raises(ValueError, match="skip, rewind, stop"):
        list(recorded(loop.recorder, [], loop.step, on_fault="go"))


def test_rewind_goes_back_to_the_step_that_caused_it():
    loop, plain = Loop(), Loop()
    twelfth = batches(13)[12]

    def step(batch: Tensor) -> Tensor:
        at_spike = torch.equal(batch, twelfth)
        for group in loop.optimizer.param_groups:
            group["lr"] = 1e25 if at_spike else 0.1
        return loop.step(batch)

    values = list(recorded(loop.recorder, batches(16), step, on_fault="rewind", say=loop.said.append))
    assert len(loop.said) == 1
    assert "caused at step 12" in loop.said[0]
    for i, batch in enumerate(batches(16)):
        if i not in (12, 13):  # the spike is undone, the step in which it showed too
            plain.step(batch)
    assert torch.equal(loop.model.weight, plain.model.weight)
    assert len(values) == 15  # that of the spike was yielded before anybody knew


def test_a_decorated_step_returns_its_value_or_raises():
    plain, loop = Loop(), Loop()
    step = watched(loop.recorder)(loop.step)
    good, bad = batches(2, (1,))
    assert step(good) == plain.step(good)
    assert step.__name__ == "step"
    with pytest.raises(FaultFound) as caught:
        step(bad)
    assert caught.value.incident.rows == [2]
    assert torch.equal(loop.model.weight, plain.model.weight)
