"""The recorder is never worse than nothing: whatever goes wrong in it, state and errors are the loop's own."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import warnings
from typing import Any

import pytest
import torch
from torch import nn

from az.train.health import FlightRecorder, diagnosis, recorder

torch.set_num_threads(1)
NAN = math.nan
F = torch.nn.functional


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def looped(model: nn.Module, loss_of: Any, optimizer: Any = None, **options: Any) -> tuple[FlightRecorder, Any]:
    optimizer = optimizer or torch.optim.SGD(model.parameters(), 0.01)

    def step(batch):
        optimizer.zero_grad()
        loss = loss_of(model, batch)
        loss.backward()
        optimizer.step()
        return loss

    return FlightRecorder(model, optimizer, **options), step


def wrong(*_: Any) -> Any:
    """A mistake of the user's."""
    return [][3]


def broken(*_: Any, **__: Any) -> Any:
    raise AttributeError("of the diagnosis")


PARTS = ["find_birth", "classify", "guilty_tensor", "from_data", "from_earlier", "for_operation", "name_rewind"]


@pytest.mark.parametrize("part", PARTS)
def test_an_error_of_the_diagnosis_is_told_in_the_incident(monkeypatch, part):
    model = nn.Linear(4, 1)
    recorder_, step = looped(model, lambda m, b: torch.log(m(b) * 0).mean(), torch.optim.Adam(model.parameters()))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    monkeypatch.setattr(diagnosis, part, broken)
    incident = recorder_.run(step, torch.randn(8, 4))
    assert incident is not None
    assert incident.cause == "not-explained"
    assert "detected, not explained" in str(incident)
    assert any("AttributeError: of the diagnosis" in note for note in incident.notes)
    assert incident.counterfactual is None
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not recorder_.session.optimizers[0].state
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    monkeypatch.undo()
    again = recorder_.run(step, torch.randn(8, 4))
    assert again is not None
    assert again.cause == "log-of-zero"


@pytest.mark.parametrize("name", ["legal_overflow", "explained"])
def test_a_signal_during_the_diagnosis_leaves_the_state_of_before(monkeypatch, name):
    def stopped(*_):
        raise KeyboardInterrupt

    model = nn.Linear(4, 1)
    recorder_, step = looped(model, lambda m, b: torch.log(m(b) * 0).mean())
    kept = model.weight.detach().clone()
    monkeypatch.setattr(recorder, name, stopped)
    if name == "legal_overflow":
        monkeypatch.setattr(recorder_.session, "scalers", [object()])
        monkeypatch.setattr(recorder_.session, "look", lambda *_: _Seen())
    with pytest.raises(KeyboardInterrupt):
        recorder_.run(step, torch.randn(8, 4))
    assert torch.equal(model.weight, kept)


class _Seen:
    harm = {"gradients"}  # noqa: RUF012
    loss, update, weights = None, 0.0, 0.0


OPTIMIZER: Any = torch.optim.Optimizer  # these are none that its types describe


class Inert(OPTIMIZER):
    """Hands everything on, and was never initialized as an optimizer."""

    def __init__(self, inner):
        self.inner, self.steps = inner, 0

    state = property(lambda self: self.inner.state)
    param_groups = property(lambda self: self.inner.param_groups)

    def step(self, closure=None):
        self.steps += 1
        return self.inner.step(closure)

    def zero_grad(self, set_to_none=True):
        self.inner.zero_grad(set_to_none)


class Lookahead(OPTIMIZER):
    """Slow weights of its own, and a step that is no hooked one."""

    def __init__(self, inner):
        self.inner, self.param_groups, self.state, self.defaults = inner, inner.param_groups, {}, {}
        self.slow = [p.detach().clone() for group in inner.param_groups for p in group["params"]]

    def step(self, closure=None):
        self.inner.step(closure)
        for slow, p in zip(self.slow, (p for group in self.param_groups for p in group["params"]), strict=True):
            slow.lerp_(p.detach(), 0.5)

    def zero_grad(self, set_to_none=True):
        self.inner.zero_grad(set_to_none)


class Own(OPTIMIZER):
    """Wraps nothing, and was never initialized either."""

    def __init__(self, parameters):
        self.param_groups, self.state, self.defaults = [{"params": list(parameters), "lr": 0.1}], {}, {}

    def step(self, closure=None):  # noqa: ARG002
        for p in self.param_groups[0]["params"]:
            p.data.sub_(self.param_groups[0]["lr"] * p.grad)

    def zero_grad(self, set_to_none=True):  # noqa: ARG002
        for p in self.param_groups[0]["params"]:
            p.grad = None


def adam(parameters):
    return torch.optim.Adam(parameters)


@pytest.mark.parametrize("wrap", [lambda p: Inert(adam(p)), lambda p: Inert(Inert(adam(p))),
                                  lambda p: Lookahead(adam(p)), Own])  # fmt: skip
