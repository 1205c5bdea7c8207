"""What a step reads: batches of every kind, Python's values, iterators; each fault with its right answer."""

from __future__ import annotations

import collections
import math
from collections.abc import MutableMapping
from typing import Any

import numpy as np
import pytest
import torch
from recorder_rig import INF, NAN, F, Rig, line, seeded, tried
from torch import nn

from az.train.health import FlightRecorder

torch.set_num_threads(1)
__all__ = ["seeded"]


@pytest.mark.parametrize("depth", [None, 8])
def test_a_sparse_tensor_in_the_batch(depth):
    rig = Rig(nn.Linear(4, 1), lambda m, b: torch.sparse.mm(b[0], m.weight.T).sum(), depth=depth)
    assert [rig.run((torch.eye(4).to_sparse(),)) for _ in range(3)] == [None] * 3
    bad = torch.eye(4).to_sparse()
    bad._values()[2] = NAN
    incident = rig.fails((bad,))
    assert (incident.cause, incident.rows, incident.evidence["fields"]) == ("batch-not-finite", [2], ["0.values"])
    assert tried(incident) == ("without rows [2]", True)


def test_the_logarithm_of_a_mask_is_not_blamed_for_an_overflow_behind_it():
    def loss(model, batch):
        bias = torch.log(batch[1])  # meant: -inf on illegal moves
        logits = model(batch[0]) + bias  # at: logits
        return -(F.log_softmax(logits, 1) * batch[2]).masked_fill(batch[1] == 0, 0).sum()

    mask = torch.tensor([[1.0, 1, 0, 1, 0]] * 4)
    for steps in (0, 1):  # the mask is known from a step before, or from the overflow behind it
        model: Any = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 5))
        rig = Rig(model, loss)
        assert [rig.run((torch.randn(4, 8), mask, mask / 3)) for _ in range(steps)] == [None] * steps
        with torch.no_grad():
            model[1].weight.fill_(3e38)
        incident = rig.fails((torch.randn(4, 8), mask, mask / 3))
        told = incident.stage, incident.cause, incident.op, incident.module, incident.source
        assert told == ("forward", "overflow", "aten::addmm", "1", line("logits", __file__))
        assert incident.evidence["tensor"] == "weights: 1.weight"
        if steps:
            assert "recorder.rewind(0)" in str(incident)
            assert rig.recorder.rewind(0)
        assert bool(steps) == bool((model[1].weight.abs() < 1).all())


def test_a_mask_that_was_met_in_good_steps_is_not_to_blame():
    """Nothing after it overflows; a target lies on a masked move this time."""

    def loss(model, batch):
        bias = torch.log(batch[1])
        score = F.log_softmax(model(batch[0]) + bias, 1)
        return -(score * batch[2]).masked_fill(batch[2] == 0, 0).sum()

    rig = Rig(nn.Linear(8, 5), loss)
    mask = torch.tensor([[1.0, 1, 0, 1, 0]] * 4)
    assert rig.run((torch.randn(4, 8), mask, mask / 3)) is None
    target = mask / 3
    target[2] = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0])
    incident = rig.fails((torch.randn(4, 8), mask, target))
    assert incident.cause != "log-of-zero", str(incident)


def test_lists_of_one_array_a_sample():
    def loss(m, b):
        logits = m(torch.tensor(np.array(b[0])).float())
        return -(torch.tensor(np.array(b[1])).float() * F.log_softmax(logits, 1)).sum()

    def batch():
        return [np.random.randn(36) for _ in range(32)], [np.full(36, 1 / 36) for _ in range(32)]

    rig = Rig(nn.Linear(36, 36), loss)
    assert rig.run(batch()) is None
    bad = batch()
    bad[1][7][:] = NAN
    incident = rig.fails(bad)
    assert (incident.cause, incident.rows) == ("batch-not-finite", [7])
    assert tried(incident) == ("without rows [7]", True)


def test_lists_of_numbers_are_rows_too():
    def loss(m, b):
        return (m(torch.tensor(np.array(b[0])).float()).squeeze(1) - torch.tensor(b[1])).square().mean()

    rig = Rig(nn.Linear(6, 1), loss)
    values = [0.5] * 32
    values[9] = NAN
    incident = rig.fails((tuple(np.random.randn(6) for _ in range(32)), values))
    assert (incident.cause, incident.rows) == ("batch-not-finite", [9])


def test_two_fields_of_one_shape_are_no_samples():
    rig = Rig(nn.Linear(6, 1), lambda m, b: (m(b[0]) - m(b[1])).square().mean())
    batch = [torch.randn(8, 6), torch.randn(8, 6)]
    batch[1][5, 2] = NAN
    assert rig.fails(batch).rows == [5]


