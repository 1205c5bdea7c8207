"""What only a machine with an NVIDIA GPU can show: `make gpu-check`. Skipped elsewhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from az.engine.game import load_game
from az.engine.inference.onnx_evaluator import OnnxEvaluator
from az.engine.inference.providers import cuda_obstacle
from az.export.parity import random_positions
from az.export.pipeline import Candidate, onnx_bytes_of
from az.train.health import FlightRecorder
from az.train.learner import Learner
from az.train.model import Network
from az.train.presets import preset
from az.train.replay import Batch

pytestmark = pytest.mark.gpu


def learner_on(device: str, **settings: object) -> Learner:
    config, game = preset("checkers", "seed"), load_game("checkers")
    torch.manual_seed(0)
    network = Network(game.planes_shape, game.num_actions, config.net)
    return Learner(network, replace(config.learner, learning_rate=1e-3, **settings), device)


def batch_of(rows: int, seed: int = 0) -> Batch:
    positions = random_positions(load_game("checkers"), rows, seed=seed)
    policy = positions.legal / positions.legal.sum(axis=1, keepdims=True)
    numbers = np.arange(rows)
    values = np.zeros(rows, np.float32)
    return Batch(positions.planes, policy.astype(np.float32), positions.legal, values, numbers, np.zeros_like(numbers))


on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")


@on_cuda
@pytest.mark.parametrize("graph", [False, True])
def test_learner_on_cuda_learns_a_batch(graph):
    learner = learner_on("cuda", cuda_graph=graph)
    losses = [learner.step(batch_of(64)).total for _ in range(20)]
    assert losses[-1] < losses[0]


@on_cuda
def test_a_captured_step_is_the_step():
    """Batches of two sizes, weights that move to other memory, an average: as without a graph."""
    plain, graphed = (learner_on("cuda", cuda_graph=graph, average=0.9) for graph in (False, True))
    for number, rows in enumerate((64, 64, 32, 32, 64, 64)):
        if number == 5:
            graphed.model.stem.conv.weight.data = graphed.model.stem.conv.weight.data.clone()
        one, two = (learner.step(batch_of(rows, seed=number)) for learner in (plain, graphed))
        for name, value in vars(one).items():
            assert getattr(two, name) == pytest.approx(value, rel=1e-3, abs=1e-4), (number, name)
    for (name, a), b in zip(plain.model.state_dict().items(), graphed.model.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-3, msg=name)


@on_cuda
def test_a_fault_in_a_captured_step_is_named_and_undone():
    learner = learner_on("cuda", cuda_graph=True)
    recorder = FlightRecorder(learner.model, learner.optimizer)
    good = batch_of(64)
    assert [recorder.run(learner.step, good) for _ in range(3)] == [None] * 3
    kept = {name: tensor.clone() for name, tensor in learner.model.state_dict().items()}
    bad = batch_of(64)
    bad.planes[5] = np.nan
    incident = recorder.run(learner.step, bad)
    assert incident is not None
    assert incident.rows == [5]
    assert all(torch.equal(kept[name], tensor) for name, tensor in learner.model.state_dict().items())
    assert recorder.run(learner.step, good) is None


@pytest.mark.skipif(cuda_obstacle() is not None, reason=f"onnxruntime on CUDA: {cuda_obstacle()}")
def test_cuda_answers_like_the_cpu():
    game = load_game("checkers")
    config = preset("checkers", "seed")
    network = Network(game.planes_shape, game.num_actions, config.net)
    data, _ = onnx_bytes_of(Candidate(network.state_dict(), game, config.net, 0, "seed"), "gpu-check")
    planes = random_positions(game, 300).planes
    answers = []
    for provider in ("cpu", "cuda"):
        logits, values = np.zeros((300, game.num_actions), np.float32), np.zeros(300, np.float32)
        OnnxEvaluator("gpu-check", game, provider=provider, data=data).evaluate(planes, logits, values)
        answers.append((logits, values))
    np.testing.assert_allclose(answers[0][0], answers[1][0], atol=2e-3)
    np.testing.assert_allclose(answers[0][1], answers[1][1], atol=2e-3)
