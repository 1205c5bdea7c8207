"""Tensors that a step gives another form, other memory or none: nothing is misread, and everything comes back."""

import math
from collections import UserDict

import pytest
import torch
from torch import nn

from az.train.health import FlightRecorder
from az.train.health.state.flat_tensors import Held, Layout

PLAIN, LAST = torch.contiguous_format, torch.channels_last


class Rig:
    """A model that stands still (the rate is 0), so that whatever changes was changed by the test."""

    def __init__(self, model, shape, rate=0.0, interval=None):
        self.model, self.batch = model, torch.ones(shape)
        self.optimizer: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        self.recorder = FlightRecorder(model, self.optimizer, interval=interval)

    def run(self, then=lambda: None):
        def step(batch):
            self.optimizer.zero_grad()
            loss = self.model(batch).square().mean()
            loss.backward()
            self.optimizer.step()
            then()
            return loss.detach()

        return self.recorder.run(step, self.batch)


def to_half(model):
    model.half()


def shrink(model):
    model.weight.data = model.weight.data[:10].clone()


def resize(model):
    model.lost.set_(torch.zeros(3))


def turn(model):
    model.weight.data = model.weight.data.t().contiguous().t()


def shrink_in_place(model):
    model.weight.data = model.weight.data[:10]


def turn_in_place(model):
    model.weight.data = model.weight.data.t()


@pytest.mark.parametrize("change", [to_half, shrink, resize, turn, shrink_in_place, turn_in_place])
@pytest.mark.parametrize("size", [8, 3000])  # the large one's old memory goes back to the system
@pytest.mark.parametrize("interval", [1, None])
def test_a_form_changed_within_a_step_is_read_as_it_is_now(change, size, interval):
    model = nn.Linear(size, size)
    model.register_buffer("lost", torch.ones(size, size))
    rig = Rig(model, (2, size), interval=interval)
    assert rig.run() is None
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert rig.run(lambda: change(model)) is None
    if interval:
        assert rig.recorder.flight.history.steps[-1].update < 1e-3
    assert rig.recorder.rewind(1)
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == kept[name].dtype
        assert torch.equal(tensor, kept[name]), name


@pytest.mark.parametrize("change", [turn, turn_in_place, shrink_in_place])
def test_a_form_changed_by_one_step_comes_back_after_the_next(change):
    rig = Rig(nn.Linear(8, 16, bias=False) if change is shrink_in_place else nn.Linear(8, 8), (2, 8))
    assert rig.run() is None
    assert rig.run(lambda: change(rig.model)) is None
    rig.optimizer.zero_grad()  # the old form's gradients do not fit
    kept = rig.model.weight.detach().clone()

    def spoil():
        with torch.no_grad():
            rig.model.weight.fill_(math.nan)

    assert rig.run(spoil) is not None
    assert torch.equal(rig.model.weight, kept)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_memory_swapped_in_is_read_whatever_numbers_it_holds(dtype):
    rig = Rig(nn.Linear(8, 8).to(dtype), (2, 8))
    rig.batch = rig.batch.to(dtype)
    assert rig.run() is None
    old = rig.model.weight.data
    rig.model.weight.data = old + 1.0
    kept = rig.model.weight.detach().clone()
    old.fill_(7.0)
    assert rig.run() is None

    def spoil():
        with torch.no_grad():
            rig.model.weight[2, 3] = math.nan

    assert rig.run(spoil) is not None
    assert torch.equal(rig.model.weight, kept)


def test_a_shape_changed_over_the_same_strides_is_seen():
    rig = Rig(nn.Linear(3, 2, bias=False), (2, 3))
    base = torch.arange(9.0)
    rig.model.weight.data = base.as_strided((2, 3), (3, 1))
    rig.batch = torch.ones(2, 3)
    assert rig.run() is None
    rig.optimizer.zero_grad()
    rig.model.weight.data = base.as_strided((3, 2), (3, 1))
    rig.batch = torch.ones(2, 2)

    def spoil():
        with torch.no_grad():
            rig.model.weight[2, 1] = math.nan

    assert rig.run(spoil) is not None
    assert torch.equal(base.as_strided((3, 2), (3, 1)), rig.model.weight)
    assert not base.isnan().any()


def test_strides_changed_over_the_same_shape_are_seen():
    rig = Rig(nn.Linear(4, 4), (2, 4))
    base = torch.arange(8.0)
    rig.model.register_buffer("turned", base.as_strided((2, 2, 2), (1, 2, 4)))
    assert rig.run() is None

    def turn():
        rig.model.get_buffer("turned").data = base.as_strided((2, 2, 2), (2, 1, 4))

    def spoil():
        with torch.no_grad():
            rig.model.get_buffer("turned").fill_(math.nan)

    assert rig.run(turn) is None
    assert rig.run(spoil) is not None
    assert torch.equal(rig.model.get_buffer("turned"), torch.arange(8.0).as_strided((2, 2, 2), (2, 1, 4)))


