"""`with recorder.step(batch)` around the lines of a loop: the same curve, faults undone and explained, errors kept."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path

import pytest
import torch
from test_recorder_loops import Loop, batches
from torch import Tensor, nn

from az.train.health import FaultFound, FlightRecorder, Incident


def trained(found: list[Tensor], with_recorder: bool) -> tuple[list[float], nn.Module, list[Incident | None]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    recorder = FlightRecorder(model, optimizer)
    losses, incidents, loss = [], [], torch.zeros(())
    for batch in found:
        if not with_recorder:
            optimizer.zero_grad()
            loss = model(batch).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            continue
        with recorder.step(batch, say=lambda _: None) as done:
            optimizer.zero_grad()
            loss = model(batch).square().mean()
            loss.backward()
            optimizer.step()
        incidents.append(done.incident)
        if done.incident is None:
            losses.append(loss.item())
    return losses, model, incidents


def test_the_curve_is_the_same_and_a_row_of_nan_is_left_out():
    plain, without, _ = trained([b for i, b in enumerate(batches(40)) if i not in (7, 30)], False)
    losses, model, incidents = trained(batches(40, (7, 30)), True)
    assert losses == plain
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), without.parameters(), strict=True))
    found = [one for one in incidents if one is not None]
    assert [one.first_bad_step for one in found] == [7, 30]
    assert {(one.cause, tuple(one.rows), one.module, one.replay) for one in found} == {
        ("batch-not-finite", (2,), "0", "bit-exact")
    }
    text = Path(__file__).read_text("utf-8").splitlines()
    line = next(i for i, one in enumerate(text, 1) if "with recorder.step(batch, say=lambda" in one)
    assert found[0].source == f"{__file__}:{line + 2}"
    assert found[0].counterfactual is not None


def test_a_name_that_the_lines_add_to_is_read_as_it_was():
    loop, scale, i = Loop(), 1.0, -1
    for i, batch in enumerate(batches(12)):
        with loop.recorder.step(batch, say=loop.said.append) as done:
            scale = scale * 1e30 if i >= 10 else scale  # the second time it overflows
            loop.optimizer.zero_grad()
            for part in batch.split(3):
                if part.shape[0] < 2:
                    continue
                loss = (scale * loop.model(part)).sum().exp() if i == 11 else loop.model(part).square().mean()
                loss.backward()
            if i == 5:
                break
            loop.optimizer.step()
        assert (done.incident is not None) == (i == 11)
        assert done.incident is None or done.incident.replay == "bit-exact"
    assert i == 5  # `break` leaves the loop as it would have without the recorder


def test_an_error_of_the_users_goes_on_and_everything_is_as_before():
    loop = Loop()
    before = loop.model.weight.clone()
    with pytest.raises(KeyError, match="of my own"), loop.recorder.step(batches(1)[0]):  # noqa: PT012
        loop.step(batches(1)[0])
        raise KeyError("of my own")
    assert torch.equal(loop.model.weight, before)
    with loop.recorder.step(batches(1)[0], say=loop.said.append) as done:  # a guard of the user's own
        loss = loop.step(batches(1, (0,))[0])
        if torch.isnan(loss):
            raise ValueError("NaN")
    assert done.incident is not None
    assert torch.equal(loop.model.weight, before)
    with pytest.raises(KeyboardInterrupt), loop.recorder.step(None):  # noqa: PT012
        loop.step(batches(1)[0])
        raise KeyboardInterrupt
    assert torch.equal(loop.model.weight, before)


def test_lines_that_are_in_no_file_are_undone_and_not_run_again():
    loop, told = Loop(), []
    text = "with recorder.step(batch, say=told.append) as done:\n    runs.append(1)\n    step(batch)\n"
    names = {"recorder": loop.recorder, "step": loop.step, "told": told, "runs": []}
    before = loop.model.weight.clone()
    exec(text, names | {"batch": batches(1, (0,))[0]})
    assert torch.equal(loop.model.weight, before)
    assert len(names["runs"]) == 1
    assert "rows of the batch: 2" in told[0]
    assert "nothing can run these lines again" in told[0]
    with pytest.raises(FaultFound):
        exec(text.replace("say", "on_fault='stop', say"), names | {"batch": batches(1, (0,))[0]})
    exec(text, names | {"batch": batches(1)[0]})
    assert not torch.equal(loop.model.weight, before)


def test_three_in_a_row_stop_and_so_does_the_policy():
    loop = Loop()
    with pytest.raises(FaultFound, match="3 steps in a row"):  # noqa: PT012
        for batch in batches(9, (3, 4, 5)):
            with loop.recorder.step(batch, say=loop.said.append):
                loop.step(batch)
    assert len(loop.said) == 2
    with pytest.raises(ValueError, match="skip, rewind, stop"):
        loop.recorder.step(None, "go")


def test_the_number_of_the_step_is_a_number_too():
    loop = Loop()
    loop.recorder.step = 5
    assert loop.recorder.step == 5
    assert json.dumps({"step": loop.recorder.step}) == '{"step": 5}'
    assert loop.recorder.run(loop.step, batches(1)[0]) is None
    assert loop.recorder.step + 1 == 7


def test_loop_leaves_out_rewinds_or_stops():
    plain, loop = Loop(), Loop()
    expected = [plain.step(batch) for i, batch in enumerate(batches(8)) if i not in (2, 5)]
    assert list(loop.recorder.loop(batches(8, (2, 5)), loop.step, say=loop.said.append)) == expected
    assert torch.equal(loop.model.weight, plain.model.weight)
    with pytest.raises(FaultFound, match="batch holds NaN"):
        list(loop.recorder.loop(batches(9, (3,)), loop.step, policy="stop"))


def test_a_closure_of_lbfgs_and_several_models_are_given_as_they_are():
    torch.manual_seed(0)
    models = [nn.Linear(4, 4), nn.Linear(4, 1)]
    optimizers = [torch.optim.LBFGS(models[0].parameters(), 0.1, max_iter=3), torch.optim.SGD(models[1].parameters())]
    recorder = FlightRecorder(models, optimizers)
    told: list[str] = []
    numbers = count()
    for batch in batches(6, (4,)):
        before = [p.clone() for model in models for p in model.parameters()]
        with recorder.step(batch, say=told.append) as done:

            def closure(batch: Tensor = batch) -> Tensor:
                for model in models:
                    model.zero_grad()
                loss = models[1](models[0](batch).relu()).square().mean()
                loss.backward()
                return loss

            optimizers[0].step(closure)
            optimizers[1].step()
        now = [p for model in models for p in model.parameters()]
        same = all(torch.equal(a, b) for a, b in zip(before, now, strict=True))
        assert same == (next(numbers) == 4) == (done.incident is not None)
    assert "rows of the batch: 2" in told[0]