def test_optimizers_that_wrap_others(wrap):
    model = nn.Linear(4, 1)
    optimizer = wrap(model.parameters())
    recorder_, step = looped(model, lambda m, b: (m(b[0]).squeeze(1) * b[1]).mean(), optimizer)
    for _ in range(3):
        assert recorder_.run(step, (torch.randn(8, 4), torch.ones(8))) is None
    kept = [p.detach().clone() for p in model.parameters()]
    moments = {id(p): values["exp_avg"].clone() for one in recorder_.session.optimizers
               for p, values in one.state.items()}  # fmt: skip
    slow = [tensor.clone() for tensor in getattr(optimizer, "slow", [])]
    for spoiled, cause in (
        (torch.full((8,), 1e30), "second-moment-overflow"),
        (torch.full((8,), NAN), "batch-not-finite"),
    ):
        if cause == "second-moment-overflow" and not moments:
            continue
        incident = recorder_.run(step, (torch.randn(8, 4), spoiled))
        assert incident is not None
        assert incident.cause in (cause, "batch-value-out-of-range"), str(incident)
        assert all(torch.equal(p, old) for p, old in zip(model.parameters(), kept, strict=True))
        assert all(torch.equal(one, old) for one, old in zip(getattr(optimizer, "slow", []), slow, strict=True))
        for one in recorder_.session.optimizers:
            assert all(torch.equal(values["exp_avg"], moments[id(p)]) for p, values in one.state.items())
    assert "step" not in vars(optimizer)
    if isinstance(optimizer, Inert):
        assert optimizer.steps == 3  # an attribute of the wrapper's own came back too
    assert recorder_.run(step, (torch.randn(8, 4), torch.ones(8))) is None


def test_an_optimizer_that_the_recorder_was_not_given_is_named():
    """Its moments keep the NaN of the failed step: no repair is called useless because of that."""
    model = nn.Linear(4, 1)
    _, step = looped(model, lambda m, b: torch.log(m(b) * 0).mean(), adam(model.parameters()))
    incident = FlightRecorder(model, None).run(step, torch.randn(8, 4))
    assert incident is not None
    assert (incident.cause, incident.counterfactual) == ("log-of-zero", None)
    assert "the recorder was not given optimizer, an optimizer of the step: it is not restored" in incident.notes


@pytest.mark.parametrize("wrap", [adam, lambda p: Inert(adam(p)), Own])
def test_an_error_of_the_user_s_own_is_never_masked(wrap):
    model = nn.Linear(4, 1)
    recorder_, step = looped(model, wrong, wrap(model.parameters()))
    with pytest.raises(IndexError, match="list index out of range"):
        recorder_.run(step, torch.randn(8, 4))


@pytest.mark.parametrize("part", ["diagnose", "OpTrace"])
def test_nor_when_the_diagnosis_fails_as_well(monkeypatch, part):
    from az.train.health import replay

    recorder_, step = looped(nn.Linear(4, 1), wrong)
    monkeypatch.setattr(diagnosis if part == "diagnose" else replay, part, broken)
    with pytest.raises(IndexError, match="list index out of range"):
        recorder_.run(step, torch.randn(8, 4))


# -- layouts of a batch ------------------------------------------------------------------------------------------------


def parts(layout):
    return torch.nested.nested_tensor([torch.randn(2, 3), torch.randn(4, 3)], layout=layout)


