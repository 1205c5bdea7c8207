"""What only a machine with an NVIDIA GPU can show: `make gpu-check`. Skipped elsewhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from az.engine.game import load_game
from az.engine.onnx_evaluator import OnnxEvaluator
from az.engine.providers import cuda_obstacle
from az.export.parity import random_positions
from az.export.pipeline import Candidate, onnx_bytes_of
from az.train.learner import Learner
from az.train.model import Network
from az.train.presets import preset
from az.train.replay import Batch

pytestmark = pytest.mark.gpu


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
def test_learner_on_cuda_learns_a_batch():
    config = preset("checkers", "seed")
    game = load_game("checkers")
    torch.manual_seed(0)
    learner = Learner(
        Network(game.planes_shape, game.num_actions, config.net), replace(config.learner, learning_rate=1e-3), "cuda"
    )
    positions = random_positions(game, 64)
    policy = positions.legal / positions.legal.sum(axis=1, keepdims=True)
    rows = np.arange(64)
    batch = Batch(
        positions.planes,
        policy.astype(np.float32),
        positions.legal,
        np.zeros(64, np.float32),
        rows,
        np.zeros_like(rows),
    )
    losses = [learner.step(batch).total for _ in range(20)]
    assert losses[-1] < losses[0]


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
