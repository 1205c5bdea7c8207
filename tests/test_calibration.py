"""How the int8 variant is made: channels balanced without changing the function, rounding that moves no average."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from az.engine.game import load_game
from az.export import int8_file
from az.export.calibration import LEAST, Seen, balanced, watch
from az.export.int8_file import quantized
from az.export.onnx_file import model_of
from az.export.parity import random_positions
from az.train.config import NetConfig
from az.train.model import Network

GAME = load_game("connect4")
PLANES = random_positions(GAME, 120, seed=4).planes


def even_network():
    torch.manual_seed(5)
    net = NetConfig(16, 3, policy_channels=2, value_channels=1, value_hidden=4)
    made = Network(GAME.planes_shape, GAME.num_actions, net).train()
    for _ in range(3):
        made(torch.from_numpy(PLANES))
    return made.eval()


def uneven_network():
    """Channels of very different reach, and one that sleeps."""
    made = even_network()
    with torch.no_grad():
        for norm in (made.stem.norm, made.blocks[0].norm1, made.blocks[1].norm1, made.blocks[2].norm2):
            norm.weight.mul_(torch.logspace(-2, 1, 16))
        made.blocks[1].norm1.bias[3] = -1e3
    return made


def graph_of(network):
    made = model_of(network)
    assert isinstance(made, onnx.ModelProto)
    return made


def outputs_of(model, names, planes=PLANES) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [np.asarray(output) for output in session.run(names, {"planes": planes})]


def answers(model):
    return outputs_of(model, ["logits", "value"])


def test_balancing_changes_no_answer_and_evens_the_channels():
    network = uneven_network()
    plain = graph_of(network)
    even, seen = balanced(plain, before := watch(network, PLANES))
    for one, two in zip(answers(plain), answers(even), strict=True):
        assert np.abs(one - two).max() < 1e-4 * max(1.0, np.abs(one).max())
    assert answers(plain)[0].tobytes() == answers(graph_of(network))[0].tobytes()  # the model itself was left alone
    for name in ("blocks.0.norm1.relu", "blocks.1.norm1.relu"):
        least, most = (np.sort(one[name].tops / one[name].tops.max())[1] for one in (before, seen))
        assert most > 1.5 * least, name
    for name in ("policy_stem.norm.relu", "value_stem.norm.relu", "planes"):  # read by others than convolutions
        assert seen[name] == before[name]


def test_what_is_said_of_the_balanced_network_is_what_flows_through_it():
    network = uneven_network()
    even, seen = balanced(graph_of(network), watch(network, PLANES))
    names = [name for name in seen if name != "planes"]
    even.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    for name, values in zip(names, outputs_of(even, names), strict=True):
        np.testing.assert_allclose(values.max(axis=(0, 2, 3)), seen[name].tops, rtol=1e-3, atol=1e-3, err_msg=name)
        np.testing.assert_allclose(values.min(axis=(0, 2, 3)), seen[name].lows, rtol=1e-3, atol=1e-3, err_msg=name)
        np.testing.assert_allclose(values.mean(axis=0), seen[name].mean, rtol=1e-2, atol=1e-3, err_msg=name)


def test_a_sleeping_channel_is_not_blown_up():
    network = uneven_network()
    seen = watch(network, PLANES)
    assert seen["blocks.1.norm1.relu"].tops[3] == 0.0
    even, _ = balanced(graph_of(network), seen)
    for one, two in zip(graph_of(network).graph.initializer, even.graph.initializer, strict=True):
        before, after = numpy_helper.to_array(one), numpy_helper.to_array(two)
        assert (np.abs(after) <= np.abs(before) / LEAST**0.5 * 1.001).all(), one.name
        assert np.isfinite(after).all(), one.name


def test_rounded_weights_move_no_channel_on_average():
    network = uneven_network()
    seen = watch(network, PLANES)
    plain, _ = balanced(graph_of(network), seen)
    small = quantized(graph_of(network), seen)
    exact, whole = ({i.name: numpy_helper.to_array(i) for i in one.graph.initializer} for one in (plain, small))
    node = next(node for node in small.graph.node if node.op_type == "QLinearConv")
    _, scale, _, kernel, steps, zero, *_, bias = (whole.get(name, np.empty(0)) for name in node.input)
    kernel = (kernel.astype(float) - zero[:, None, None, None]) * steps[:, None, None, None]
    outputs = [
        torch.nn.functional.conv2d(torch.from_numpy(PLANES).double(), torch.from_numpy(k), padding=1)
        for k in (exact["stem.conv.weight"].astype(float), kernel)
    ]
    wanted = outputs[0].mean(dim=(0, 2, 3)).numpy() + exact["stem.conv.bias"]
    got = outputs[1].mean(dim=(0, 2, 3)).numpy() + bias * float(scale) * steps
    uncorrected = outputs[1].mean(dim=(0, 2, 3)).numpy() + exact["stem.conv.bias"]
    rest = float(scale) * steps  # a bias is a whole number of these
    assert (np.abs(got - wanted) <= 0.51 * rest).all()
    assert (np.abs(uncorrected - wanted) > 0.51 * rest).any()


def variant_error(network):
    """Root mean square error of the int8 values, positions of their own."""
    small = quantized(graph_of(network), watch(network, PLANES))
    planes = random_positions(GAME, 120, seed=5).planes
    with torch.no_grad():
        wanted = network(torch.from_numpy(planes))[1].numpy()
    return float(np.sqrt(np.square(outputs_of(small, ["value"], planes)[0] - wanted).mean()))


@pytest.mark.parametrize("depth", [1.0, 15.0])
def test_a_channel_that_sleeps_behind_its_relu_does_not_coarsen_the_rest(monkeypatch, depth):
    network = even_network()
    with torch.no_grad():
        for norm in (network.stem.norm, *(block.norm2 for block in network.blocks)):
            norm.bias[3] -= depth
    found = variant_error(network)
    monkeypatch.setattr(int8_file, "balanced", lambda model, seen: (model, seen))
    assert found < 1.5 * variant_error(network)


def test_what_the_relu_behind_a_sum_swallows_takes_no_steps():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 30, 4, 6, 7)).astype(np.float32)
    one[:, 2], other[:, 2] = one[:, 2] - 40.0, np.abs(other[:, 2])  # always far below what is added to it
    lows, tops = (values.astype(np.float64) for values in (one.min(axis=(0, 2, 3)), one.max(axis=(0, 2, 3))))
    alone = Seen(lows, tops, one.mean(axis=0, dtype=np.float64))
    assert alone.span() == (lows.min(), tops.max())
    low, high = replace(alone, addends=(one, other)).span()
    assert 0.2 * lows.min() > low > 0.3 * lows.min()  # the most that is tried
    assert 0.8 * tops.max() < high <= tops.max()


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_is_left_to_the_gate(bad):
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 3, 2, 6, 7)).astype(np.float32)
    one[0, 0, 0, 0] = bad
    lows, tops = (values.astype(np.float64) for values in (one.min(axis=(0, 2, 3)), one.max(axis=(0, 2, 3))))
    low, high = Seen(lows, tops, one.mean(axis=0, dtype=np.float64), (one, other)).span()
    assert not np.isfinite(high - low)


def test_a_peak_in_any_position_counts():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 30, 4, 6, 7)).astype(np.float32)
    for position in range(30):
        spiked = one.copy()
        spiked[position] *= 50.0
        lows, tops = (values.astype(np.float64) for values in (spiked.min(axis=(0, 2, 3)), spiked.max(axis=(0, 2, 3))))
        _, high = Seen(lows, tops, spiked.mean(axis=0, dtype=np.float64), (spiked, other)).span()
        assert high > 0.6 * tops.max(), position


def test_ranges_are_those_of_the_sums_that_flow(monkeypatch):
    network = even_network()
    _, seen = balanced(graph_of(network), watch(network, PLANES))
    for name, one in seen.items():
        assert (one.addends is not None) == name.endswith("norm2"), name
        if one.addends:
            assert (one.addends[0].max(axis=(0, 2, 3)) <= one.tops * 1.0001 + 1e-6).all(), name
            total = np.maximum(one.addends[0] + one.addends[1], 0.0)
            after = seen[name.replace("norm2", "sum.relu")].tops
            assert (total.max(axis=(0, 2, 3)) <= after * 1.0001 + 1e-5).all(), name
    found = variant_error(network)
    monkeypatch.setattr(Seen, "span", lambda one: (min(one.lows.min(), 0.0), max(one.tops.max(), 0.0)))
    assert found < 0.95 * variant_error(network)


def test_a_channel_of_next_to_no_weights_keeps_its_bias():
    usual, network = variant_error(even_network()), even_network()
    with torch.no_grad():
        network.blocks[1].conv1.weight[4] *= 1e-9
        network.blocks[1].norm1.running_mean[4] *= 1e-9
        network.blocks[1].norm1.running_var[4] = 1.0
        network.blocks[1].norm1.bias[4] = 2.0
    assert variant_error(network) < 2 * usual
