"""The 8-bit variant: made from real positions, judged against the fp32 network, chosen by what the CPU can do."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from az.engine.errors import Refused, WrongRequest
from az.engine.game import load_game
from az.engine.inference import precision
from az.engine.inference.model_resolver import SHIPPED, newest_model, shipped_models
from az.engine.inference.onnx_evaluator import OnnxEvaluator, decode_floats, softmax
from az.engine.inference.precision import VARIANTS, Fallback, choose_precision, load_precision, variant_of
from az.engine.selfplay.autotune import plan_for
from az.engine.selfplay.worker import WorkerJob, _NewestModel
from az.export import quantization_gate as variant_gate
from az.export.calibration import watch
from az.export.parity import Positions, random_positions
from az.export.pipeline import Candidate, Published, publish
from az.export.quantization_gate import Difference, measure
from az.export.run_services import RunServices
from az.train.config import NetConfig
from az.train.learner import Learner
from az.train.model import Network
from az.train.presets import preset
from az.train.replay import Replay

GAME = load_game("connect4")
NET = NetConfig(64, 2, policy_channels=4, value_channels=2, value_hidden=8)  # 64: the weights' zero point matters


def network(seed=3):
    torch.manual_seed(seed)
    made = Network(GAME.planes_shape, GAME.num_actions, NET).train()
    for _ in range(3):  # averages that are not 0 and 1
        made(torch.rand(64, *GAME.planes_shape))
    return made.eval()


def candidate(**changes):
    return replace(Candidate(network().state_dict(), GAME, NET, 250, "quick", variant="int8"), **changes)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    result = publish(candidate(), tmp_path_factory.mktemp("run") / "models", 3)
    assert isinstance(result, Published)
    return result


def answers(evaluator, planes, batch):
    logits = np.empty((len(planes), GAME.num_actions), np.float32)
    values = np.empty(len(planes), np.float32)
    for first in range(0, len(planes), batch):
        rows = slice(first, first + batch)
        evaluator.evaluate(np.ascontiguousarray(planes[rows]), logits[rows], values[rows])
    return logits, values


def test_a_variant_stands_beside_the_model_and_the_card_says_how_close_it_is(published):
    card = json.loads(published.path.with_suffix(".json").read_text())
    variant = variant_of(published.path, "int8")
    small = OnnxEvaluator(variant, GAME)
    assert (small.precision, OnnxEvaluator(published.path).precision) == ("int8", "fp32")
    assert card["int8_model_id"] == small.model_id != card["model_id"]
    assert 0 <= card["int8_divergence"] < variant_gate.MOST["int8"][0]
    assert float(small.metadata["int8_value_error"]) == card["int8_value_error"]
    assert variant.stat().st_size < 0.5 * published.path.stat().st_size
    assert newest_model(published.path.parent) == published.path  # the variant is no model of its own


def test_int8_answers_nearly_as_fp32_on_positions_that_nobody_calibrated_on(published):
    planes = random_positions(GAME, 200, seed=99)
    big, small = OnnxEvaluator(published.path), OnnxEvaluator(variant_of(published.path, "int8"))
    found = measure("int8", answers(big, planes.planes, 50), answers(small, planes.planes, 50), planes)
    assert 0 < found.divergence < 0.01
    assert 0 < found.value_error < 0.05
    assert found.worst_policy < 0.01


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 16, 33, 64, 256])
def test_a_row_is_answered_alike_to_the_bit_at_every_batch_size(published, batch):
    planes = random_positions(GAME, 256, seed=5).planes
    small = OnnxEvaluator(variant_of(published.path, "int8"))
    for one, two in zip(answers(small, planes, 256), answers(small, planes, batch), strict=True):
        assert one.tobytes() == two.tobytes()


def test_threads_change_no_bit(published):
    planes = random_positions(GAME, 64, seed=6).planes
    one, two = (answers(OnnxEvaluator(variant_of(published.path, "int8"), threads=n), planes, 64) for n in (1, 2))
    assert one[0].tobytes() == two[0].tobytes()
    assert one[1].tobytes() == two[1].tobytes()


def test_the_same_weights_and_positions_give_the_same_variant(published, tmp_path):
    again = publish(candidate(stamp=False), tmp_path, 3)
    assert isinstance(again, Published)
    assert variant_of(again.path, "int8").read_bytes() == variant_of(published.path, "int8").read_bytes()


def test_a_weak_variant_is_refused_and_the_model_goes_out_without_it(monkeypatch, tmp_path):
    def narrow(made, planes):  # as if calibrated on positions that are nothing like the game's
        return {at: replace(one, lows=0.02 * one.lows, tops=0.02 * one.tops) for at, one in watch(made, planes).items()}

    monkeypatch.setattr(variant_gate, "watch", narrow)
    result = publish(candidate(), tmp_path, 1)
    assert isinstance(result, Published)
    assert "int8" in result.card["int8_refused"]
    assert "int8_model_id" not in result.card
    assert not variant_of(result.path, "int8").exists()
    assert load_precision(result.path, GAME, "auto", "cpu")[0].precision == "fp32"


def test_a_run_says_which_models_are_played_in_fp32_and_why(monkeypatch, tmp_path):
    config = preset("connect4", "quick")
    config = replace(config, net=NET, selfplay=replace(config.selfplay, precision="int8"))
    said = []
    services = RunServices(GAME, config, said.append)
    learner, replay = Learner(network(), config.learner, "cpu"), Replay(GAME, 100)
    monkeypatch.setitem(variant_gate.MOST, "int8", (1e-9, 1e-9))
    notes = [services.publish(learner, replay, tmp_path, number) for number in (0, 1)]
    monkeypatch.undo()
    notes.append(services.publish(learner, replay, tmp_path, 2))
    services.close()
    assert [str(note).partition(": int8 ")[0] for note in notes[:2]] == [
        f"model 00000{number} is played in fp32" for number in (0, 1)
    ]
    assert notes[2] is None
    assert said == [notes[0], "model 000002 is played in int8 again"]
    plan = plan_for(tmp_path / "000000.onnx", GAME, config.selfplay, 1, "cpu")
    assert plan.line == "self-play in fp32 (the first model's int8 file was refused: the log says why)"
    assert plan_for(tmp_path / "000002.onnx", GAME, config.selfplay, 1, "cpu").line == "self-play in int8 (asked for)"


def every_int8_file(published):
    return [variant_of(published.path, "int8"), *sorted(SHIPPED.rglob("*.int8.onnx"))]


def test_no_pair_of_products_overflows_16_bits(published):
    """What onnxruntime's kernels add in 16 bits where a CPU has no VNNI: with it, every CPU gives the same answers."""
    files = every_int8_file(published)
    assert len(files) >= 6
    for path in files:
        weights = [numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer]
        kernels = [one.astype(np.int64) for one in weights if one.dtype == np.int8 and one.ndim == 4]
        assert kernels, path
        largest = max(np.abs(kernel).max() for kernel in kernels)
        assert 255 * 2 * largest < 2**15, path
        assert largest >= 60, path  # and the range is used


