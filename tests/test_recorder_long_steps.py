"""Steps of many small operations: the harm is found without watching all of them, and said meanwhile."""

from __future__ import annotations

import io
import itertools

import pytest
import torch
from recorder_rig import NAN, line, seeded
from torch import nn

from az.train.health import FlightRecorder
from az.train.health.trace import patience
from az.train.health.trace.op_trace import OpTrace

torch.set_num_threads(1)
__all__ = ["seeded"]


class Cells(nn.Module):
    """Two LSTM cells over the columns of x, float32 [rows, steps]."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.out = nn.LSTMCell(1, 4), nn.LSTMCell(4, 4), nn.Linear(4, 1)

    def forward(self, x):
        h = c = h2 = c2 = torch.zeros(len(x), 4)
        found = []
        for column in x.split(1, 1):
            h, c = self.one(column, (h, c))
            h2, c2 = self.two(h, (h2, c2))
            found.append(self.out(h2))
        return torch.cat(found, 1)


class Loop:
    """LBFGS on the cells; a root of a weight of 0 is a fault in backward, a log of a negative scale one of forward."""

    def __init__(self) -> None:
        self.model = Cells()
        self.optimizer = torch.optim.LBFGS(self.model.parameters(), 0.1, max_iter=4)
        self.recorder = FlightRecorder(self.model, self.optimizer)

    def batch(self):
        return {"x": torch.randn(8, 12), "y": torch.randn(8, 12), "weight": torch.ones(8), "scale": torch.ones(8)}

    def step(self, batch):
        def closure():
            self.optimizer.zero_grad()
            scale = torch.log(batch["scale"])  # at: log
            each = ((self.model(batch["x"]) - batch["y"]) ** 2).mean(1) + scale
            loss = torch.sqrt(batch["weight"] * each).mean()  # at: root
            loss.backward()
            return loss

        return self.optimizer.step(closure)

    def fails(self, batch):
        before = [p.detach().clone() for p in self.model.parameters()]
        incident = self.recorder.run(self.step, batch)
        assert incident is not None
        assert all(torch.equal(p, old) for p, old in zip(self.model.parameters(), before, strict=True))
        return incident


@pytest.fixture
def closely(monkeypatch):
    """The operations that are watched closely, counted."""
    seen: list[int] = []
    run = OpTrace._run

    def counted(self, *args):
        seen.append(self.count)
        return run(self, *args)

    monkeypatch.setattr(OpTrace, "_run", counted)
    return seen


def test_of_a_long_step_only_what_leads_to_the_harm_is_watched(monkeypatch, closely):
    monkeypatch.setattr("az.train.health.trace.op_trace.LONG", 50)
    loop = Loop()
    assert loop.recorder.run(loop.step, loop.batch()) is None
    bad = loop.batch()
    bad["weight"][3] = 0
    incident = loop.fails(bad)
    assert (incident.cause, incident.phase) == ("gradient-at-singularity", "backward")
    assert (incident.op, incident.source, incident.rows) == ("SqrtBackward0", line("root", __file__), [3])
    assert incident.evidence["tensor"].startswith("gradients: ")
    assert (incident.counterfactual or {})["finite"]
    whole = len(closely)
    closely.clear()
    monkeypatch.setattr("az.train.health.trace.op_trace.LONG", 10**9)
    loop.fails(bad)
    assert len(closely) > 2 * whole  # the step has four closures, the window is one of them


def test_a_fault_of_forward_in_a_long_step(monkeypatch):
    monkeypatch.setattr("az.train.health.trace.op_trace.LONG", 50)
    loop = Loop()
    assert loop.recorder.run(loop.step, loop.batch()) is None
    bad = loop.batch()
    bad["scale"][2] = -1
    incident = loop.fails(bad)
    assert (incident.cause, incident.op, incident.rows) == ("log-of-negative", "aten::log", [2])
    assert incident.source == line("log", __file__)
    assert incident.evidence["tensor"].startswith("gradients: ")
    assert loop.recorder.run(loop.step, loop.batch()) is None


def test_a_bad_row_in_a_long_step(monkeypatch):
    monkeypatch.setattr("az.train.health.trace.op_trace.LONG", 50)
    loop = Loop()
    bad = loop.batch()
    bad["x"][5, 6] = NAN
    incident = loop.fails(bad)
    assert (incident.cause, incident.rows) == ("batch-not-finite", [5])


def test_a_diagnosis_that_is_out_of_time_says_what_it_knows():
    loop = Loop()
    assert loop.recorder.run(loop.step, loop.batch()) is None
    bad = loop.batch()
    bad["scale"][2] = -1
    times = iter(range(0, 10**9, 30))
    loop.recorder.session.clock = lambda: float(next(times))  # 30 s from one look at the clock to the next
    incident = loop.fails(bad)
    assert "the diagnosis ended after" in str(incident)
    assert incident.cause in ("log-of-negative", "not-explained")
    loop.recorder.session.clock = lambda: 0.0
    assert loop.fails(bad).cause == "log-of-negative"


def test_a_replay_that_is_long_itself_is_ended_and_the_state_restored(monkeypatch):
    monkeypatch.setattr(patience, "LONG_STEP", 0.0)
    loop = Loop()
    assert loop.recorder.run(loop.step, loop.batch()) is None
    told = io.StringIO()  # numbers and lists are put back for every replay
    now = itertools.count()
    loop.recorder.session.clock = lambda: float(next(now))  # a second from one call of torch to the next

    def step(batch):
        told.write("begun ")
        value = loop.step(batch)
        told.write("ended ")
        return value

    bad = loop.batch()
    bad["scale"][2] = -1
    before = [p.detach().clone() for p in loop.model.parameters()]
    incident = loop.recorder.run(step, bad)
    assert incident is not None
    assert told.getvalue().split()[:3] == ["begun", "ended", "begun"]
    assert told.getvalue().count("ended") == 1  # the step as it was; no replay came to its end
    assert "the diagnosis ended after" in str(incident)
    assert incident.cause in ("log-of-negative", "not-explained")
    if incident.cause == "not-explained":
        assert "detected, not explained further, because of time" in str(incident)
    assert all(torch.equal(p, old) for p, old in zip(loop.model.parameters(), before, strict=True))
    loop.recorder.session.clock = lambda: 0.0
    assert loop.fails(bad).cause == "log-of-negative"


def test_a_diagnosis_that_lasts_says_what_it_does(monkeypatch, capsys):
    monkeypatch.setattr(patience, "SPEAK_AFTER", 0.001)
    loop = Loop()
    bad = loop.batch()
    bad["scale"][2] = -1
    loop.fails(bad)
    said = capsys.readouterr().err
    assert "recorder: step 0 failed; running it again" in said


def test_a_diagnosis_that_is_quick_says_nothing(monkeypatch, capsys):
    monkeypatch.setattr(patience, "SPEAK_AFTER", 60.0)
    loop = Loop()
    bad = loop.batch()
    bad["scale"][2] = -1
    loop.fails(bad)
    assert capsys.readouterr().err == ""


def test_steps_are_made_again_after_a_diagnosis_that_took_its_time():
    """Its deadline is its own: a rewind an hour later is not out of time."""
    loop = Loop()
    loop.recorder = FlightRecorder(loop.model, loop.optimizer, interval=4)
    states = []
    for _ in range(6):
        states.append([p.detach().clone() for p in loop.model.parameters()])
        assert loop.recorder.run(loop.step, loop.batch()) is None
    bad = loop.batch()
    bad["scale"][2] = -1
    assert loop.fails(bad).cause == "log-of-negative"
    begun = loop.recorder.session.clock()
    loop.recorder.session.clock = lambda: begun + 3600
    assert loop.recorder.rewind(5)
    assert all(torch.equal(p, old) for p, old in zip(loop.model.parameters(), states[5], strict=True))
