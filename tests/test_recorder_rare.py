"""Rare things that a model, an optimizer or their memory may be: no hang, no crash, and everything comes back."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from az.train.health import FlightRecorder, use_numba
from az.train.health.state import jit
from az.train.health.state.flat_tensors import Held, Layout


def spoiled(model, optimizer=None, also=(), bad=lambda: None):
    """Whether a step that spoils the first weight after `bad` is found to be faulty, one good step before it."""
    recorder = FlightRecorder(model, optimizer, extra_state=also)
    assert recorder.run(lambda _: None, None) is None

    def step(_):
        with torch.no_grad():
            bad()
            next(model.parameters()).fill_(math.nan)

    return recorder.run(step, None) is not None


def test_a_parameter_that_only_the_optimizer_knows_is_seen_and_comes_back():
    model, alone = nn.Linear(3, 3), nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = torch.optim.SGD([*model.parameters(), alone], lr=0.1)
    assert spoiled(model, optimizer, bad=lambda: alone.add_(1.0))
    assert alone.tolist() == [1.0, 2.0]
    recorder = FlightRecorder(model, optimizer)
    with torch.no_grad():
        incident = recorder.run(lambda _: alone.fill_(math.nan) and None, None)
    assert incident is not None
    assert alone.tolist() == [1.0, 2.0]


def test_one_number_seen_many_times_comes_back():
    model = nn.Linear(3, 3)
    model.register_buffer("wide", torch.tensor([[2.0], [3.0]]).expand(2, 5))
    assert spoiled(model, bad=lambda: model.get_buffer("wide")[:, :1].mul_(7.0))
    assert torch.equal(model.get_buffer("wide"), torch.tensor([[2.0] * 5, [3.0] * 5]))
    assert model.get_buffer("wide").stride() == (1, 0)


def test_conjugates_are_read_and_come_back():
    model = nn.Linear(3, 3)
    model.register_buffer("turned", torch.tensor([1 + 2j, 3 - 1j]).conj())
    kept = model.get_buffer("turned").clone()
    assert spoiled(model, bad=lambda: model.get_buffer("turned").mul_(math.nan))
    assert torch.equal(model.get_buffer("turned"), kept)


class Working(torch.optim.SGD):
    """Its state is worked out when it is asked for: other tensors every time."""

    @property
    def state(self):
        return {p: {"age": torch.zeros(1)} for group in self.param_groups for p in group["params"]}

    @state.setter
    def state(self, _):  # pyright: ignore[reportIncompatibleVariableOverride]
        pass


def test_what_is_never_twice_the_same_does_not_keep_the_step_waiting():
    model = nn.Linear(3, 3)
    kept = model.weight.detach().clone()
    assert spoiled(model, Working(model.parameters(), lr=0.1))
    assert torch.equal(model.weight, kept)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_views_of_memory_that_was_given_away_are_no_crash(dtype):
    flat = torch.arange(1000.0, dtype=dtype)
    model = nn.Module()
    model.first, model.second = nn.Parameter(flat[:500]), nn.Parameter(flat[500:])
    recorder = FlightRecorder(model, None)
    assert recorder.run(lambda _: None, None) is None
    with pytest.raises(RuntimeError, match="has lost its memory"):
        recorder.run(lambda _: flat.untyped_storage().resize_(0) and None, None)
    assert torch.equal(torch.cat([model.first, model.second]), torch.arange(1000.0, dtype=dtype))


def test_gradients_without_memory_are_left_alone():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3, device="meta"))
    model[1](torch.ones(1, 3, device="meta")).sum().backward()
    kept = model[1].weight.grad
    assert spoiled(model)
    assert model[1].weight.grad is kept


@pytest.mark.parametrize("what", ["also", "batch"])
def test_memory_of_a_batch_or_of_also_given_away_is_no_crash_and_comes_back(what):
    model, tensor = nn.Linear(3, 3), torch.arange(40.0)
    batch, also = (tensor, []) if what == "batch" else (None, [{"tensor": tensor}])
    recorder = FlightRecorder(model, None, extra_state=also)
    assert recorder.run(lambda _: None, batch) is None
    with pytest.raises(RuntimeError, match="has lost its memory"):
        recorder.run(lambda _: tensor.untyped_storage().resize_(0) and None, batch)
    assert torch.equal(tensor, torch.arange(40.0))


def turn_sign(tensor):
    tensor.data = torch._neg_view(tensor.data)  # pyright: ignore[reportPrivateImportUsage]


def to_half(tensor):
    tensor.data = tensor.data.view(torch.float16)[: tensor.numel()].view(tensor.shape)


@pytest.mark.parametrize("change", [turn_sign, to_half])
def test_another_reading_of_the_same_memory_is_seen(change):
    """Address and shape are those of before."""
    model = nn.Linear(3, 3)
    model.register_buffer("buffer", torch.arange(8.0))
    recorder = FlightRecorder(model, None)
    assert recorder.run(lambda _: None, None) is None
    change(model.get_buffer("buffer"))
    kept = model.get_buffer("buffer").clone()

    def bad(_):
        with torch.no_grad():
            model.get_buffer("buffer").fill_(math.nan)

    assert recorder.run(bad, None) is not None
    assert model.get_buffer("buffer").dtype == kept.dtype
    assert torch.equal(model.get_buffer("buffer"), kept)


def test_a_tensor_that_became_one_number_is_not_in_place():
    tensor = torch.arange(8.0)
    layout = Layout([Held("buffers", "buffer", tensor)])
    assert layout.is_in_place()
    tensor.data = tensor.data[:1].expand(8)
    assert not layout.is_in_place()


@pytest.mark.parametrize("wanted", [False, True])
def test_memory_of_another_is_never_read_before_it_is_known_to_be_needed(monkeypatch, wanted: bool):
    monkeypatch.setattr(jit, "_is_on", False)
    assert not wanted or use_numba() is not jit.JIT_OFF
    borrowed = torch.from_numpy(np.ones(8, np.float32))
    assert Layout([Held("buffers", "buffer", borrowed)]).is_in_place() is not jit.compiled()
    model = nn.Linear(3, 3)
    model.register_buffer("borrowed", borrowed)
    assert spoiled(model, bad=lambda: borrowed.fill_(7.0))
    assert borrowed.tolist() == [1.0] * 8


DIGEST = """
import torch
from torch import nn
from az.train.health.state.snapshot import Snapshotter
kinds = torch.bfloat16, torch.float64, torch.float16, torch.float32
model = nn.Sequential(*(nn.Linear(2, 2).to(kind) for kind in kinds))
for number, p in enumerate(model.parameters()):
    p.data.fill_(number)
    p.grad = torch.full_like(p, 10 + number)