def test_every_int8_file_gives_the_answers_that_it_carries(published):
    for path in every_int8_file(published):
        model = OnnxEvaluator(path)
        planes = decode_floats(model.metadata["check_planes"]).reshape(-1, *model.game.planes_shape)
        logits = np.empty((len(planes), model.game.num_actions), np.float32)
        values = np.empty(len(planes), np.float32)
        model.evaluate(planes, logits, values)
        stored = decode_floats(model.metadata["check_logits"]).reshape(logits.shape)
        assert np.abs(softmax(logits) - softmax(stored)).max() < 1e-4, path
        assert np.abs(values - decode_floats(model.metadata["check_values"])).max() < 1e-4, path


def test_publishing_again_takes_the_old_variant_away(tmp_path):
    for variant in ("int8", "fp16", None):
        result = publish(candidate(variant=variant), tmp_path, 1)
        assert isinstance(result, Published)
        assert [name for name in VARIANTS if variant_of(result.path, name).exists()] == ([variant] if variant else [])


@pytest.mark.parametrize("field", ["divergence", "value_error"])
@pytest.mark.parametrize("value", [1.0, float("nan")])
def test_the_gate_has_two_bounds_and_nan_passes_neither(field, value):
    good = Difference("int8", 1e-4, 0.01, 0.01, 0.05, 0.99)
    good.check()
    with pytest.raises(Refused, match="int8"):
        replace(good, **{field: value}).check()


