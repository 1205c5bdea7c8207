"""What the recorder says of small faults in loops of other people: each with its right answer."""

from __future__ import annotations

import collections
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from az.train.health import FlightRecorder, Incident

torch.set_num_threads(1)
NAN, INF = math.nan, math.inf
F = torch.nn.functional


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
    np.random.seed(0)


def line(name: str) -> str:
    """file:line of the line that ends in `# at: name`."""
    with open(__file__, encoding="utf-8") as file:
        numbers = [i for i, text in enumerate(file, 1) if text.rstrip().endswith(f"# at: {name}")]
    assert len(numbers) == 1, name
    return f"{__file__}:{numbers[0]}"


class Rig:
    """A loop around one loss, and how often its step has run."""

    def __init__(self, model: nn.Module, loss_of: Any, optimizer: Any = None, **options: Any):
        self.model = model
        self.optimizer = optimizer or torch.optim.SGD(model.parameters(), 0.01)
        self.loss_of = loss_of
        self.recorder = FlightRecorder(model, self.optimizer, **options)

    def step(self, batch: Any) -> Any:
        self.optimizer.zero_grad()
        loss = self.loss_of(self.model, batch)
        loss.backward()
        self.optimizer.step()
        return loss

    def run(self, batch: Any) -> Incident | None:
        return self.recorder.run(self.step, batch)

    def fails(self, batch: Any) -> Incident:
        """The incident; the state must be that of before, to the bit."""
        before = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        incident = self.run(batch)
        assert incident is not None
        assert all(torch.equal(tensor, before[name]) or torch.isnan(before[name]).any()
                   for name, tensor in self.model.state_dict().items())  # fmt: skip
        return incident


def tried(incident: Incident) -> tuple[str, bool] | None:
    found = incident.counterfactual
    return None if found is None else (found["repair"], found["finite"])


# -- what a step reads ------------------------------------------------------------------------------------------------


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
        model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 5))
        rig = Rig(model, loss)
        assert [rig.run((torch.randn(4, 8), mask, mask / 3)) for _ in range(steps)] == [None] * steps
        with torch.no_grad():
            model[1].weight.fill_(3e38)
        incident = rig.fails((torch.randn(4, 8), mask, mask / 3))
        told = incident.stage, incident.cause, incident.op, incident.module, incident.source
        assert told == ("forward", "overflow", "aten::addmm", "1", line("logits"))
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


class Store(collections.abc.MutableMapping):
    """As PyTorch Geometric keeps the fields of a graph."""

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
    assert (incident.evidence["fields"], incident.source) == (["held['x']"], line("prefetch"))
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


# -- causes and repairs ------------------------------------------------------------------------------------------------


def test_an_exponential_whose_mean_overflows_stays_finite_when_it_is_clamped():
    rig = Rig(nn.Linear(8, 8), lambda m, b: torch.exp(m(b) * 1e3).mean())
    incident = rig.fails(torch.randn(16, 8) * 3)
    assert (incident.cause, incident.op, incident.stage) == ("exp-overflow", "aten::exp", "loss")
    assert tried(incident) == ("the exponent stays below half of what overflows", True)


def test_a_sum_of_exponentials_that_overflows_although_each_is_finite():
    rig = Rig(nn.Linear(4, 64), lambda m, b: (m(b) * 0 + 88.5).exp().sum(1).log().mean())
    incident = rig.fails(torch.randn(8, 4))
    assert (incident.cause, incident.op) == ("exp-overflow", "aten::sum")
    assert tried(incident) == ("the exponent stays below half of what overflows", True)


def test_a_ratio_that_the_minimum_chooses_away():
    def loss(m, b):
        x, gain, old = b
        ratio = torch.exp(m(x).squeeze(1) - old)  # at: ratio
        return -torch.min(ratio * gain, ratio.clamp(0.8, 1.2) * gain).mean()

    rig = Rig(nn.Linear(4, 1), loss)
    old = torch.zeros(8)
    assert rig.run((torch.randn(8, 4), torch.ones(8), old)) is None
    old[3] = -200.0
    incident = rig.fails((torch.randn(8, 4), torch.ones(8), old))
    assert (incident.stage, incident.cause, incident.op) == ("backward", "exp-overflow", "ExpBackward0")
    assert (incident.rows, incident.source, incident.module) == ([3], line("ratio"), None)
    assert "Clamp the exponent" in incident.fix
    assert incident.counterfactual is not None
    assert incident.counterfactual["finite"]


def test_one_minus_a_mask_times_minus_infinity():
    mask = (1 - torch.ones(4, 4).tril()).mean(0)
    rig = Rig(nn.Linear(4, 4), lambda m, b: F.softmax(m(b) + mask * -INF, 1).pow(2).sum())
    incident = rig.fails(torch.randn(8, 4))
    assert (incident.cause, incident.op) == ("inf-times-zero", "aten::mul")
    assert "masked_fill" in incident.fix
    assert tried(incident) == ("an infinite factor becomes 0", True)