class Store(MutableMapping[str, Any]):
    """As PyTorch Geometric keeps the fields of a graph."""

    _mapping: dict[str, Any]

    def __init__(self, fields):
        self.__dict__["_mapping"] = fields

    def __getitem__(self, name):
        return self._mapping[name]

    def __setitem__(self, name, value):
        self._mapping[name] = value

    def __delitem__(self, name):
        del self._mapping[name]

    def __iter__(self):
        return iter(self._mapping)

    def __len__(self):
        return len(self._mapping)


class Graph:
    """Callable, as PyTorch Geometric's Data is: `batch("x", "y")` gives fields."""

    def __init__(self, **fields):
        self.__dict__["_store"] = Store(fields)

    def __call__(self, *names):
        return [self._store[name] for name in names]

    def __getattr__(self, name):
        return self.__dict__["_store"][name]


class Bag:
    """A plain object that also knows itself."""

    def __init__(self, **fields):
        vars(self).update(fields, own=self)


def graph(**fields):
    return Graph(edges=torch.randint(0, 8, (2, 20)), **fields)


@pytest.mark.parametrize("make", [lambda x, y: collections.UserDict(x=x, y=y), lambda x, y: graph(x=x, y=y),
                                  lambda x, y: Bag(x=x, y=y)], ids=["UserDict", "callable", "object"])  # fmt: skip
def test_batches_of_other_classes_are_seen_and_repaired_and_restored(make):
    def loss(m, b):
        x = b["x"] if isinstance(b, collections.UserDict) else b.x
        return m(x).mul_(1.0).mean() if isinstance(b, collections.UserDict) else m(x).mean()

    rig = Rig(nn.Linear(4, 1), loss)
    assert rig.run(make(torch.randn(8, 4), torch.randn(8))) is None
    x = torch.randn(8, 4)
    x[3, 1] = NAN
    kept = x.clone()
    incident = rig.fails(make(x, torch.randn(8)))
    assert (incident.cause, incident.rows, incident.evidence["fields"]) == ("batch-not-finite", [3], ["x"])
    assert tried(incident) == ("without rows [3]", True)
    assert torch.equal(x.nan_to_num(7.0), kept.nan_to_num(7.0))


def test_a_repair_reaches_a_step_that_closes_over_its_batch():
    x = torch.randn(8, 4)
    rig = Rig(nn.Linear(4, 1), lambda m, _: m(x).mean())
    assert rig.run(x) is None
    x[3, 1] = NAN
    incident = rig.fails(x)
    assert (incident.cause, incident.rows, incident.module) == ("batch-not-finite", [3], "")
    assert tried(incident) == ("with other rows in place of rows [3]", True)
    assert math.isnan(x[3, 1])


def test_nothing_is_called_tried_where_the_step_reads_no_batch_at_all():
    """The batch holds a bad row, and so does what the step reads instead."""
    other = np.random.randn(8, 4)
    other[2, 2] = NAN
    rig = Rig(nn.Linear(4, 1), lambda m, _: m(torch.tensor(Box.held).float()).mean())

    class Box:
        held = other

    given = torch.randn(8, 4)
    given[5, 0] = NAN
    incident = rig.fails(given)
    assert incident.counterfactual is None or incident.counterfactual["finite"], str(incident)


def test_a_batch_that_the_step_takes_from_a_global_and_replaces():
    model = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    held = {"x": torch.randn(8, 4)}

    def step(_):
        optimizer.zero_grad()
        loss = model(held["x"]).mean()  # at: prefetch
        held["x"] = torch.randn(8, 4)
        loss.backward()
        optimizer.step()
        return loss

    recorder = FlightRecorder(model, optimizer)
    assert recorder.run(step, None) is None
    held["x"][3, 1] = NAN
    bad = held["x"]
    incident = recorder.run(step, None)
    assert incident is not None
    assert (incident.stage, incident.cause, incident.rows) == ("data", "batch-not-finite", [3]), str(incident)
    assert (incident.evidence["fields"], incident.source) == (["held['x']"], line("prefetch", __file__))
    assert held["x"] is not bad  # or the same batch would come again and again
    assert recorder.run(step, None) is None


# -- Python's values ---------------------------------------------------------------------------------------------------


def test_a_spike_in_a_rate_that_is_applied_by_hand():
    model, settings = nn.Linear(8, 8), {"lr": 0.01}

    def step(batch):
        model.zero_grad()
        loss = (model(batch) ** 2).mean()
        loss.backward()
        with torch.no_grad():
            for p in model.parameters():
                assert p.grad is not None
                p.sub_(settings["lr"] * p.grad)
        return loss

    recorder, incident = FlightRecorder(model, None), None
    for number in range(16):
        settings["lr"] = 1e30 if number == 12 else 0.01
        incident = incident or recorder.run(step, torch.randn(16, 8))
    assert incident is not None
    assert (incident.stage, incident.cause) == ("schedule", "python-value-spike"), str(incident)
    assert (incident.causal_step, incident.first_bad_step, incident.replay) == (12, 13, "bit-exact")
    assert tried(incident) == ("step 12 with settings['lr'] = 0.01", True)
    assert "recorder.rewind(12)" in incident.fix
    assert settings == {"lr": 0.01}


