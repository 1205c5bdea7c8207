"""The pass over the state after a step: every bad number shows in its sums, and the norms are those of the weights."""

import copy
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pytest
import torch
from torch import nn

from az.train.health import FlightRecorder, use_numba
from az.train.health.state import finite_check as sweep
from az.train.health.state import jit
from az.train.health.state.extra_state import same_bits
from az.train.health.state.finite_check import FiniteCheck, sums_of
from az.train.health.state.flat_tensors import Group, Held, Layout
from az.train.health.state.snapshot import Snapshotter


@pytest.fixture(autouse=True)
def passes(monkeypatch):
    """Compiled passes, where the compiler is on."""
    monkeypatch.setattr(jit, "_is_on", False)
    assert use_numba() is not jit.JIT_OFF


def made(dtype: torch.dtype = torch.float32) -> tuple[nn.Module, torch.optim.Optimizer, Snapshotter]:
    """A network whose tensors have every kind of memory: with holes in it, of one number, of none."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(45, 7)).to(dtype)
    model.register_buffer("turned", torch.randn(4, 6, dtype=dtype).t())
    model.register_buffer("holes", torch.randn(4, 6, dtype=dtype)[:, ::2])
    model.register_buffer("nothing", torch.empty(0, dtype=dtype))
    kernel = next(iter(model.parameters()))
    kernel.data = kernel.data.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    model(torch.randn(8, 3, 5, 5, dtype=dtype)).square().mean().backward()
    optimizer.step()
    return model, optimizer, Snapshotter(model, [optimizer], [])


def looked(
    layout: Layout | None,
    before: Mapping[Group, torch.Tensor] = MappingProxyType({}),
    gradients: Sequence[torch.Tensor] = (),
) -> tuple[list[float], list[float]]:
    """(a number for every part, [norm of the change of the weights, of the weights])"""
    sweep = FiniteCheck(layout or Layout([]))
    grads = Layout([Held("gradients", "", gradient) for gradient in gradients])
    work = sweep.reading(before, grads)
    if work:
        work()
    sums, weights, changes = sweep.rest(before)
    bad, change, size = sweep.out
    norms = [math.hypot(change**0.5, *map(float, changes)), math.hypot(size**0.5, *map(float, weights))]
    return [bad, size, *map(float, [*sums, *sums_of(grads)])], norms


@pytest.mark.parametrize("most", [1, 7, 64, 1 << 20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_norms_are_those_of_the_weights(monkeypatch, most, dtype):
    monkeypatch.setattr(sweep, "PIECE_CPU", most)
    model, _, snapshotter = made(dtype)
    before = snapshotter.take(None)
    weights = [p.detach().clone() for p in model.parameters()]
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p))
    sums, norms = looked(before.layout, before.copies)
    assert all(math.isfinite(number) for number in sums)
    change = math.sqrt(
        sum(float((p.detach() - w).double().square().sum()) for p, w in zip(model.parameters(), weights, strict=True))
    )
    size = math.sqrt(sum(float(p.detach().double().square().sum()) for p in model.parameters()))
    tolerance = 1e-2 if dtype == torch.bfloat16 else 1e-5
    assert norms == pytest.approx([change, size], rel=tolerance)


@pytest.mark.parametrize("most", [7, 1 << 20])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_bad_number_shows_wherever_it_lies(monkeypatch, most, bad):
    monkeypatch.setattr(sweep, "PIECE_CPU", most)
    _, _, snapshotter = made()
    found = [one for one in snapshotter.layout().held if one.tensor.is_floating_point() and one.tensor.numel()]
    assert {one.kind for one in found} == {"weights", "buffers", "optimizer"}
    for one in found:
        for at in {0, one.tensor.numel() - 1}:
            with torch.no_grad():
                place = tuple(int(i) for i in torch.unravel_index(torch.tensor(at), one.tensor.shape))
                kept = one.tensor[place].clone()
                one.tensor[place] = bad
                sums = looked(snapshotter.layout())[0]
                one.tensor[place] = kept
            assert not all(math.isfinite(number) for number in sums), (one.kind, one.name, at)
            assert all(math.isfinite(number) for number in looked(snapshotter.layout())[0])


def test_many_large_numbers_of_half_precision_are_no_fault():
    model = nn.Linear(300, 300).to(torch.bfloat16)
    model.register_buffer("large", torch.full((4096,), 3e4, dtype=torch.float16))
    assert all(math.isfinite(number) for number in looked(Snapshotter(model, [], []).layout())[0])


def test_complex_numbers_and_eight_bits_are_looked_at_too():
    model = nn.Linear(4, 4)
    model.register_buffer("waves", torch.ones(9, dtype=torch.complex64))
    model.register_buffer("small", torch.ones(9).to(torch.float8_e4m3fn))
    model.register_parameter("frozen", nn.Parameter(torch.ones(9).to(torch.float8_e4m3fn), requires_grad=False))
    snapshotter = Snapshotter(model, [], [])
    before = snapshotter.take(None)
    assert all(math.isfinite(number) for number in looked(before.layout, before.copies)[0])
    for name, bad in (("waves", complex(0.0, math.inf)), ("small", math.nan), ("frozen", math.nan)):
        tensor = model.get_buffer(name) if name != "frozen" else model.get_parameter(name)
        with torch.no_grad():
            kept = tensor.clone()
            tensor.copy_(torch.full((9,), bad).to(tensor.dtype))
            sums = looked(before.layout, before.copies)[0]
            tensor.copy_(kept)
        assert not all(math.isfinite(number) for number in sums), name


class Part(nn.Module):
    """Grows, swaps and loses what it holds while it is flown."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return sum((child(x) for child in self.children()), torch.zeros_like(x))


