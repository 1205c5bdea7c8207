"""The engine believes a model only after looking at it, and its answers do not depend on their neighbours."""

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from az.engine.errors import Refused, WrongRequest
from az.engine.game import load_game
from az.engine.inference.onnx_evaluator import OnnxEvaluator, encode_floats, provider_line
from az.engine.inference.onnx_reader import OPEN_SEAL, SEAL, read
from az.export.onnx_file import sealed
from az.export.parity import random_positions
from az.export.pipeline import Candidate, onnx_bytes_of
from az.train.config import NetConfig
from az.train.model import Network
from az.train.presets import preset

TICTACTOE = load_game("tictactoe")


def model_bytes(game=TICTACTOE, net=NetConfig(8, 1), preset_name="seed"):  # noqa: B008
    torch.manual_seed(7)
    network = Network(game.planes_shape, game.num_actions, net)
    for name, buffer in network.named_buffers():  # as after training: averages that are not 0 and 1
        if name.endswith("running_mean"):
            buffer.uniform_(-0.2, 0.2)
        elif name.endswith("running_var"):
            buffer.uniform_(0.3, 2.0)
    return onnx_bytes_of(Candidate(network.state_dict(), game, net, 12, preset_name), "model.onnx")[0]


@pytest.fixture(scope="module")
def data():
    return model_bytes()


def answers(evaluator, planes):
    logits = np.full((len(planes), evaluator.game.num_actions), np.nan, np.float32)
    values = np.full(len(planes), np.nan, np.float32)
    evaluator.evaluate(planes, logits, values)
    return logits, values


def changed(data, change_model=None, **metadata):
    """The file altered by someone who knows how to seal it."""
    model = onnx.load_model_from_string(data)
    old = {entry.key: entry.value for entry in model.metadata_props}
    if change_model:
        change_model(model)
    return sealed(model, {**old, **metadata, SEAL: OPEN_SEAL})


@pytest.mark.parametrize(("name", "which"), [("tictactoe", "quick"), ("connect4", "quick"), ("checkers", "seed")])
def test_a_rows_answer_is_the_same_to_the_bit_at_every_batch_size_and_number_of_threads(name, which):
    """Self-play is a pure function of (model, seed, k) only if this holds."""
    try:
        game = load_game(name)
    except WrongRequest:
        pytest.skip(f"{name} is not there yet")
    file = model_bytes(game, preset(name, which).net)
    planes = random_positions(game, 256, seed=3).planes
    expected = answers(OnnxEvaluator("m", data=file, provider="cpu"), planes)
    assert len(np.unique(expected[1])) > 20, "different positions, different answers"
    for threads in (1, 2):
        evaluator = OnnxEvaluator("m", threads=threads, data=file, provider="cpu")
        for size in (*range(1, 65), 128, 255, 256):
            first = (size * 37) % (257 - size)  # so that a row is met at many places in a batch
            logits, values = answers(evaluator, planes[first : first + size])
            assert np.array_equal(logits, expected[0][first : first + size]), f"logits, batch {size}"
            assert np.array_equal(values, expected[1][first : first + size]), f"values, batch {size}"


def test_slices_of_one_size_give_the_same_answers(data):
    """The way taken on CUDA, checked on the CPU: 40 rows in slices of 16."""
    evaluator = OnnxEvaluator("m", data=data, provider="cpu")
    planes = random_positions(TICTACTOE, 40).planes
    expected = answers(evaluator, planes)
    evaluator._fixed_batch = 16
    for got, want in zip(answers(evaluator, planes), expected, strict=True):
        assert np.array_equal(got, want)


def test_arrays_of_any_layout_are_filled_and_wrong_shapes_are_errors(data):
    evaluator = OnnxEvaluator("m", data=data, provider="cpu")
    planes = random_positions(TICTACTOE, 6).planes
    logits, values = answers(evaluator, planes)
    wide, every_other = np.zeros((6, 18), np.float32), np.zeros(12, np.float32)
    evaluator.evaluate(np.asfortranarray(planes), wide[:, ::2], every_other[::2])
    assert np.array_equal(wide[:, ::2], logits)
    assert np.array_equal(every_other[::2], values)
    assert not wide[:, 1::2].any()
    for _ in range(200):  # more pairs of arrays than bindings are kept for
        assert np.array_equal(answers(evaluator, planes.copy())[0], logits)
    with pytest.raises(ValueError, match="do not fit"):
        evaluator.evaluate(planes, logits[:3], values)
    with pytest.raises(ValueError, match="rows"):
        evaluator.evaluate(planes, logits, values[:3])
    evaluator.evaluate(planes[:0], logits[:0], values[:0])