def test_a_spike_in_an_argument_of_a_lambda_that_is_another_one_each_step():
    model = nn.Linear(8, 8)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)

    def train(batch, beta):
        optimizer.zero_grad()
        loss = (model(batch) ** 2).mean() * beta
        loss.backward()
        optimizer.step()
        return loss

    recorder, incident = FlightRecorder(model, optimizer), None
    for number in range(16):
        beta = 1e30 if number == 12 else 1.0
        incident = incident or recorder.run(lambda b, beta=beta: train(b, beta), torch.randn(16, 8))
    assert incident is not None
    assert (incident.stage, incident.cause, incident.causal_step) == ("schedule", "python-value-spike", 12)
    assert tried(incident) == ("step 12 with beta = 1", True)


def test_a_number_that_is_nan_in_this_step_is_named():
    rig = Rig(nn.Linear(8, 8), lambda m, b: (m(b) ** 2).mean() * weight["of"])
    weight = {"of": 0.5}
    for _ in range(4):
        assert rig.run(torch.randn(4, 8)) is None
    weight["of"] = NAN
    incident = rig.fails(torch.randn(4, 8))
    assert incident.cause == "python-value-spike", str(incident)
    assert "weight['of'] was nan at step 4, usually 0.5" in incident.evidence["text"]


def test_a_batch_drawn_from_an_iterator_inside_of_the_step_is_no_fault_of_the_machine():
    bad = torch.randn(8, 4)
    bad[2, 2] = NAN
    drawn = iter([torch.randn(8, 4), bad, *(torch.randn(8, 4) for _ in range(9))])
    rig = Rig(nn.Linear(4, 1), lambda m, _: m(next(drawn)).mean())
    assert rig.run(None) is None
    incident = rig.fails(None)
    assert (incident.stage, incident.cause) == ("loss", "not-repeatable"), str(incident)
    assert any("drawn, an iterator" in note for note in incident.notes)
    assert "memory" not in incident.fix


def test_a_step_that_counts_itself_is_counted_once():
    calls = [0]

    def loss(m, b):
        calls[0] += 1
        return torch.log(m(b) * 0).mean()

    rig = Rig(nn.Linear(4, 1), loss)
    rig.fails(torch.randn(8, 4))
    assert calls == [1]


def test_an_object_that_keeps_its_own_method_is_read_too():
    class Trainer:
        def __init__(self) -> None:
            self.model, self.calls = nn.Linear(4, 1), 0
            self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
            self.call = self.step  # a ring

        def step(self, batch: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            self.optimizer.zero_grad()
            loss = torch.log(self.model(batch) * 0).mean()
            loss.backward()
            self.optimizer.step()
            return loss.detach()

    trainer = Trainer()
    incident = FlightRecorder(trainer.model, trainer.optimizer).run(trainer.call, torch.randn(8, 4))
    assert incident is not None
    assert incident.cause == "log-of-zero"
    assert trainer.calls == 1


def test_a_list_that_the_step_takes_from_is_as_it_was_in_every_run_and_one_that_it_adds_to_grows_once():
    left, losses = [3, 2, 1], []

    def loss(m, b):
        value = m(b).mean()
        losses.append(value.item())
        return value if left.pop(0) != 2 else value * NAN  # at: taken

    rig = Rig(nn.Linear(4, 1), loss)
    assert rig.run(torch.randn(8, 4)) is None
    incident = rig.fails(torch.randn(8, 4))
    assert (incident.cause, incident.replay, incident.source) == (
        "constant-not-finite",
        "bit-exact",
        line("taken", __file__),
    )
    assert (left, len(losses)) == ([1], 2)


def test_rows_of_a_softmax_over_nothing_among_rows_that_are_masked_in_part():
    def loss(m, b):
        return F.cross_entropy(m(b[0]).masked_fill(b[1], -INF), b[2])

    rig = Rig(nn.Linear(4, 5), loss)
    mask = torch.zeros(8, 5, dtype=torch.bool)
    mask[:, 3] = True
    target = torch.zeros(8, dtype=torch.long)
    assert rig.run((torch.randn(8, 4), mask, target)) is None
    mask[4] = True
    incident = rig.fails((torch.randn(8, 4), mask, target))
    assert (incident.cause, incident.rows) == ("softmax-of-nothing", [4])
    assert tried(incident) == ("without rows [4]", True)