@pytest.mark.parametrize(
    "change", [shrink_in_place, to_half, lambda model: setattr(model.weight, "data", torch.ones(9))]
)
def test_memory_that_may_be_gone_is_not_in_place(change):
    model = nn.Linear(16, 16)
    layout = Layout([Held("weights", "weight", model.weight)])
    assert layout.is_in_place()
    change(model)
    assert not layout.is_in_place()


def doubled(gradient):
    return gradient.double()


def turned(gradient):
    return gradient.t().contiguous().t()


def with_holes(gradient):
    return torch.stack([gradient, gradient], -1)[..., 0]


def negative(gradient):
    return torch._neg_view(-gradient)  # pyright: ignore[reportPrivateImportUsage]


def as_it_is(gradient):
    return gradient.clone()


@pytest.mark.parametrize("form", [as_it_is, doubled, turned, with_holes, negative, lambda g: Wrapped(g)])
@pytest.mark.parametrize("before", [as_it_is, None])
def test_gradients_are_new_tensors_at_every_step_and_come_back(form, before):
    """What was found of the last ones says nothing of these: neither where they lie nor how."""
    model = nn.Linear(6, 6, bias=False)
    model.weight.grad_dtype = None  # any
    recorder = FlightRecorder(model, None)

    def give(number, made):
        def step(_):
            model.weight.grad = made(torch.full((6, 6), number))

        return step

    for number in (1.0, 2.0, 3.0):
        made = before if before is not None and number < 2 else form
        assert recorder.run(give(number, made), None) is None
    kept = torch.full((6, 6), 3.0, dtype=torch.float64 if form is doubled else torch.float32)
    assert recorder.run(give(math.nan, form), None) is not None
    grad = model.weight.grad
    found = grad.inner if isinstance(grad, Wrapped) else grad
    assert isinstance(found, torch.Tensor)
    assert torch.equal(found, kept)


def test_a_tensor_with_its_sign_turned_in_passing_comes_back():
    rig = Rig(nn.Linear(4, 4), (2, 4))
    rig.model.register_buffer("turned", torch._neg_view(torch.arange(5.0)))  # pyright: ignore[reportPrivateImportUsage]
    kept = rig.model.get_buffer("turned").clone()

    def spoil():
        with torch.no_grad():
            rig.model.get_buffer("turned").fill_(math.nan)

    assert rig.run() is None
    assert rig.run(spoil) is not None
    assert torch.equal(rig.model.get_buffer("turned"), kept)


def test_nan_in_numbers_of_another_kind_is_met_and_undone():
    rig = Rig(nn.Linear(8, 8, bias=False), (2, 8))
    assert rig.run() is None
    kept = rig.model.weight.detach().clone()

    def spoil():
        rig.optimizer.zero_grad()
        rig.model.double()
        with torch.no_grad():
            rig.model.weight[-1, -1] = math.nan

    incident = rig.run(spoil)
    assert incident is not None
    assert rig.model.weight.dtype == torch.float32
    assert torch.equal(rig.model.weight, kept)


@pytest.mark.parametrize("name", ["bias", "weight"])
def test_memory_with_holes_swapped_in_is_read_at_every_look(name):
    rig = Rig(nn.Linear(4, 4), (2, 4))
    assert rig.run() is None
    parameter = getattr(rig.model, name)
    parameter.data = torch.zeros(*parameter.shape, 2)[..., 0]
    assert rig.run() is None
    parameter.data.fill_(5.0)

    def spoil():
        with torch.no_grad():
            parameter.fill_(math.nan)

    assert rig.run(spoil) is not None
    assert (parameter == 5.0).all()


@pytest.mark.parametrize(("one", "two"), [(PLAIN, LAST), (LAST, PLAIN)])
def test_an_order_in_memory_that_changed_is_no_order_of_the_numbers(one, two):
    layer = nn.Conv2d(3, 4, 3, bias=False).to(memory_format=one)  # pyright: ignore[reportCallIssue]
    rig = Rig(layer, (1, 3, 5, 5))
    kept = rig.model.weight.detach().clone()
    assert rig.run() is None
    rig.model.to(memory_format=two)
    assert rig.run() is None
    assert rig.recorder.rewind(0)
    assert torch.equal(rig.model.weight, kept)