print(Snapshotter(model, [], []).take(None).digest())
"""


def test_the_digest_of_one_state_is_the_same_in_every_process():
    told = {subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True).stdout
            for _ in range(5)}  # fmt: skip
    assert len(told) == 1


def test_a_sparse_gradient_of_other_dimensions_comes_back():
    model = nn.Embedding(5, 3, sparse=True)
    kept = model.weight.grad = torch.ones(5, 3).to_sparse()

    def bad():
        with torch.enable_grad():
            model.zero_grad(set_to_none=False)
            model(torch.tensor([1])).sum().backward()

    assert spoiled(model, bad=bad)
    assert model.weight.grad is kept
    assert torch.equal(kept.to_dense(), torch.ones(5, 3))


def test_a_sparse_tensor_of_also_comes_back():
    model, table = nn.Linear(3, 3), torch.eye(4).to_sparse()
    assert spoiled(model, also=[{"table": table}], bad=lambda: table.mul_(5.0))
    assert torch.equal(table.to_dense(), torch.eye(4))


def test_a_bad_number_in_memory_that_was_swapped_is_seen_at_once():
    model = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    recorder = FlightRecorder(model, optimizer, interval=16)

    def step(number: int):
        optimizer.zero_grad()
        loss = model(torch.ones(3, 4)).square().mean()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            if number == 3:
                model.weight.data = model.weight.data.clone()
            if number == 6:
                model.weight[0, 0] = math.nan
        return loss

    assert [recorder.run(step, number) is not None for number in range(7)] == [False] * 6 + [True]
    assert bool(torch.isfinite(model.weight).all())