LAYOUTS = {
    "coo": (lambda: torch.eye(3).to_sparse(), lambda m, b: torch.sparse.mm(b, m.weight.T).sum()),
    "csr": (lambda: torch.eye(3).to_sparse_csr(), lambda m, b: (b @ m.weight.T).sum()),
    "csc": (lambda: torch.eye(3).to_sparse_csc(), lambda m, b: m(b.to_dense()).sum()),
    "bsr": (lambda: torch.eye(4).to_sparse_bsr((2, 2)), lambda m, b: m(b.to_dense()[:, :3]).sum()),
    "nested": (lambda: parts(torch.strided), lambda m, b: m(torch.nested.to_padded_tensor(b, 0.0)).mean()),
    "jagged": (lambda: parts(torch.jagged), lambda m, b: m(b).values().mean()),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch calls these layouts a prototype
@pytest.mark.parametrize("depth", [None, 8])
@pytest.mark.parametrize("kind", LAYOUTS)
def test_sparse_and_nested_tensors_are_kept_like_any_other(kind, depth):
    make, loss = LAYOUTS[kind]
    recorder_, step = looped(nn.Linear(3, 3), loss, depth=depth)
    assert [recorder_.run(step, {"graph": make(), "y": 1}["graph"]) for _ in range(12)] == [None] * 12
    bad = make()
    values = bad._values() if kind == "coo" else bad.values()
    with torch.no_grad():
        values.view(-1)[1] = NAN
    kept = values.detach().clone()
    incident = recorder_.run(step, bad)
    assert incident is not None
    assert (incident.cause, incident.evidence["fields"]) == ("batch-not-finite", ["batch.values"]), str(incident)
    assert torch.equal(values.nan_to_num(7.0), kept.nan_to_num(7.0))
    assert recorder_.run(step, make()) is None


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_step_that_writes_its_sparse_batch_is_undone():
    model = nn.Linear(3, 3)
    recorder_, _ = looped(model, None)
    batch = torch.eye(3).to_sparse()

    def step(given):
        with torch.no_grad():
            given._values().mul_(5.0)
            model.weight.fill_(NAN)

    assert recorder_.run(step, batch) is not None
    assert torch.equal(batch.to_dense(), torch.eye(3))


OPAQUE = {
    "torch._mkldnn": (lambda: torch.randn(3, 3).to_mkldnn(), lambda m, b: m(b["x"].to_dense()).sum()),
    "quantized": (
        lambda: torch.quantize_per_tensor(torch.randn(3, 3), 0.1, 0, torch.qint8),
        lambda m, b: m(b["x"].dequantize()).sum(),
    ),
}


@pytest.mark.parametrize("kind", OPAQUE)
def test_what_cannot_be_kept_is_said_once_and_left_alone(kind):
    make, loss = OPAQUE[kind]
    recorder_, step = looped(nn.Linear(3, 3), loss)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(3):
            assert recorder_.run(step, {"x": make()}) is None
    mine = [str(one.message) for one in told if "the recorder" in str(one.message)]
    assert mine == [f"the recorder can neither restore nor check, and leaves alone: x ({kind})"]
    incident = recorder_.run(lambda b: step(b) * NAN, {"x": make()})
    assert incident is not None


def test_a_sparse_buffer_is_said_and_left_alone():
    model = nn.Linear(3, 3)
    model.register_buffer("table", torch.eye(3).to_sparse())
    recorder_, step = looped(model, lambda m, b: torch.sparse.mm(m.table, m(b)).sum())
    with pytest.warns(UserWarning, match=r"leaves alone: table \(torch.sparse_coo\)"):
        assert recorder_.run(step, torch.randn(3, 3)) is None
    incident = recorder_.run(step, torch.full((3, 3), NAN))
    assert incident is not None
    assert incident.cause == "batch-not-finite"


# -- compiled code, and ranks ------------------------------------------------------------------------------------------


def test_a_nan_that_only_compiled_code_makes_is_told_as_that():
    spoils = [False]

    def backend(module, _):
        return lambda *given: tuple(out * NAN if spoils[0] else out for out in module(*given))

    torch._dynamo.reset()
    model = nn.Linear(4, 1)
    compiled = torch.compile(model, backend=backend)
    recorder_, step = looped(model, lambda _, b: compiled(b).mean())
    assert recorder_.run(step, torch.randn(8, 4)) is None
    spoils[0] = True
    incident = recorder_.run(step, torch.randn(8, 4))
    assert incident is not None
    assert (incident.cause, incident.replay, incident.stage) == ("compiled-code-only", "bit-exact", "loss")
    assert incident.counterfactual == {"repair": "the step without compilation", "finite": True}
    spoils[0] = False
    incident = recorder_.run(step, torch.full((8, 4), NAN))
    assert incident is not None
    assert (incident.cause, incident.replay) == ("batch-not-finite", "bit-exact"), str(incident)
    assert recorder_.run(step, torch.randn(8, 4)) is None
    torch._dynamo.reset()


RANKS = """
import os, sys, torch, torch.distributed as dist
from torch import nn
from az.train.health import FlightRecorder
torch.set_num_threads(1)
rank, address, harmed = int(sys.argv[1]), sys.argv[2], sys.argv[3]
dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
torch.manual_seed(0)
model = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)))
optimizer = torch.optim.Adam(model.parameters())
recorder = FlightRecorder(model, optimizer)
def step(batch):
    optimizer.zero_grad()
    loss = model(batch).square().mean()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss
torch.manual_seed(rank)
for number in range(12):
    batch = torch.randn(8, 4)
    if number == 5 and harmed in (str(rank), "both"):
        batch[3, 1] = float("nan")
    incident = recorder.run(step, batch)
    if incident is not None:
        print("incident", number, incident.stage, incident.cause, incident.rows, incident.replay)
weights = torch.cat([p.detach().flatten() for p in model.parameters()])
others = [torch.zeros_like(weights) for _ in range(2)]
dist.all_gather(others, weights)
print("equal", bool(torch.equal(*others)), bool(torch.isfinite(weights).all()))
sys.stdout.flush()
dist.barrier()
os._exit(0)  # an interpreter that ended by itself was aborted in one run: "terminate called without …"
"""


@pytest.mark.parametrize("harmed", ["0", "both"])
def test_two_ranks_replay_alone_and_stay_equal(tmp_path, harmed):
    address = f"file://{tmp_path}/meeting"
    ranks = [
        subprocess.Popen([sys.executable, "-c", RANKS, str(rank), address, harmed], stdout=subprocess.PIPE, text=True,
                         stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})
        for rank in range(2)
    ]  # fmt: skip
    told = []
    for rank in ranks:
        out, errors = rank.communicate(timeout=240)
        assert rank.returncode == 0, errors[-2000:]
        told.append(out.splitlines())
    own = "incident 5 data batch-not-finite [3] this rank alone"
    other = "incident 5 loss from-another-rank [] not reproducible"
    expected = [own, own] if harmed == "both" else [own, other]
    for lines, first in zip(told, expected, strict=True):
        assert lines[0].replace("backward", "loss") == first, told
        assert lines[1:] == ["equal True True"], told
