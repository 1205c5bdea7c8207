"""The benchmark of faults: its own copy notices damage, its list agrees with bare runs, its scorer marks as it says."""

from __future__ import annotations

import hashlib
import random
import re
import sys
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from command_line import ROOT

sys.path.insert(0, str(ROOT / "benchmarks" / "faults"))

from faultbench.copies import all_finite, same_bits, state_of
from faultbench.loops import LOOPS, line_of
from faultbench.measure import cost, false_alarms
from faultbench.pairs import LIST, Pair, digest, held_out, pairs
from faultbench.probe import disagreements
from faultbench.run import Outcome, run_pair
from faultbench.score import marks_of, plain
from faultbench.tools import TOOLS, Report, Tool
from faultbench.triggers import calm, strike

FOLDER = ROOT / "benchmarks" / "faults"
OPEN = {pair.name: pair for pair in pairs() if pair.name not in held_out()}
SOME = ("mlp/log-zero", "mlp/length-zero", "mlp/poisoned-gradient", "convnet/nan-row", "convnet/flat-image",
        "convnet/poisoned-parameter")  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def open_pair(name: str) -> Pair:
    assert name in OPEN, "a test may not look at a pair that is held out"
    return OPEN[name]


@pytest.mark.parametrize("name", SOME)
def test_without_a_tool_the_copy_notices_the_damage(name):
    pair = open_pair(name)
    found = run_pair(pair, Tool())
    assert (found.report, found.undamaged, found.recovered, found.error) == (None, False, False, "")


@pytest.mark.parametrize("name", SOME)
def test_the_list_agrees_with_a_bare_run(name):
    assert disagreements(open_pair(name)) == []


@pytest.mark.parametrize("name", SOME)
def test_the_recorder_reports_before_damage_and_training_goes_on(name):
    marks = marks_of(open_pair(name), run_pair(open_pair(name), TOOLS["FlightRecorder"]())).marks
    assert {column: marks[column] for column in ("detected", "undamaged", "recovered")} == {
        "detected": True, "undamaged": True, "recovered": True,
    }  # fmt: skip


def test_a_finite_loss_is_too_late_for_a_bad_gradient():
    marks = marks_of(open_pair("mlp/length-zero"), run_pair(open_pair("mlp/length-zero"), TOOLS["finite loss"]())).marks
    assert marks["detected"]
    assert not marks["undamaged"]
    assert not marks["recovered"]


def test_anomaly_mode_names_operation_and_line_of_a_backward_fault():
    pair = open_pair("mlp/length-zero")
    marks = marks_of(pair, run_pair(pair, TOOLS["anomaly mode"]())).marks
    asked = ("detected", "phase", "operation", "line", "rows", "cause")
    assert [marks[column] for column in asked] == [True, True, True, True, False, False]


def test_skipping_keeps_the_weights_but_not_the_batch_norm():
    found = {name: run_pair(open_pair(name), TOOLS["skip gradients"]()) for name in ("mlp/log-zero", "convnet/nan-row")}
    assert [one.report is not None for one in found.values()] == [True, True]
    assert [one.undamaged for one in found.values()] == [True, False]


def test_copies_differ_by_one_bit_anywhere():
    loop = LOOPS["ema"](3)
    for number in range(2):
        loop.step(loop.batch(number))
    before = state_of(loop)
    assert same_bits(before, state_of(loop))
    tensors = [loop.model.two.weight, loop.model.norm.running_mean, loop.extra[1].module.one.bias]
    tensors.append(loop.optimizer.state[loop.model.one.weight]["exp_avg_sq"])
    for tensor in tensors:
        kept = tensor.detach().clone()
        tensor.data.view(-1)[-1] = torch.nextafter(kept.view(-1)[-1], torch.tensor(9.0))
        assert not same_bits(before, state_of(loop))
        tensor.data.copy_(kept)
    loop.extra[0].last_epoch += 1
    assert not same_bits(before, state_of(loop))


def test_copies_tell_zeros_and_nans_apart():
    nan = torch.tensor([float("nan")])
    assert same_bits(nan, nan.clone())
    assert not same_bits(torch.tensor([0.0]), torch.tensor([-0.0]))
    assert not all_finite({"a": [nan]})
    assert all_finite({"a": [torch.zeros(2)], "b": 1})