def test_the_figures_of_a_difference_by_hand():
    legal = np.array([[True, True, False], [True, True, True]])
    fp32 = np.array([[0.0, 0.0, 9.0], [0.0, 0.0, 0.0]], np.float32), np.array([0.5, -0.5], np.float32)
    int8 = np.array([[np.log(3.0), 0.0, 0.0], [0.0, 0.0, 0.0]], np.float32), np.array([0.2, -0.5], np.float32)
    found = measure("int8", fp32, int8, Positions(np.zeros((2, 1, 1, 1), np.float32), legal))
    assert found.divergence == pytest.approx(0.5 * (0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25)))
    assert found.worst_policy == pytest.approx(0.25)
    assert found.value_error == pytest.approx(np.sqrt(0.09 / 2))
    assert found.worst_value == pytest.approx(0.3)


def test_the_choice_goes_by_the_cpu_and_can_be_overruled(published, monkeypatch):
    model, variant = published.path, variant_of(published.path, "int8")
    monkeypatch.setattr(precision, "int8_feature", lambda: "avx512_vnni")
    assert choose_precision(model, "auto") == (variant, "int8 (this CPU has avx512_vnni)")
    assert choose_precision(model, "auto", on_gpu=True)[0] == model
    assert choose_precision(model, "fp32")[0] == model
    assert choose_precision(variant, "auto")[0] == variant
    monkeypatch.setattr(precision, "int8_feature", lambda: None)
    assert choose_precision(model, "auto") == (model, "fp32 (this CPU has no fast int8)")
    assert choose_precision(model, "int8")[0] == variant


def test_wrong_precisions_are_one_sentence(tmp_path):
    with pytest.raises(WrongRequest, match=r"the precisions are auto, fp32, fp16, int8\.$"):
        choose_precision(tmp_path / "a.onnx", "int4")
    with pytest.raises(WrongRequest, match=r"a\.onnx has no int8 file beside it \(a\.int8\.onnx\)"):
        choose_precision(tmp_path / "a.onnx", "int8")


def test_a_variant_that_this_cpu_answers_otherwise_gives_way(published, monkeypatch, tmp_path):
    monkeypatch.setattr(precision, "int8_feature", lambda: "avx512_vnni")
    model = tmp_path / "000003.onnx"
    model.write_bytes(published.path.read_bytes())
    variant_of(model, "int8").write_bytes(variant_of(published.path, "int8").read_bytes()[:-20])
    found, why = load_precision(model, GAME, "auto", "cpu")
    assert (found.precision, "refused on this machine" in why) == ("fp32", True)
    with pytest.raises(Refused):
        load_precision(model, GAME, "int8", "cpu")


def test_a_worker_says_once_that_it_plays_in_fp32(published, monkeypatch, tmp_path):
    """Of two workers and models, one sentence when it begins and one when it ends."""
    monkeypatch.setattr(precision, "int8_feature", lambda: "avx512_vnni")
    config = preset("connect4", "quick")
    selfplay = replace(config.selfplay, precision="auto")
    job = WorkerJob(tmp_path, "connect4", selfplay, 0, 1, 0, 0, 1, provider="cpu")
    said, models = [], tmp_path / "models"
    shared = Fallback(lambda text, _: said.append(text))  # the pool's, for all workers
    workers = [_NewestModel(job, GAME, Fallback(shared.changed)) for _ in range(2)]
    for number, whole in enumerate((True, False, False, True)):
        folder = models / f"{number:06d}.onnx"
        models.mkdir(exist_ok=True)
        for kind in (".onnx", ".int8.onnx", ".json"):
            data = published.path.with_name(f"{published.path.stem}{kind}").read_bytes()
            folder.with_name(f"{folder.stem}{kind}").write_bytes(data if whole or "int8" not in kind else data[:-20])
        for worker in workers:
            worker.looked = float("-inf")
            assert worker.get().precision == ("int8" if whole else "fp32")  # pyright: ignore[reportAttributeAccessIssue]
    assert said == [
        "model 000001 is played in fp32 (the file in fewer bits was refused on this machine)",
        "model 000003 is played in int8 again",
    ]


def test_no_variant_is_listed_as_a_shipped_model():
    assert not [name for name in shipped_models() if "int8" in name]
