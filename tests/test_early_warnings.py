"""Early warnings warn once, in time, and only when a number stays beyond its threshold."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from az.train.health.early_warnings import METRICS, EarlyWarnings
from az.train.health.metrics import HealthMetrics


def test_a_growing_number_warns_once_and_says_when_it_will_overflow() -> None:
    watch, warnings = EarlyWarnings(), []
    for look in range(40):
        warnings += watch.look(look * 20, {"max_logit": 2.0 * 1.1**look})
    assert [w.metric for w in warnings] == ["max_logit"]
    # 2 · 1.1^k passes 30 at k = 29 (look 580), warns at the third look beyond, and reaches 88 at k = 39.7 (step 794)
    assert (warnings[0].since, warnings[0].step) == (580, 620)
    assert warnings[0].expected == pytest.approx(794, abs=4)
    assert "step 79" in str(warnings[0])


def test_one_look_beyond_the_threshold_is_no_warning() -> None:
    watch = EarlyWarnings()
    values = [5.0, 45.0, 5.0, 45.0, 45.0, 5.0] * 20
    assert not [w for step, v in enumerate(values) for w in watch.look(step, {"max_logit": v})]


def test_it_warns_again_only_after_it_was_well_below() -> None:
    def warned(values: list[float]) -> int:
        watch = EarlyWarnings()
        return len([w for step, v in enumerate(values) for w in watch.look(step, {"max_logit": v})])

    assert warned([45.0] * 5 + [29.0] * 5 + [45.0] * 5) == 1
    assert warned([45.0] * 5 + [5.0] * 5 + [45.0] * 5) == 2


def test_a_number_that_is_none_does_not_blind_the_history() -> None:
    watch = EarlyWarnings()
    watch.look(0, {"max_logit": math.nan})
    warnings = [w for step in range(1, 5) for w in watch.look(step, {"max_logit": 45.0})]
    assert len(warnings) == 1
    metrics = HealthMetrics(nn.Linear(2, 2), torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1))
    for step in range(30):
        metrics.look(step, 1.0 if step != 10 else math.nan)
    assert metrics.look(31, 50.0)["grad_norm_ratio"] == 50.0


def test_every_sign_has_a_threshold_below_its_limit() -> None:
    assert len({sign.name for sign in METRICS}) == len(METRICS)
    for sign in METRICS:
        assert sign.warn > 0
        assert sign.limit is None or sign.warn < sign.limit


def test_averages_that_stand_still_are_seen_and_looking_moves_nothing() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters())
    metrics, x = HealthMetrics(model, optimizer, costly_every=1), torch.randn(16, 4)
    seen = []
    for step in range(4):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        if step == 2:
            model.eval()  # from here on nothing moves the averages
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        seen.append(metrics.look(step, 1.0, lambda: float(model(x).square().mean().detach())))
        assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert [values.get("averages_still") for values in seen] == [None, 0.0, 0.0, 1.0]
    assert 0 < seen[0]["activation_share"] < 0.01


def test_what_averages_still_hold_of_their_start_is_no_gap_and_a_wrong_average_is() -> None:
    """Activations of small variance: a tenth of the start's 1 is most of the running average, and nothing is wrong."""
    torch.manual_seed(1)
    norm = nn.BatchNorm1d(8, momentum=0.01)
    model = nn.Sequential(norm, nn.Linear(8, 1))
    x = torch.randn(256, 8) * 0.05 + 0.02
    for _ in range(250):  # 0.99 ** 250 is 0.08
        model(x + 0.005 * torch.randn_like(x))
    metrics = HealthMetrics(model, torch.optim.SGD(model.parameters(), 0.1), costly_every=1)
    wanted = model(x).detach()

    def loss() -> float:
        return float((model(x) - wanted).square().mean() * 100)

    assert norm.running_mean is not None
    assert norm.running_var is not None
    with torch.no_grad():
        raw = loss_in_evaluation(model, loss)
        assert raw > 1.0
        before = norm.running_var.clone()
        assert metrics.look(251, 1.0, loss)["average_gap"] < 0.1
        assert torch.equal(before, norm.running_var)
        norm.running_mean.add_(1.0)
        assert metrics.look(252, 1.0, loss)["average_gap"] > 1.0


def loss_in_evaluation(model: nn.Module, loss) -> float:
    model.eval()
    try:
        return loss()
    finally:
        model.train()


def looks_of(scales: list[float]) -> list[str]:
    """The metrics that warn when Adam is fed gradients of these sizes, looked at after every step."""
    torch.manual_seed(0)
    model = nn.Linear(64, 64, bias=False)
    optimizer = torch.optim.Adam(model.parameters())
    metrics, watch, warned = HealthMetrics(model, optimizer), EarlyWarnings(), []
    for step, scale in enumerate(scales):
        model.weight.grad = scale * torch.randn(64, 64)
        optimizer.step()
        warned += [w.metric for w in watch.look(step, metrics.look(step, 1.0))]
    return warned


def test_a_usual_gradient_after_a_second_moment_near_0_warns_at_that_step() -> None:
    assert looks_of([1e-6] * 2500 + [1.0]) == ["moment_ratio"]


def test_heavy_tails_of_an_honest_run_are_no_warning() -> None:
    """The largest of 100,000 clean steps was 17."""
    assert looks_of([1.0] * 1500 + [20.0] + [1.0] * 50) == []