@pytest.mark.parametrize("name", list(LOOPS))
def test_a_loop_is_the_same_every_time(name):
    ends = []
    for _ in range(2):
        loop = LOOPS[name](5)
        for number in range(3):
            loop.step(loop.batch(number))
        ends.append(state_of(loop))
    assert same_bits(*ends)
    assert all_finite(ends[0])


def ended(name: str, tool: Tool, steps: int) -> tuple[Any, ...]:
    """The state after steps without a fault, the random states, and how often the tool reported."""
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)
    tool.begin(LOOPS[name](7))
    try:
        reports = sum(tool.step(tool.loop.batch(number)) is not None for number in range(steps))
        numbers = cast("Any", np.random.get_state())[1].tobytes()
        return state_of(tool.loop), torch.get_rng_state(), random.getstate(), numbers, reports
    finally:
        tool.end()


@pytest.mark.parametrize("steps", [150, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", list(LOOPS))
def test_a_clean_loop_ends_equal_to_the_bit_with_the_recorder(name, steps):
    """150: more than it keeps between two copies of the state."""
    (bare, draws, *others, _), (state, own_draws, *own_others, reports) = (
        ended(name, TOOLS[tool](), steps) for tool in ("nothing", "FlightRecorder")
    )
    assert same_bits(bare, state)
    assert torch.equal(draws, own_draws)
    assert own_others == others
    assert reports == 0


def test_a_strike_is_over_after_its_step():
    loop = LOOPS["mlp"](1)
    rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in loop.optimizers]
    strike(loop, loop.batch(0), "rate 1e35", 0)
    strike(loop, loop.batch(0), "gradient one.weight", 0)
    assert (loop.armed, loop.optimizer.param_groups[0]["lr"]) == (True, pytest.approx(1e32))
    calm(loop, rates)
    assert (loop.armed, loop.optimizer.param_groups[0]["lr"]) == (False, 1e-3)
    batch = loop.batch(4)
    strike(loop, batch, "multiply x row 1e6", 2)
    changed = [row for row in range(8) if not torch.equal(batch["x"][row], loop.batch(4)["x"][row])]
    assert changed == [2]
    with pytest.raises(ValueError, match="no such trigger"):
        strike(loop, batch, "explode x", 2)


def test_marks_ask_for_what_the_list_asks_for():
    pair = open_pair("mlp/log-zero")
    right = Report("", "loss", "log-of-zero", "aten::log", "", line_of("mlp", "log"), [3])
    marks = marks_of(pair, Outcome(12, 3, right, undamaged=True, recovered=True)).marks
    asked = {column for column, mark in marks.items() if mark is not None}
    assert asked == {"detected", "undamaged", "phase", "cause", "operation", "line", "rows", "recovered"}
    assert all(marks[column] for column in asked)
    wrong = marks_of(pair, Outcome(12, 3, replace(right, rows=[3, 4], op="exp"))).marks
    assert {column for column, mark in wrong.items() if mark is False} == {
        "undamaged", "operation", "rows", "recovered",
    }  # fmt: skip
    names = ("aten::_softmax", "SoftmaxBackward0", "nll_loss", "aten::nll_loss_forward")
    assert [plain(name) for name in names] == ["softmax", "softmax", "nllloss", "nllloss"]


def test_the_list_is_the_one_that_was_committed_and_covers_what_it_promises():
    page = (FOLDER / "README.md").read_text("utf-8")
    names = {pair.name for pair in pairs()}
    assert len(names) == len(pairs()) == 169
    assert digest(names) in page
    assert digest(held_out()) in page
    assert hashlib.sha256(LIST.read_bytes()).hexdigest() in page
    assert len(held_out()) == 51
    assert all(sum(pair.loop == loop for pair in pairs()) >= 8 for loop in LOOPS)
    assert len(LOOPS) >= 12
    for pair in pairs():
        if pair.line != "-":
            assert re.fullmatch(r"\w+\.py:\d+", line_of(pair.loop, pair.line))


def test_clean_steps_and_cost_of_no_tool():
    assert false_alarms("mlp", Tool(), 5) == 0
    assert 0.2 < cost("mlp", Tool(), 3) < 5
