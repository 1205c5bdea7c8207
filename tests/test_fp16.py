"""The half-precision variant, and calls of one fixed size: what a GPU is given, as far as a CPU can show it."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from az.engine.errors import Refused
from az.engine.game import load_game
from az.engine.inference import precision
from az.engine.inference.model_resolver import newest_model
from az.engine.inference.onnx_evaluator import OnnxEvaluator
from az.engine.inference.precision import (
    REFUSED_HERE,
    Fallback,
    choose_precision,
    load_precision,
    variant_of,
    wanted_variant,
)
from az.engine.selfplay import autotune as plan
from az.engine.selfplay.autotune import best_batch, plan_for
from az.engine.selfplay.batch import SelfplayBatch, SelfplayConfig
from az.engine.selfplay.worker import WorkerJob, _NewestModel
from az.export.fp16_file import halved
from az.export.onnx_file import model_of
from az.export.parity import random_positions
from az.export.pipeline import Candidate, Published, publish
from az.export.quantization_gate import measure
from az.train.config import NetConfig
from az.train.model import Network

GAME = load_game("connect4")
NET = NetConfig(16, 2, policy_channels=4, value_channels=2, value_hidden=8)


def network(seed=3):
    torch.manual_seed(seed)
    made = Network(GAME.planes_shape, GAME.num_actions, NET).train()
    for _ in range(3):
        made(torch.rand(64, *GAME.planes_shape))
    return made.eval()


def candidate(made):
    return Candidate(made.state_dict(), GAME, NET, 250, "quick", variant="fp16")


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    result = publish(candidate(network()), tmp_path_factory.mktemp("run") / "models", 3)
    assert isinstance(result, Published)
    return result


def answers(evaluator, planes):
    logits, values = np.empty((len(planes), GAME.num_actions), np.float32), np.empty(len(planes), np.float32)
    evaluator.evaluate(planes, logits, values)
    return logits, values


def test_the_variant_is_half_the_size_and_answers_nearly_alike(published):
    variant = variant_of(published.path, "fp16")
    planes = random_positions(GAME, 200, seed=99)
    big, small = OnnxEvaluator(published.path), OnnxEvaluator(variant)
    found = measure("fp16", answers(big, planes.planes), answers(small, planes.planes), planes)
    assert small.precision == "fp16"
    assert 0 < found.divergence < 1e-4
    assert 0 < found.value_error < 2e-3
    card = json.loads(published.path.with_suffix(".json").read_text())
    assert card["fp16_model_id"] == small.model_id != card["model_id"]
    assert newest_model(published.path.parent) == published.path
    weights = {t.name: numpy_helper.to_array(t) for t in onnx.load(variant).graph.initializer}
    assert {a.dtype for name, a in weights.items() if name != "one"} == {np.dtype(np.float16)}


def test_a_weight_beyond_half_precision_is_named_and_the_model_goes_out_without_it(tmp_path):
    made = network()
    with torch.no_grad():
        made.value_out.weight[0, 3] = 7e4
    graph = model_of(made)
    assert isinstance(graph, onnx.ModelProto)
    with pytest.raises(Refused, match=r"'value_out\.weight', which reaches 7e\+04"):
        halved(graph)
    result = publish(candidate(made), tmp_path, 1)
    assert isinstance(result, Published)
    assert "value_out.weight" in result.card["fp16_refused"]
    assert not variant_of(result.path, "fp16").exists()


def test_the_choice_goes_by_the_gpu(published, monkeypatch):
    model, variant = published.path, variant_of(published.path, "fp16")
    assert choose_precision(model, "auto", on_gpu=True) == (variant, "fp16 (on the GPU)")
    assert choose_precision(model, "fp16")[0] == variant
    monkeypatch.setattr(precision, "int8_feature", lambda: "amx_int8")
    assert choose_precision(model, "auto") == (model, "fp32 (the model has no int8 file)")
    assert [wanted_variant(asked, gpu)[0] for asked in ("auto", "fp32", "fp16", "int8") for gpu in (False, True)] == [
        "int8", "fp16", None, None, "fp16", "fp16", "int8", "int8",
    ]  # fmt: skip


@pytest.mark.parametrize("rows", [1, 31, 32, 33, 100])
@pytest.mark.parametrize("kind", ["fp32", "fp16"])
def test_calls_of_one_size_answer_every_row(published, rows, kind):
    model = published.path if kind == "fp32" else variant_of(published.path, kind)
    planes = random_positions(GAME, rows, seed=7).planes
    fixed = OnnxEvaluator(model, GAME, provider="cpu", batch=32)
    full = answers(fixed, random_positions(GAME, 32, seed=8).planes)  # what lies in the staging memory from before
    assert np.isfinite(full[0]).all()
    for one, two in zip(answers(OnnxEvaluator(model, GAME), planes), answers(fixed, planes), strict=True):
        assert one.tobytes() == two.tobytes()


def test_games_do_not_depend_on_the_size_of_a_call(published):
    config = SelfplayConfig(simulations=8, fast_simulations=8, slots=6)

    def games(evaluator):
        left = iter(range(9))
        batch = SelfplayBatch(GAME, config, 1, 6)
        found = batch.play(lambda: (k, evaluator) if (k := next(left, None)) is not None else None)
        return sorted((g.k, g.plies, g.outcome_first, [row.policy.tobytes() for row in g.rows]) for g in found)

    plain, fixed = (OnnxEvaluator(published.path, GAME, provider="cpu", batch=batch) for batch in (0, 4))
    assert games(plain) == games(fixed)


def test_the_smallest_batch_that_is_nearly_the_fastest_is_taken(monkeypatch):
    rates = {256: 100.0, 512: 190.0, 1024: 240.0, 2048: 250.0}
    monkeypatch.setattr(plan, "_rate", lambda _, size, __: rates[size])
    unopened: Any = lambda _: None  # noqa: E731
    assert best_batch(unopened, sizes=tuple(rates)) == 1024


def test_a_size_that_the_device_has_no_memory_for_ends_the_search(monkeypatch):
    def open_at(size) -> Any:
        if size > most:
            raise Refused("out of memory")

    monkeypatch.setattr(plan, "_rate", lambda _, size, __: float(size))
    most = 600
    assert best_batch(open_at, sizes=(1024, 256, 512)) == 512
    most = 0
    with pytest.raises(Refused, match="out of memory"):
        best_batch(open_at, sizes=(256, 512))


def test_a_worker_on_a_gpu_keeps_few_models_in_play(published, tmp_path):
    """A step makes one call of full size for every model in play."""
    job = WorkerJob(tmp_path, "connect4", SelfplayConfig(gpu_batch=4), 0, 1, 0, 0, 1)
    (tmp_path / "models").mkdir()
    hand = _NewestModel(job, GAME, Fallback(lambda *_: None))

    def newest(number):
        for suffix in (".onnx", ".json"):
            target = tmp_path / "models" / f"{number:06d}{suffix}"
            target.write_bytes(published.path.with_suffix(suffix).read_bytes())
        hand.looked = -10.0
        return hand.get()

    in_play: list[Any] = [newest(0), newest(1), newest(2)]
    assert in_play[2] is in_play[1] is not in_play[0]
    in_play[0] = None  # its last game has ended
    assert newest(3) is not in_play[1]


def test_a_batch_is_measured_with_the_real_network(published):
    calls: dict[int, list[int]] = {1: [], 64: []}

    def open_at(size):
        evaluator = OnnxEvaluator(published.path, GAME, batch=size)
        answer = evaluator.evaluate

        def counted(planes, logits, values):
            calls[size].append(len(planes))
            answer(planes, logits, values)

        evaluator.evaluate = counted
        return evaluator

    assert best_batch(open_at, 0.2, (64, 1)) == 64  # 64 in one call are many times as fast as one
    assert all(len(rows) > 3 and set(rows) == {size} for size, rows in calls.items())


def test_the_plan_of_a_cpu_and_of_a_gpu(published, monkeypatch):
    config = SelfplayConfig(slots=64)
    monkeypatch.setattr(plan, "usable_cores", lambda: 16)
    monkeypatch.setattr(precision, "int8_feature", lambda: None)
    found = plan_for(published.path, GAME, config, 0, "cpu")
    assert (found.workers, found.threads, found.config) == (16, 1, config)
    assert plan_for(published.path, GAME, config, 3, "cpu").workers == 3
    monkeypatch.setattr(OnnxEvaluator, "on_gpu", True)
    monkeypatch.setattr(plan, "best_batch", lambda _: 512)
    monkeypatch.setattr(precision, "wanted_variant", lambda _, __: ("fp16", "on the GPU"))
    found = plan_for(published.path, GAME, config, 0)
    assert (found.workers, found.threads) == (1, 6)
    assert found.config == replace(config, gpu_batch=512, slots=512)
    assert found.line == "self-play in fp16 (on the GPU), calls of 512 positions, 6 in flight"
    assert found.config.header()["gpu_batch"] == 512
    assert "gpu_batch" not in config.header()


def test_a_variant_that_this_machine_answers_otherwise_gives_way(published, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "wanted_variant", lambda _, __: ("fp16", "on the GPU"))
    model = tmp_path / "000003.onnx"
    model.write_bytes(published.path.read_bytes())
    variant_of(model, "fp16").write_bytes(variant_of(published.path, "fp16").read_bytes()[:-20])
    found, why = load_precision(model, GAME, "auto", "cpu")
    assert (found.precision, why) == ("fp32", REFUSED_HERE)