def test_a_variance_that_overflows_in_batch_norm():
    rig = Rig(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), lambda m, b: m(b).square().mean())
    assert rig.run(torch.randn(8, 4)) is None
    with torch.no_grad():
        rig.model[0].weight.mul_(1e21)
    incident = rig.fails(torch.randn(8, 4))
    assert (incident.stage, incident.cause, incident.module) == ("forward", "variance-overflow", "1")
    assert incident.evidence["tensor"] == "buffers: 1.running_var"
    assert "averages" not in incident.fix
    assert "recorder.rewind(0)" in incident.fix


@pytest.mark.parametrize("returned", [True, False])
def test_a_batch_without_a_label_that_counts(returned):
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def step(batch):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(batch[0]), batch[1])  # at: labels
        loss.backward()
        optimizer.step()
        return loss if returned else None

    recorder = FlightRecorder(model, optimizer)
    assert recorder.run(step, (torch.randn(8, 4), torch.zeros(8, dtype=torch.long))) is None
    incident = recorder.run(step, (torch.randn(8, 4), torch.full((8,), -100)))
    assert incident is not None
    assert (incident.stage, incident.cause, incident.op) == ("loss", "statistics-of-too-few", "aten::nll_loss_forward")
    assert (incident.source, incident.rows, incident.counterfactual) == (line("labels"), [], None)
    assert "ignore_index" in incident.fix


def test_an_image_without_a_pixel_that_counts():
    rig = Rig(nn.Conv2d(3, 4, 1), lambda m, b: F.cross_entropy(m(b[0]), b[1]))
    incident = rig.fails((torch.randn(2, 3, 4, 4), torch.full((2, 4, 4), -100)))
    assert (incident.cause, incident.op) == ("statistics-of-too-few", "aten::nll_loss2d_forward")
    assert "ignore_index" in incident.fix


def test_ctc_without_an_alignment():
    def loss(m, b):
        scores = m(b[0]).log_softmax(-1).transpose(0, 1)
        return F.ctc_loss(scores, b[1], torch.full((6,), 7), b[2])

    rig = Rig(nn.Linear(4, 5), loss)
    targets, lengths = torch.randint(1, 5, (6, 10)), torch.full((6,), 3)
    assert rig.run((torch.randn(6, 7, 4), targets, lengths)) is None
    lengths[2] = 9
    incident = rig.fails((torch.randn(6, 7, 4), targets, lengths))
    assert (incident.cause, incident.rows) == ("no-alignment", [2])
    assert tried(incident) == ("the CTC loss with zero_infinity", True)


@pytest.mark.parametrize(("make", "rate"), [(torch.optim.SGD, 200.0), (torch.optim.Adam, 1e6)])
def test_a_rate_that_is_too_high(make, rate):
    model = nn.Linear(8, 1) if make is torch.optim.SGD else nn.Sequential(
        nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1)
    )  # fmt: skip
    rig, incident = Rig(model, lambda m, b: (m(b) ** 2).mean(), make(model.parameters(), rate)), None
    for _ in range(40):
        incident = incident or rig.run(torch.randn(16, 8))
    assert incident is not None
    assert (incident.stage, incident.cause) == ("schedule", "diverged"), str(incident)
    assert "learning rate" in incident.fix
    assert "clip" in incident.fix
    assert incident.counterfactual is not None
    assert incident.counterfactual["finite"]
    assert rig.recorder.rewind(incident.evidence["rewind"])
    assert all(p.abs().max() < 1 for p in model.parameters())


# -- the state, and who owns it ----------------------------------------------------------------------------------------


def test_a_state_that_is_bad_already_says_how_to_get_out():
    rig = Rig(nn.Linear(4, 1), lambda m, b: m(b).mean())
    for _ in range(5):
        assert rig.run(torch.randn(8, 4)) is None
    with torch.no_grad():
        rig.model.weight[0, 1] = INF
    for number in (5, 6, 7):  # a loop that goes on whatever is said
        incident = rig.run(torch.randn(8, 4))
        assert incident is not None
        assert (incident.first_bad_step, incident.cause) == (number, "changed-outside-the-step")
        assert incident.evidence["tensor"] == "weights: weight"
        assert incident.module == ""
        assert "bad already: recorder.rewind(4)" in str(incident)
        assert "recorder.rewind(4)" in incident.fix
    assert rig.recorder.rewind(4)
    assert torch.isfinite(rig.model.weight).all()
    assert rig.run(torch.randn(8, 4)) is None


