"""A network is described once: every kind of block and head trains, exports with parity and plays, a new one too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from run_tools import run_az, settings

from az.engine.errors import Refused, WrongRequest
from az.engine.game import load_game
from az.engine.inference.model_resolver import newest_model
from az.engine.inference.onnx_evaluator import OnnxEvaluator
from az.engine.inference.precision import VARIANTS, variant_of
from az.engine.selfplay.batch import SelfplayBatch
from az.export.node_parity import parting
from az.export.onnx_file import model_of
from az.export.parity import random_positions
from az.export.pipeline import Candidate, Published, publish
from az.export.recorded import recorded
from az.models.remake_variant import network_of
from az.train.architecture import AUXILIARY, BLOCKS, VALUE_HEADS, block_size, drawing, wdl_target
from az.train.bench import fixed_batch
from az.train.config import NetConfig, RunConfig, from_toml, to_toml, with_settings
from az.train.learner import FROM_DEVICE, Learner, data_losses
from az.train.model import Network
from az.train.presets import preset

GAME = load_game("tictactoe")
PLANES = random_positions(GAME, 40, seed=3).planes


def bottleneck(ops, x, net):
    """A 1×1 convolution to a quarter of the channels, a 3×3, a 1×1 back. Source: He et al. 2015, figure 5."""
    inner = ops.relu(ops.conv("down", "norm1", x, net.channels // 4, 1))
    inner = ops.relu(ops.conv("across", "norm2", inner, net.channels // 4, 3))
    return ops.relu(ops.add("sum", ops.conv("up", "norm3", inner, net.channels, 1), x))


def before_activation(ops, x, net):
    """A block whose sum is read twice, once before its ReLU: in 8 bits the two are not one. He et al. 2016."""
    inner = ops.conv("conv1", "norm1", ops.relu(x), net.channels, 3)
    return ops.add("sum", ops.times("small", ops.conv("conv2", "norm2", ops.relu(inner), net.channels, 3), 0.5), x)


@pytest.fixture(autouse=True)
def others(monkeypatch):
    """Two blocks that are described here and nowhere else."""
    monkeypatch.setitem(BLOCKS, "bottleneck", bottleneck)
    monkeypatch.setitem(BLOCKS, "before_activation", before_activation)


NETS = [
    NetConfig(16, 2, value_hidden=8, block=block, value_head=head, auxiliary=extra)
    for block, head, extra in (
        ("residual", "scalar", ""),
        ("squeeze_excite", "wdl", "root_value"),
        ("squeeze_excite", "scalar", ""),
        ("bottleneck", "scalar", "root_value"),
        ("bottleneck", "wdl", ""),
        ("before_activation", "wdl", ""),
    )
]
each = pytest.mark.parametrize("net", NETS, ids=lambda net: f"{net.block}-{net.value_head}-{net.auxiliary or 'plain'}")


def trained(net: NetConfig, steps: int = 3) -> Learner:
    """A network after a few steps: its averages are not 0 and 1."""
    torch.manual_seed(2)
    config = replace(preset("tictactoe", "quick").learner, batch=32, precision="fp32")
    learner = Learner(Network(GAME.planes_shape, GAME.num_actions, net), config)
    rows = fixed_batch(GAME, 32)
    rows = replace(rows, root_value=rows.value[::-1].copy()) if net.auxiliary else rows
    for _ in range(steps):
        metrics = learner.step(rows)
        assert all(np.isfinite(getattr(metrics, name)) for name in FROM_DEVICE)
    return learner


@each
def test_every_architecture_trains_exports_in_every_precision_and_plays(net, tmp_path):
    learner = trained(net)
    before = {name: tensor.clone() for name, tensor in learner.model.named_parameters()}
    trained_on = trained(net, 4).model.named_parameters()
    still = [name for name, tensor in trained_on if torch.equal(tensor, before[name])]
    assert not still, "a layer that no loss reaches"
    learner.model.eval()
    graph = model_of(learner.model)
    assert isinstance(graph, onnx.ModelProto)
    assert parting(learner.model, graph, PLANES) is None
    for number, variant in enumerate((None, *VARIANTS)):
        offered = Candidate(learner.model.state_dict(), GAME, net, 3, "quick", variant=variant)
        result = publish(offered, tmp_path, number)
        assert isinstance(result, Published), result
        assert f"{variant}_refused" not in result.card, result.card
        model = OnnxEvaluator(variant_of(result.path, variant) if variant else result.path)
        jobs = iter([(0, model)])
        selfplay = replace(preset("tictactoe", "quick").selfplay, simulations=8, fast_simulations=8)
        games = list(SelfplayBatch(GAME, selfplay, 0, 1).play(lambda jobs=jobs: next(jobs, None)))
        assert len(games) == 1


@each
def test_every_value_is_recorded_by_its_name_in_the_file(net):
    network = trained(net).model.eval()
    values, nodes, modules = recorded(network, PLANES)
    graph = model_of(network)
    assert isinstance(graph, onnx.ModelProto)
    assert [node.output[0] for node in graph.graph.node] == [node.output[0] for node in nodes]
    logits, value = network(torch.from_numpy(PLANES))
    assert values["logits"].tobytes() == logits.detach().numpy().tobytes()
    assert values["value"].tobytes() == value.detach().numpy().tobytes()
    assert {modules[name] for name in values if name != "planes"} <= {name for name, _ in network.named_modules()}
    assert (modules["logits"], modules["value"], modules["blocks.0.sum"]) == ("policy_out", "value_out", "blocks.0")


def test_names_of_tensors_and_nodes_are_those_of_checkpoints_and_files_that_exist():
    network = Network(GAME.planes_shape, GAME.num_actions, NetConfig(8, 1, value_hidden=4)).eval()
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")

    def both(path: str, number: int | str = ""):
        return [f"{path}.conv{number}.weight", *(f"{path}.norm{number}.{name}" for name in norm)]

    assert list(network.state_dict()) == [
        *both("stem"), *both("blocks.0", 1), *both("blocks.0", 2),
        *both("policy_stem"), "policy_out.weight", "policy_out.bias",
        *both("value_stem"), "value_hidden.weight", "value_hidden.bias", "value_out.weight", "value_out.bias",
    ]  # fmt: skip
    graph = model_of(network)
    assert isinstance(graph, onnx.ModelProto)
    assert [node.name for node in graph.graph.node] == [
        "stem.norm", "stem.norm.relu", "blocks.0.norm1", "blocks.0.norm1.relu", "blocks.0.norm2", "blocks.0.sum",
        "blocks.0.sum.relu", "policy_stem.norm", "policy_stem.norm.relu", "policy_stem.flat", "logits",
        "value_stem.norm", "value_stem.norm.relu", "value_stem.flat", "value_hidden", "value_hidden.relu",
        "value_out", "value.flat", "value",
    ]  # fmt: skip


def test_a_name_that_is_described_twice_is_an_error(monkeypatch):
    def twice(ops, x, net):
        return ops.conv("conv", "norm2", ops.conv("conv", "norm1", x, net.channels, 3), net.channels, 3)

    monkeypatch.setitem(BLOCKS, "residual", twice)
    with pytest.raises(ValueError, match=r"'blocks\.0\.conv'"):
        Network(GAME.planes_shape, GAME.num_actions, NetConfig(8, 1))


def test_hooks_of_every_stage_fire():
    network = Network(GAME.planes_shape, GAME.num_actions, NetConfig(8, 2))
    seen = []
    for name, module in network.named_modules():
        module.register_forward_hook(lambda *_, name=name: seen.append(name))
    network(torch.from_numpy(PLANES))
    assert set(seen) == {name for name, _ in network.named_modules()} - {"blocks"}


def test_what_the_loss_alone_needs_is_not_in_the_file():
    net = NETS[1]
    network = trained(net).model
    assert network.training
    extra = network.heads(torch.from_numpy(PLANES)).auxiliary
    assert extra is not None
    assert extra.shape == (len(PLANES),)
    graph = model_of(network.eval())
    assert isinstance(graph, onnx.ModelProto)
    assert not [weight.name for weight in graph.graph.initializer if "auxiliary" in weight.name]
    with pytest.raises(ValueError, match="root's value"):
        Learner(network, RunConfig().learner).step(fixed_batch(GAME, 8))


def test_the_auxiliary_output_learns_the_search_s_value():
    """Its gradient alone: with a weight of 0 the layer stands still."""
    for weight, moves in ((0.0, False), (1.0, True)):
        torch.manual_seed(2)
        network = Network(GAME.planes_shape, GAME.num_actions, NetConfig(8, 1, auxiliary="root_value"))
        config = replace(RunConfig().learner, auxiliary_weight=weight, l2=0.0, precision="fp32")
        rows = fixed_batch(GAME, 16)
        before = network.get_parameter("value_auxiliary.out.weight").detach().clone()
        Learner(network, config).step(replace(rows, root_value=rows.value))
        assert torch.equal(before, network.get_parameter("value_auxiliary.out.weight")) != moves


def test_the_loss_of_win_draw_and_loss_by_hand():
    target = torch.tensor([1.0, -1.0, 0.0, 0.5, -0.25])
    classes = torch.stack(wdl_target(target), 1)
    wanted = [[1, 0, 0], [0, 0, 1], [0, 1, 0], [0.5, 0.5, 0], [0, 0.75, 0.25]]
    assert torch.equal(classes, torch.tensor(wanted))
    raw = torch.tensor([[2.0, 0.0, -1.0]] * 5)
    logits, mask = torch.zeros(5, 2), torch.ones(5, 2, dtype=torch.bool)
    policy = torch.full((5, 2), 0.5)
    probabilities = np.exp([2.0, 0.0, -1.0]) / np.exp([2.0, 0.0, -1.0]).sum()
    _, loss, _ = data_losses(logits, raw, policy, mask, target, False)
    assert float(loss) == pytest.approx(-(np.array(wanted) * np.log(probabilities)).sum(1).mean(), rel=1e-6)
    network = Network(GAME.planes_shape, GAME.num_actions, NetConfig(8, 1, value_head="wdl"))
    assert network.value(raw)[0].item() == pytest.approx(probabilities[0] - probabilities[2], rel=1e-6)


def test_a_configuration_without_the_new_keys_is_of_the_network_that_it_was():
    text = "\n".join(line for line in to_toml(RunConfig()).splitlines() if not line.startswith(
        ("block ", "value_head ", "auxiliary "))
    )  # fmt: skip
    assert "channels" in text
    assert from_toml(text).net == NetConfig(block="residual", value_head="scalar", auxiliary="")


def test_the_choices_are_those_that_are_described():
    for name, known in (("block", BLOCKS), ("value_head", VALUE_HEADS), ("auxiliary", AUXILIARY)):
        for choice in known:
            assert getattr(with_settings(RunConfig(), [f"net.{name}={choice}"]).net, name) == choice
        with pytest.raises(WrongRequest, match=f"net.{name} is 'x': it can be"):
            with_settings(RunConfig(), [f"net.{name}=x"])


def test_sizes_and_boxes_come_from_the_description():
    assert block_size(NetConfig(64), 4, 8) == (2 * 9 * 64 * 64, 2 * 64 * 32)
    assert block_size(NetConfig(64, block="bottleneck"), 4, 8) == (2 * 64 * 16 + 9 * 16 * 16, (16 + 16 + 64) * 32)
    assert drawing(NetConfig(8, 2, auxiliary="root_value")) == [
        [("stem", "stem")], [("blocks.0", "block 0")], [("blocks.1", "block 1")],
        [("policy", "policy head"), ("value", "value head")],
    ]  # fmt: skip


def test_az_train_with_the_second_architecture(tmp_path):
    more = settings(
        net__block="squeeze_excite", net__value_head="wdl", net__auxiliary="root_value", selfplay__precision="int8"
    )
    made = run_az(tmp_path, "train", "tictactoe", "--run", "t", "--deterministic", "--steps", 12, *more)
    assert made.returncode == 0, made.stderr
    run = tmp_path / "runs" / "t"
    path = newest_model(run / "models")
    assert path is not None
    assert variant_of(path, "int8").exists()
    assert "played in fp32" not in made.stdout + made.stderr
    assert {node.op_type for node in onnx.load(path).graph.node} >= {"ReduceMean", "Sigmoid", "Mul", "Softmax"}
    assert not list((run / "health").glob("incident-*"))
    again = run_az(tmp_path, "resume", "t", "--steps", 14)
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize("net", NETS, ids=lambda net: f"{net.block} {net.value_head}")
def test_a_network_is_read_back_from_its_file(net):
    torch.manual_seed(5)
    network = Network(GAME.planes_shape, GAME.num_actions, net)
    network.train()(torch.from_numpy(PLANES))  # averages that are not those of the beginning
    model = model_of(network.eval())
    assert isinstance(model, onnx.ModelProto)
    again = network_of(model, GAME)
    assert (again.config.block, again.config.value_head, again.config.auxiliary) == (net.block, net.value_head, "")
    with torch.no_grad():
        for one, two in zip(network(torch.from_numpy(PLANES)), again(torch.from_numpy(PLANES)), strict=True):
            assert torch.allclose(one, two, rtol=1e-4, atol=1e-5)


def test_a_file_of_an_unknown_block_is_refused(monkeypatch):
    model = model_of(Network(GAME.planes_shape, GAME.num_actions, NetConfig(16, 1, block="bottleneck")).eval())
    assert isinstance(model, onnx.ModelProto)
    monkeypatch.delitem(BLOCKS, "bottleneck")
    with pytest.raises(Refused, match="no block of residual, squeeze_excite"):
        network_of(model, GAME)