def change_module(model: Part) -> None:
    model.inner = nn.Linear(3, 3)


def change_parameter(model: Part) -> None:
    model.inner.weight = nn.Parameter(torch.randn(3, 3))


def change_storage(model: Part) -> None:
    model.inner.weight.data = torch.randn(3, 3)


def change_dtype(model: Part) -> None:
    model.double()


def add_module(model: Part) -> None:
    model.second = nn.Linear(3, 3)


def add_buffer(model: Part) -> None:
    model.inner.register_buffer("more", torch.randn(2))


@pytest.mark.parametrize(
    "change", [change_module, change_parameter, change_storage, change_dtype, add_module, add_buffer]
)
def test_what_changes_between_steps_is_found_and_put_back(change):
    """What was found once is only found again when something changed: so every way to change must be seen."""
    model = Part()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    recorder = FlightRecorder(model, optimizer)

    def step(batch: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(batch).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    def spoil(batch: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            for tensor in (*model.parameters(), *model.buffers()):
                tensor.fill_(math.nan)
        return step(batch)

    assert recorder.run(step, torch.ones(2, 3)) is None
    change(model)
    kept = copy.deepcopy(model.state_dict())
    incident = recorder.run(spoil, torch.ones(2, 3, dtype=next(model.parameters()).dtype))
    assert incident is not None
    assert model.state_dict().keys() == kept.keys()
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in kept.items())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", ["plain", "channels_last", "turned", "holes", "double", "half"])
def test_a_bad_gradient_shows_however_it_lies(kind, bad):
    made = {
        "plain": torch.ones(4, 3, 2, 5),
        "channels_last": torch.ones(4, 3, 2, 5).contiguous(memory_format=torch.channels_last),
        "turned": torch.ones(5, 2, 3, 4).permute(3, 2, 1, 0),
        "holes": torch.ones(4, 3, 2, 10)[..., ::2],
        "double": torch.ones(4, 3, 2, 5, dtype=torch.float64),
        "half": torch.ones(4, 3, 2, 5, dtype=torch.bfloat16),
    }[kind]
    others = [torch.full((3,), 3e38), torch.zeros(0), torch.ones(7, dtype=torch.float64)]
    assert all(math.isfinite(number) for number in looked(None, {}, [*others, made])[0])
    for place in ((0, 0, 0, 0), (1, 2, 1, 3), (3, 2, 1, 4)):
        made[place] = bad
        assert not all(math.isfinite(number) for number in looked(None, {}, [*others, made])[0]), place
        made[place] = 1.0


@pytest.mark.parametrize("count", [1, 7, 8, 64, 1001])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8, np.bool_])
def test_one_changed_bit_of_a_batch_is_seen(count, dtype):
    one = (np.arange(count) % 2).astype(dtype)
    two = one.copy()
    two.flags.writeable = False  # as a batch from a mapped file is
    assert same_bits(one, two)
    for at in {0, count // 2, count - 1}:
        for bit in (0, 7):
            one.view(np.uint8)[at * one.itemsize] ^= 1 << bit
            assert not same_bits(one, two), (at, bit)
            one.view(np.uint8)[at * one.itemsize] ^= 1 << bit
    assert same_bits(one, two)