def test_a_second_model_is_named_with_its_tensor():
    first, second = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8)), nn.Linear(8, 1)
    recorder = FlightRecorder(second, None, extra_state=[first])

    def step(batch):
        loss = second(first(batch)).mean()  # at: second
        loss.backward()
        return loss

    with torch.no_grad():
        first[1].weight.fill_(3e38)
    incident = recorder.run(step, torch.randn(16, 4))
    assert incident is not None
    told = incident.stage, incident.cause, incident.phase, incident.op, incident.module, incident.source
    assert told == ("forward", "overflow", "forward", "aten::addmm", "also0.1", line("second"))
    assert incident.evidence["tensor"] == "also: also0.1.weight"


def test_the_optimizer_of_a_second_model_is_named_with_its_tensor():
    first, second, factor = nn.Linear(4, 8), nn.Linear(8, 1), [1.0]
    optimizers = [torch.optim.Adam(model.parameters()) for model in (second, first)]
    recorder = FlightRecorder(second, optimizers, extra_state=[first])

    def step(batch):
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss = second(first(batch)).mean()
        loss.backward()
        assert first.weight.grad is not None
        first.weight.grad.mul_(factor[0])
        for optimizer in optimizers:
            optimizer.step()

    assert recorder.run(step, torch.randn(16, 4)) is None
    factor[0] = 1e25
    incident = recorder.run(step, torch.randn(16, 4))
    assert incident is not None
    assert (incident.cause, incident.module) == ("second-moment-overflow", "also0"), str(incident)
    assert incident.evidence["tensor"] == "optimizer: exp_avg_sq/also0.weight"


def poison(gradient):
    return gradient.index_fill(0, torch.tensor([1]), NAN)  # at: poison


def test_a_gradient_that_a_hook_poisons():
    rig = Rig(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), lambda m, b: m(b).sum())
    rig.model[0].weight.register_hook(poison)
    incident = rig.fails(torch.randn(8, 4))
    assert (incident.stage, incident.cause, incident.module) == ("backward", "constant-not-finite", "0")
    assert (incident.evidence["tensor"], incident.source) == ("gradients: 0.weight", line("poison"))


def test_a_gradient_that_is_poisoned_in_place_behind_backward():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))

    def step(batch):
        model.zero_grad()
        loss = model(batch).sum()
        loss.backward()
        model[1].bias.grad.index_fill_(0, torch.tensor([1]), NAN)
        return loss

    incident = FlightRecorder(model, None).run(step, torch.randn(8, 4))
    assert incident is not None
    assert (incident.op, incident.module) == ("aten::index_fill_", "1")
    assert incident.evidence["tensor"] == "gradients: 1.bias"


class OwnVariance(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.register_buffer("average", torch.ones(3))

    def forward(self, x):
        h = self.layer(x)
        self.average.mul_(0.9).add_(0.1 * h.detach().var(0))  # at: variance
        return h


def test_a_running_variance_of_the_module_s_own_meets_one_row():
    rig = Rig(nn.Sequential(nn.Linear(4, 4), OwnVariance()), lambda m, b: m(b).sum())
    assert rig.run(torch.randn(8, 4)) is None
    incident = rig.fails(torch.randn(1, 4))
    assert (incident.cause, incident.module, incident.source) == ("statistics-of-too-few", "1", line("variance"))
    assert incident.evidence["tensor"] == "buffers: 1.average"


class Checkpointed(nn.Module):
    def __init__(self, reentrant, bad):
        super().__init__()
        self.layer, self.reentrant, self.bad = nn.Linear(4, 4), reentrant, bad

    def forward(self, x):
        return torch.utils.checkpoint.checkpoint(self.inside, x, use_reentrant=self.reentrant)

    def inside(self, x):
        h = self.layer(x) * 0
        return torch.log(h - 1) if self.bad == "forward" else h.abs().sqrt()  # at: checkpointed


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("bad", ["forward", "backward"])
def test_gradient_checkpointing(reentrant, bad):
    rig = Rig(nn.Sequential(nn.Linear(4, 4), Checkpointed(reentrant, bad)), lambda m, b: m(b).sum())
    incident = rig.fails(torch.randn(8, 4))
    cause = "log-of-negative" if bad == "forward" else "gradient-at-singularity"
    assert (incident.stage, incident.cause, incident.module) == (bad, cause, "1"), str(incident)
    assert incident.source == line("checkpointed")
    assert incident.counterfactual is None or incident.counterfactual["finite"]


def test_the_line_is_the_user_s_and_not_a_library_s(tmp_path, monkeypatch):
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "library_of_losses.py").write_text("def loss(x):\n    return x.log().mean()\n", "utf-8")
    monkeypatch.syspath_prepend(folder)
    import library_of_losses  # pyright: ignore[reportMissingImports]

    rig = Rig(nn.Linear(4, 1), lambda m, b: library_of_losses.loss(m(b) * 0))  # at: library
    incident = rig.fails(torch.randn(8, 4))
    assert (incident.cause, incident.source) == ("log-of-zero", line("library"))
