"""Nothing that is not finite, and nothing that onnxruntime computes otherwise than torch, is ever published."""

import json
import os
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import numpy as np
import onnx
import pytest
import torch

from az.engine.errors import Refused, WrongRequest
from az.engine.game import load_game
from az.engine.inference.model_resolver import newest_model
from az.engine.inference.onnx_evaluator import OnnxEvaluator
from az.export import pipeline
from az.export.finite import first_non_finite
from az.export.node_parity import parting
from az.export.onnx_file import model_of
from az.export.parity import Parity, compare, random_positions, torch_answers
from az.export.pipeline import Candidate, Published, export_checkpoint, onnx_bytes_of, publish
from az.train import checkpoint
from az.train.config import NetConfig
from az.train.model import Network
from az.train.presets import preset
from az.train.run.incidents import BadModel

GAME = load_game("tictactoe")
NET = NetConfig(8, 1, value_hidden=4)


@pytest.fixture(autouse=True)
def _one_thread():
    """On a busy machine torch's threads wait for each other longer than such small networks take."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def network():
    torch.manual_seed(5)
    network = Network(GAME.planes_shape, GAME.num_actions, NET).train()
    for _ in range(3):  # averages that are not 0 and 1
        network(torch.rand(64, *GAME.planes_shape))
    return network.eval()


def candidate(network, **changes):
    return replace(Candidate(network.state_dict(), GAME, NET, 250, "quick"), **changes)


def files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_model_and_its_card_are_published(network, tmp_path):
    result = publish(candidate(network), tmp_path / "models", 3)
    assert isinstance(result, Published)
    assert files(tmp_path) == ["000003.json", "000003.onnx"]
    card = json.loads((tmp_path / "models" / "000003.json").read_text())
    evaluator = OnnxEvaluator(result.path)
    assert card["model_id"] == evaluator.model_id == result.model_id == card["sha256"][:16]
    assert (card["game"], card["step"], card["preset"]) == ("tictactoe", 250, "quick")
    assert card["parity_error"] < 1e-5
    assert newest_model(tmp_path / "models") == result.path


def test_the_same_weights_give_the_same_bytes_and_leave_the_random_state_alone(network):
    before = torch.get_rng_state()
    one, two = (onnx_bytes_of(candidate(network), "m")[0] for _ in range(2))
    assert one == two
    assert torch.equal(before, torch.get_rng_state())
    onnx.checker.check_model(onnx.load_model_from_string(one), full_check=True)


@pytest.mark.parametrize(("name", "which"), [("tictactoe", "quick"), ("connect4", "quick"), ("checkers", "seed")])
def test_parity_on_real_positions(name, which):
    try:
        game = load_game(name)
    except WrongRequest:
        pytest.skip(f"{name} is not there yet")
    torch.manual_seed(1)
    net = preset(name, which).net
    network = Network(game.planes_shape, game.num_actions, net)
    network(torch.rand(128, *game.planes_shape))
    data, facts = onnx_bytes_of(Candidate(network.state_dict(), game, net, 1, which), "m")
    assert facts["parity_error"] < 1e-5
    positions = random_positions(game, 20, seed=9)
    found = compare(torch_answers(network.eval(), positions.planes), OnnxEvaluator("m", data=data), positions)
    assert found.ok
    assert found.error < 1e-5


def test_parity_names_the_worst_position_and_nan_is_never_ok():
    positions = random_positions(GAME, 20)

    class Off:
        game, name, model_id = GAME, "off", "off"

        def __init__(self, error):
            self.error = error

        def evaluate(self, planes, logits, values):
            logits[:], values[:] = 0.0, 0.0
            values[(planes == positions.planes[11]).all(axis=(1, 2, 3))] = self.error

    zeros = np.zeros((20, 9), np.float32), np.zeros(20, np.float32)
    assert compare(zeros, Off(0.0), positions).ok
    found = compare(zeros, Off(0.25), positions)
    assert (found.error, found.ok) == (0.25, False)
    assert found.where == "value, batch of 7, position 11"
    assert not compare(zeros, Off(np.nan), positions).ok
    assert not Parity(float("nan"), "").ok


def test_positions_are_of_both_players_and_repeatable():
    one, two = (random_positions(GAME, 30, seed=4) for _ in range(2))
    assert np.array_equal(one.planes, two.planes)
    assert one.legal.any(axis=1).all()
    assert len(np.unique(one.legal.sum(axis=1))) > 4


POISON = [
    ("blocks.0.conv1.weight", (0, 1, 2, 2), "NaN", np.nan),
    ("blocks.0.norm2.running_var", (3,), "NaN", np.nan),
    ("policy_out.bias", (8,), "inf", np.inf),
    ("value_stem.norm.running_mean", (0,), "inf", -np.inf),
]


@pytest.mark.parametrize(("name", "index", "kind", "value"), POISON)
def test_a_tensor_that_is_not_finite_is_named_and_nothing_is_published(network, tmp_path, name, index, kind, value):
    assert isinstance(publish(candidate(network), tmp_path, 7), Published)
    network.state_dict()[name][index] = value
    refused = publish(candidate(network), tmp_path, 8)
    assert isinstance(refused, Refused)
    first = ",".join(map(str, index))
    assert str(refused) == (
        f"{name} holds 1 {kind}, first at [{first}]; 000008.onnx is not published, the last good model is 000007.onnx."
    )
    assert files(tmp_path) == ["000007.json", "000007.onnx"]


def test_other_tensors_are_watched_too(network, tmp_path):
    moments = {"optimizer/exp_avg_sq/stem.conv.weight": torch.tensor([0.0, float("nan"), float("inf")])}
    refused = publish(candidate(network, also=moments), tmp_path, 1)
    assert "optimizer/exp_avg_sq/stem.conv.weight holds 2 inf or NaN, first at [1]" in str(refused)
    assert "no model has been published before it" in str(refused)
    assert files(tmp_path) == []


def test_the_gate_takes_every_kind_of_tensor():
    fine = {"a": torch.ones(3), "n": torch.tensor(3), "b": torch.ones(2, dtype=torch.bfloat16), "e": torch.ones(0)}
    assert first_non_finite(fine) is None
    found = first_non_finite({**fine, "s": torch.tensor(float("nan"))})
    assert found is not None
    assert str(found) == "s holds 1 NaN, its only number"


def test_a_batch_norm_that_overflows_when_folded_is_named(network, tmp_path):
    """Every tensor is finite; gain / sqrt(variance) times the kernel is not."""
    state = network.state_dict()
    state["blocks.0.norm1.running_var"].zero_()
    state["blocks.0.norm1.weight"].fill_(3e38)
    refused = publish(candidate(network), tmp_path, 1)
    assert "blocks.0.conv1.weight with blocks.0.norm1 folded in holds" in str(refused)
    assert files(tmp_path) == []


def test_answers_that_overflow_are_refused(network, tmp_path):
    network.state_dict()["policy_out.weight"].fill_(3e38)
    refused = publish(candidate(network), tmp_path, 1)
    assert "not finite" in str(refused)
    assert isinstance(refused, BadModel)
    assert (refused.node, refused.op) == ("logits", "onnx::Gemm")
    assert files(tmp_path) == []


def test_a_graph_that_computes_something_else_is_refused(network, tmp_path, monkeypatch):
    honest = pipeline.model_of

    def forgetful(module):
        model = honest(module)
        assert isinstance(model, onnx.ModelProto)
        next(node for node in model.graph.node if node.op_type == "Relu").op_type = "Tanh"
        return model

    monkeypatch.setattr(pipeline, "model_of", forgetful)
    assert "differ" in str(publish(candidate(network), tmp_path, 1))
    assert files(tmp_path) == []


def broken(model, name):
    """The graph, the node of that name computing something else; False where it has no numbers to break."""
    node = next(node for node in model.graph.node if node.output[0] == name)
    if node.op_type in ("Conv", "Gemm"):
        bias = next(tensor for tensor in model.graph.initializer if tensor.name == node.input[2])
        numbers = onnx.numpy_helper.to_array(bias)
        shifted = numbers + np.arange(1, 1 + len(numbers), dtype=np.float32)  # a softmax does not feel a constant
        bias.CopyFrom(onnx.numpy_helper.from_array(shifted, bias.name))
    elif node.op_type in ("Relu", "Tanh"):
        node.op_type = "Abs"
    elif node.op_type == "Add":
        node.op_type = "Sub"
    else:
        return False
    return True


def test_the_node_where_graph_and_network_part_is_named_whichever_it_is(network, tmp_path, monkeypatch):
    honest, whole = pipeline.model_of, model_of(network)
    assert isinstance(whole, onnx.ModelProto)
    names, named = [node.output[0] for node in whole.graph.node], []
    for name in names:
        graph = honest(network)
        if not broken(graph, name):
            continue
        monkeypatch.setattr(pipeline, "model_of", lambda _, graph=graph: graph)
        refused = publish(candidate(network), tmp_path, 1)
        assert isinstance(refused, BadModel), name
        assert refused.node == name
        assert refused.module in dict(network.named_modules())
        assert f"part at node {name} (" in str(refused)
        named.append(name)
    assert len(named) > len(names) / 2
    assert parting(network, whole, random_positions(GAME).planes) is None


def test_a_tensor_that_the_graph_forgets_is_an_error(network):
    network.register_parameter("spare", torch.nn.Parameter(torch.zeros(2)))
    with pytest.raises(Refused, match="spare"):
        model_of(network)


def test_tensors_of_another_network_are_refused(network, tmp_path):
    refused = publish(candidate(network, net=replace(NET, channels=9)), tmp_path, 1)
    assert "do not fit" in str(refused)
    assert "\n" not in str(refused)


@pytest.mark.parametrize("killed_at", [1, 2])
def test_a_kill_while_publishing_leaves_no_model(network, tmp_path, monkeypatch, killed_at):
    """Killed before the rename of the model, or of its card: the last good model is still the newest."""
    good = publish(candidate(network), tmp_path, 1)
    assert isinstance(good, Published)
    calls, replace_file = [], os.replace

    def kill(source, target):
        calls.append(target)
        if len(calls) == killed_at:
            raise KeyboardInterrupt
        replace_file(source, target)

    monkeypatch.setattr(os, "replace", kill)
    with pytest.raises(KeyboardInterrupt):
        publish(candidate(network), tmp_path, 2)
    assert newest_model(tmp_path) == good.path
    assert not (tmp_path / "000002.json").exists()


def test_a_checkpoint_is_exported_and_a_poisoned_one_is_not(network, tmp_path):
    config = replace(preset("tictactoe", "quick"), net=NET)
    moments = {parameter: {"exp_avg": torch.zeros_like(parameter)} for parameter in network.parameters()}
    optimizer = cast("torch.optim.Optimizer", SimpleNamespace(param_groups=[], state=moments))  # torch.optim: 10 s
    folder = checkpoint.save(tmp_path / "run", 40, network, optimizer, None, {}, game=GAME, config=config)
    for source in (folder, tmp_path / "run"):
        result = export_checkpoint(source, tmp_path / "out.onnx")
        assert OnnxEvaluator(result.path).metadata["step"] == "40"
    network.stem.conv.weight.data[0, 0, 1, 1] = torch.nan
    bad = checkpoint.save(tmp_path / "run", 41, network, optimizer, None, {}, game=GAME, config=config)
    with pytest.raises(Refused, match=r"stem.conv.weight holds 1 NaN, first at \[0,0,1,1\]"):
        export_checkpoint(bad, tmp_path / "bad.onnx")
    assert not (tmp_path / "bad.onnx").exists()
    with pytest.raises(WrongRequest, match="no checkpoint"):
        export_checkpoint(tmp_path / "nowhere", tmp_path / "x.onnx")
    with pytest.raises(WrongRequest, match="onnx"):
        export_checkpoint(folder, tmp_path / "x.pt")