def test_answers_that_are_not_finite_are_refused_by_row(data):
    """NaN planes: a Relu may swallow them, so an infinity that reaches the dense layer is made of the bias."""

    def overflow(model):
        for tensor in model.graph.initializer:
            if tensor.name == "policy_out.weight":
                array = numpy_helper.to_array(tensor) * 0 + np.float32(3e38)
                tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))

    with pytest.raises(Refused, match="logits that is not finite in row"):
        OnnxEvaluator("m.onnx", data=changed(data, overflow), provider="cpu")
    evaluator = OnnxEvaluator("m.onnx", data=data, provider="cpu")
    values = np.array([0.0, 0.1, np.nan], np.float32)
    with pytest.raises(Refused, match=r"m\.onnx answered with a value that is not finite in row 2 of 3"):
        evaluator._refuse_rows(np.zeros((3, 9), np.float32), values)


def test_metadata_comes_back(data):
    evaluator = OnnxEvaluator("m.onnx", data=data)
    assert evaluator.game.name == "tictactoe"
    facts = evaluator.metadata
    assert (facts["game"], facts["game_version"], facts["planes_shape"], facts["num_actions"]) == (
        "tictactoe",
        "1",
        "2,3,3",
        "9",
    )
    assert (facts["step"], facts["preset"], facts["precision"]) == ("12", "seed", "fp32")
    assert 0 <= float(facts["parity_error"]) <= 1e-4
    assert len(evaluator.model_id) == 16
    assert "\n" not in provider_line(evaluator)
    assert "network on" in provider_line(evaluator)


def refusal(data, game=None, kind: type[Exception] = Refused):
    with pytest.raises(kind) as error:
        OnnxEvaluator("m.onnx", game, data=data, provider="cpu")
    text = str(error.value)
    assert text.endswith(".")
    assert "m.onnx" in text
    assert "\n" not in text
    return text


def test_damaged_files_are_refused(data):
    rng = np.random.default_rng(11)
    for size in (0, 1, 100, len(data) // 2, len(data) - 1):
        refusal(data[:size])
    for place in rng.integers(0, len(data), 60):
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(rng.integers(8))
        refusal(bytes(flipped))
    refusal(b"this is a text")
    assert "no az metadata" in refusal(
        onnx.helper.make_model(onnx.load_model_from_string(data).graph).SerializeToString()
    )


def test_models_of_other_games_are_refused(data):
    import dataclasses

    assert "plays tictactoe, not chess" in refusal(data, dataclasses.replace(TICTACTOE, name="chess"), WrongRequest)
    assert "game_version" in refusal(data, dataclasses.replace(TICTACTOE, version=2))
    assert "num_actions" in refusal(data, dataclasses.replace(TICTACTOE, num_actions=10))
    assert "not installed" in refusal(changed(data, game="atlantis"))
    assert "planes_shape" in refusal(changed(data, planes_shape="2,4,4"))
    assert "format" in refusal(changed(data, format="99"))


def test_a_nan_weight_is_found_even_where_an_operator_would_swallow_it(data):
    def poison(model):
        tensor = next(t for t in model.graph.initializer if t.name == "blocks.0.conv1.weight")
        array = numpy_helper.to_array(tensor).copy()
        array[0, 0, 0, 0] = np.nan
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))

    assert "'blocks.0.conv1.weight'" in refusal(changed(data, poison))


def test_answers_other_than_the_stored_ones_are_refused(data):
    def nudge(model):
        tensor = next(t for t in model.graph.initializer if t.name == "value_out.bias")
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.float32(0.3), tensor.name))

    assert "differ" in refusal(changed(data, nudge))
    stored = read(data).metadata["check_values"]
    assert "differ" in refusal(changed(data, check_values=encode_floats(np.full(8, 0.9, np.float32))))
    assert "differ" in refusal(changed(data, check_values=encode_floats(np.full(8, np.nan, np.float32))))
    assert "cannot be read" in refusal(changed(data, check_values=stored[:-4]))
    assert "cannot be read" in refusal(changed(data, check_values="?"))
    assert "no check positions" in refusal(changed(data, check_planes="", check_logits="", check_values=""))


def test_a_missing_file_is_a_wrong_request(tmp_path):
    with pytest.raises(WrongRequest, match="no readable model file"):
        OnnxEvaluator(tmp_path / "nowhere.onnx")
    with pytest.raises(WrongRequest, match="providers are"):
        OnnxEvaluator("m", data=model_bytes(), provider="tpu")