class Wrapped(torch.Tensor):
    """A tensor without memory of its own: it hands every operation to another one."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, requires_grad=True)

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, operation, types, given=(), named=None):
        def bare(one):
            return one.inner if isinstance(one, Wrapped) else [bare(x) for x in one] if isinstance(one, list) else one

        found = operation(*[bare(one) for one in given], **{key: bare(one) for key, one in (named or {}).items()})
        return Wrapped(found) if operation is torch.ops.aten.detach.default else found


def test_a_tensor_without_memory_of_its_own_is_read_by_torch():
    model = nn.Linear(4, 4)
    model.weight = nn.Parameter(Wrapped(torch.ones(4, 4)))
    rig = Rig(model, (2, 4))
    assert [rig.run() for _ in range(3)] == [None, None, None]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_containers_need_not_be_dicts():
    rig = Rig(torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))), (8, 4))
    rig.batch = torch.randn(8, 4)
    assert [rig.run() for _ in range(2)] == [None, None]
    rig = Rig(nn.Linear(4, 4), (2, 4))
    for parameter in rig.model.parameters():
        rig.optimizer.state[parameter] = UserDict(momentum_buffer=torch.zeros_like(parameter))
    assert [rig.run() for _ in range(2)] == [None, None]
    state = rig.optimizer.state[rig.model.bias]
    kept = state["momentum_buffer"].clone()
    assert rig.run(lambda: state.update(momentum_buffer=torch.full((4,), math.nan))) is not None
    assert torch.equal(rig.optimizer.state[rig.model.bias]["momentum_buffer"], kept)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_memory_given_away_within_a_step_is_no_crash_and_comes_back(dtype):
    rig = Rig(nn.Linear(50, 50).to(dtype), (2, 50))
    rig.batch = rig.batch.to(dtype)
    assert rig.run() is None
    kept = rig.model.weight.detach().clone()
    with pytest.raises(RuntimeError, match="has lost its memory"):
        rig.run(lambda: rig.model.weight.untyped_storage().resize_(0))
    assert torch.equal(rig.model.weight, kept)
    assert rig.run() is None


def test_sparse_gradients_come_back_in_the_same_object():
    model = nn.Embedding(5, 3, sparse=True)
    recorder = FlightRecorder(model, torch.optim.SGD(model.parameters(), lr=0.0))

    def step(rows):
        model.zero_grad()
        model(rows).square().sum().backward()
        return 0.0

    assert recorder.run(step, torch.tensor([1, 4])) is None
    kept = model.weight.grad
    assert kept is not None
    numbers = kept.to_dense()

    def bad(rows):
        kept.mul_(3.0)
        step(rows)
        with torch.no_grad():
            model.weight[0, 0] = math.nan

    assert recorder.run(bad, torch.tensor([2])) is not None
    assert model.weight.grad is kept
    assert torch.equal(kept.to_dense(), numbers)


def add_group(optimizer):
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))], "lr": 3.0})


def load(optimizer):
    optimizer.load_state_dict(optimizer.state_dict())


def forget(optimizer):
    optimizer.state.clear()
    optimizer.param_groups[0]["params"].pop()


def new_entries(optimizer):
    optimizer.state = {p: dict(values, more=1) for p, values in optimizer.state.items()}
    optimizer.param_groups[0]["more"] = 1
    del optimizer.param_groups[0]["lr"]


@pytest.mark.parametrize("change", [add_group, load, forget, new_entries])
@pytest.mark.parametrize("within", [True, False])
def test_an_optimizer_made_over_comes_back_in_the_same_objects(change, within):
    rig = Rig(nn.Linear(3, 3), (2, 3))
    rig.optimizer = torch.optim.Adam(rig.model.parameters(), lr=torch.tensor(0.125))
    rig.recorder = FlightRecorder(rig.model, rig.optimizer)
    assert rig.run() is None
    if not within and change in (add_group, load):
        change(rig.optimizer)
    groups, state = rig.optimizer.param_groups, rig.optimizer.state
    inner, numbers = dict(state), {p: {k: v.clone() for k, v in values.items()} for p, values in state.items()}
    options = [(group, dict(group), list(group["params"])) for group in groups]

    def spoil():
        change(rig.optimizer)
        options[0][1]["lr"].fill_(7.0)
        with torch.no_grad():
            rig.model.bias.fill_(math.nan)

    assert rig.run(spoil) is not None
    assert rig.optimizer.param_groups is groups
    assert rig.optimizer.state is state
    assert len(groups) == len(options)
    for group, (kept, named, parameters) in zip(groups, options, strict=True):
        assert group is kept
        assert group == named
        assert all(a is b for a, b in zip(group["params"], parameters, strict=True))
    assert float(groups[0]["lr"]) == 0.125
    assert state == inner
    assert all(torch.equal(state[p][k], v) for p, values in numbers.items() for k, v in values.items())
