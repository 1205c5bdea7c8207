"""The learner: the loss by hand, L2 and batch norm in every step, and refusals that change nothing."""

import dataclasses
import math
from functools import partial

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from az.engine.errors import Refused
from az.train.config import LearnerConfig, NetConfig
from az.train.cuda_graph import wants_operations
from az.train.learner import Learner, NonFinite, learning_rate
from az.train.model import Network, l2_parameters
from az.train.replay import Batch

torch.set_num_threads(1)
SHAPE, ACTIONS, N = (2, 3, 3), 9, 16
CONFIG = LearnerConfig(batch=N, learning_rate=1e-2)


def network(seed: int = 0, **net) -> Network:
    torch.manual_seed(seed)
    return Network(SHAPE, ACTIONS, NetConfig(**{"channels": 8, "blocks": 1, "bn_momentum": 0.1, **net}))


def batch(seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    mask = rng.random((N, ACTIONS)) < 0.5
    mask[:, 4] = True
    policy = (rng.random((N, ACTIONS)) * mask).astype(np.float32)
    policy /= policy.sum(1, keepdims=True)
    value = rng.choice([-1, 0, 1], N).astype(np.float32)
    return Batch(rng.random((N, *SHAPE), np.float32), policy, mask, value, np.arange(N), np.zeros(N, np.int64))


def everything(learner: Learner) -> list[torch.Tensor]:
    states = [v for s in learner.optimizer.state.values() for v in s.values() if isinstance(v, torch.Tensor)]
    average = list(learner.average.state_dict().values()) if learner.average else []
    return [t.clone() for t in (*learner.model.state_dict().values(), *states, *average)]


def same(one: list[torch.Tensor], two: list[torch.Tensor]) -> bool:
    return len(one) == len(two) and all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("masked", [False, True])
def test_the_losses_are_those_of_the_textbook(masked):
    learner, data = Learner(network(), dataclasses.replace(CONFIG, masked_loss=masked, l2=0.01)), batch()
    variant = network().train()
    logits, values = (t.detach().double().numpy() for t in variant(torch.from_numpy(data.planes)))
    allowed = data.mask if masked else np.ones_like(data.mask)
    weight = np.exp(logits) * allowed
    probability = weight / weight.sum(1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        cross = -np.where(data.policy > 0, data.policy * np.log(probability), 0).sum(1).mean()
        entropy = -np.where(allowed, probability * np.log(probability), 0).sum(1).mean()
    squares = sum(float(w.detach().double().square().sum()) for w in l2_parameters(variant))
    found = learner.step(data)
    assert found.policy_loss == pytest.approx(cross, rel=1e-5)
    assert found.entropy == pytest.approx(entropy, rel=1e-5)
    assert found.value_loss == pytest.approx(((values - data.value) ** 2).mean(), rel=1e-5)
    assert found.l2 == pytest.approx(0.01 * squares / 2, rel=1e-5)
    assert found.total == pytest.approx(found.policy_loss + found.value_loss + found.l2, rel=1e-6)
    assert found.max_logit == pytest.approx(np.abs(logits).max(), rel=1e-5)
    assert (found.step, found.lr) == (1, 0.01)


def test_without_data_loss_the_gradient_is_l2_times_the_kernels_of_every_layer():
    learner, data = Learner(network(), dataclasses.replace(CONFIG, l2=0.125, value_weight=0.0)), batch()
    silent = dataclasses.replace(data, policy=np.zeros_like(data.policy))
    before = {name: p.detach().clone() for name, p in learner.model.named_parameters()}
    metrics = learner.step(silent)
    kernels = {id(p) for p in l2_parameters(learner.model)}
    for name, parameter in learner.model.named_parameters():
        expected = 0.125 * before[name] if id(parameter) in kernels else torch.zeros_like(parameter)
        assert parameter.grad is not None
        assert torch.allclose(parameter.grad, expected, atol=1e-8), name
        assert torch.equal(parameter.detach(), before[name]) == (id(parameter) not in kernels), name
    norm = sum(float((0.125 * before[n]).square().sum()) for n, p in learner.model.named_parameters() if p.ndim > 1)
    assert metrics.grad_norm == pytest.approx(math.sqrt(norm), rel=1e-5)


def test_a_step_moves_every_running_average_by_the_momentum_formula():
    learner, data = Learner(network(bn_momentum=0.3), CONFIG), batch()
    norms = {n: m for n, m in learner.model.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    inputs: dict[str, torch.Tensor] = {}

    def keep(name, _, arguments):
        inputs[name] = arguments[0].detach().clone()

    for name, norm in norms.items():
        norm.register_forward_pre_hook(partial(keep, name))
    learner.step(data)
    assert len(norms) == 5
    for name, norm in norms.items():
        x = inputs[name]
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert torch.allclose(norm.running_mean, 0.3 * x.mean((0, 2, 3)), atol=1e-6), name
        assert torch.allclose(norm.running_var, 0.7 + 0.3 * x.var((0, 2, 3)), atol=1e-6), name


@pytest.mark.parametrize("field", ["planes", "policy", "value"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e30])
def test_a_step_that_is_not_finite_changes_nothing_and_the_next_one_is_clean(field, bad):
    config = dataclasses.replace(CONFIG, grad_clip=1.0, masked_loss=True, average=0.9)
    learner, variant = Learner(network(), config), Learner(network(), config)
    for one in (learner, variant):
        one.step(batch(1))
    before, poisoned = everything(learner), batch(2)
    getattr(poisoned, field).flat[4] = bad
    with pytest.raises(NonFinite) as caught:
        learner.step(poisoned)
    assert isinstance(caught.value, Refused)
    assert (caught.value.step, learner.steps) == (2, 1)
    assert {"grad_norm", "buffer_norm"} & set(caught.value.what)
    assert same(everything(learner), before)
    for one in (learner, variant):
        one.step(batch(3))
    assert same(everything(learner), everything(variant))


def test_averages_that_went_bad_are_refused_though_the_weights_are_fine():
    learner = Learner(network(), CONFIG)
    learner.model.stem.norm.get_buffer("running_var")[3] = math.nan
    with pytest.raises(NonFinite, match="buffer_norm"):
        learner.step(batch())


def test_an_error_inside_the_step_puts_the_averages_back():
    learner, data = Learner(network(), CONFIG), batch()
    before = everything(learner)
    with pytest.raises(RuntimeError):
        learner.step(dataclasses.replace(data, policy=data.policy[:, :5].copy()))
    assert same(everything(learner), before)


def test_clipping_scales_the_gradient_and_reports_the_norm_before():
    free, clipped = Learner(network(), CONFIG), Learner(network(), dataclasses.replace(CONFIG, grad_clip=0.01))
    norms = [one.step(batch()).grad_norm for one in (free, clipped)]
    assert norms[0] == norms[1] > 0.01
    grads = [torch.cat([p.grad.flatten() for p in one.parameters if p.grad is not None]) for one in (free, clipped)]
    assert float(grads[1].norm()) == pytest.approx(0.01, rel=1e-4)
    assert torch.allclose(grads[1], grads[0] * (0.01 / norms[0]), rtol=1e-5)


def test_illegal_logits_have_no_gradient_under_the_mask():
    learner, data = Learner(network(), dataclasses.replace(CONFIG, masked_loss=True, l2=0.0, value_weight=0.0)), batch()
    data.mask[:, 0], data.policy[:, 0] = False, 0
    learner.step(data)
    assert learner.model.policy_out.bias.grad is not None
    assert float(learner.model.policy_out.bias.grad[0]) == 0.0
    assert learner.model.policy_out.bias.grad[1:].abs().min() > 0


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_it_learns_one_batch_by_heart(optimizer):
    config = dataclasses.replace(CONFIG, optimizer=optimizer, masked_loss=True, l2=0.0, learning_rate=0.02)
    learner, data = Learner(network(value_hidden=8, value_channels=4, policy_channels=4), config), batch()
    first = learner.step(data)
    for _ in range(79):
        learner.step(data)
    last = learner.step(data)
    assert last.policy_loss - last.target_entropy < 0.2 * (first.policy_loss - first.target_entropy)
    assert last.value_loss < 0.2 * first.value_loss


def test_published_weights_are_the_running_average():
    learner = Learner(network(), dataclasses.replace(CONFIG, average=0.5))
    expected = [p.detach().clone() for p in learner.model.parameters()]
    for step in range(1, 13):
        learner.step(batch(step))
        decay = min(0.5, step / (step + 9))
        expected = [decay * a + (1 - decay) * p.detach() for a, p in zip(expected, learner.parameters, strict=True)]
    published = learner.published()
    assert published is learner.average
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(published.parameters(), expected, strict=True))
    assert same(list(published.buffers()), list(learner.model.buffers()))
    plain = Learner(network(), CONFIG)
    assert plain.published() is plain.model


def test_learning_rate():
    config = LearnerConfig(learning_rate=0.1, warmup_steps=10, lr_final_fraction=0.2)
    assert learning_rate(config, 0, 0.0) == pytest.approx(0.01)
    assert learning_rate(config, 9, 0.0) == pytest.approx(0.1)
    assert learning_rate(config, 500, 0.5) == pytest.approx(0.06)
    assert learning_rate(config, 500, 1.0) == pytest.approx(0.02)
    assert learning_rate(config, 500, 7.0) == pytest.approx(0.02)
    assert learning_rate(LearnerConfig(), 0, 0.7) == LearnerConfig().learning_rate


def test_a_graph_is_asked_for_where_there_is_a_gpu_only():
    plain, asked = Learner(network(), CONFIG), Learner(network(), dataclasses.replace(CONFIG, cuda_graph=True))
    assert not asked.captures
    for number in range(3):
        assert plain.step(batch(number)) == asked.step(batch(number))
    assert same(everything(plain), everything(asked))


def test_a_graph_is_not_used_while_operations_or_modules_are_watched():
    watched = network()
    assert not wants_operations(watched)
    with TorchDispatchMode():
        assert wants_operations(watched)
    assert not wants_operations(watched)
    for hook in ("register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"):
        handle = getattr(watched.blocks[0], hook)(lambda *_: None)
        assert wants_operations(watched), hook
        handle.remove()
    assert not wants_operations(watched)
