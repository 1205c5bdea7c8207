"""A run that goes on from a smaller network: the same answers at first, and every new weight learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from run_tools import run_az, settings

from az.engine.errors import Refused, WrongRequest
from az.engine.game import load_game
from az.train import architecture, checkpoint
from az.train.bench import fixed_batch
from az.train.config import NetConfig
from az.train.grow import check_answers, check_growth, grow
from az.train.learner import Learner
from az.train.model import Network
from az.train.presets import preset

SMALL = NetConfig(channels=16, blocks=2, policy_channels=3, value_channels=2, value_hidden=5, bn_momentum=0.05)
LARGER: list[dict[str, Any]] = [
    {"blocks": 4},
    {"channels": 24},
    {"policy_channels": 4},
    {"value_channels": 3},
    {"value_hidden": 8},
    {"channels": 20, "blocks": 3, "policy_channels": 8, "value_channels": 4, "value_hidden": 16},
]


def made(net: NetConfig, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return Network((2, 6, 7), 7, net)


def lived_in(net: NetConfig) -> Network:
    """A network whose batch norms are not those of the beginning."""
    game, config = load_game("connect4"), preset("connect4", "quick")
    learner = Learner(made(net), replace(config.learner, batch=32, warmup_steps=0, precision="fp32"))
    for _ in range(30):
        learner.step(fixed_batch(game, 32))
    return learner.model


@pytest.mark.parametrize("kind", ["residual", "squeeze_excite"])
@pytest.mark.parametrize("more", LARGER, ids=lambda more: "+".join(more))
def test_the_larger_network_answers_alike_and_all_of_it_learns(more: dict[str, Any], kind: str):
    old = lived_in(replace(SMALL, block=kind))
    new = made(replace(SMALL, block=kind, **more), seed=1)
    new.load_state_dict(grow(old.state_dict(), new))
    for mode in (True, False):  # batch statistics, and the averages
        planes = torch.from_numpy((np.random.default_rng(3).random((40, 2, 6, 7)) < 0.4).astype(np.float32))
        for one, two in zip(old.train(mode)(planes), new.train(mode)(planes), strict=True):
            torch.testing.assert_close(one, two, rtol=0, atol=2e-3)
    begun = {name: tensor.clone() for name, tensor in new.named_parameters()}
    config = replace(preset("connect4", "quick").learner, batch=32, warmup_steps=0, l2=0.0, precision="fp32")
    learner = Learner(new, config)
    for _ in range(20):
        learner.step(fixed_batch(load_game("connect4"), 32))
    fresh = {name: tensor for name, tensor in new.named_parameters() if not _same_shape(old, name, tensor)}
    assert fresh
    for name, tensor in fresh.items():
        still = tensor == begun[name]
        assert float(still.float().mean()) < 0.5, name  # ReLUs that are always off let some weights rest


def _same_shape(old: Network, name: str, tensor: torch.Tensor) -> bool:
    had = old.state_dict().get(name)
    return had is not None and had.shape == tensor.shape


def test_new_channels_are_not_driven_to_nothing():
    """L2 would do that to weights without a gradient: Adam takes steps of full size in its direction alone."""
    old, new = lived_in(SMALL), made(replace(SMALL, channels=24), seed=1)
    new.load_state_dict(grow(old.state_dict(), new))
    config = replace(preset("connect4", "quick").learner, batch=32, warmup_steps=0, learning_rate=1e-3)
    learner = Learner(new, replace(config, precision="fp32"))
    for _ in range(200):
        learner.step(fixed_batch(load_game("connect4"), 32))
    for name, tensor in learner.model.named_parameters():
        if tensor.dim() == 4 and len(tensor) == 24:
            norms = tensor.detach().flatten(1).norm(dim=1)
            assert norms[16:].min() > 0.5 * norms[:16].median(), name


@pytest.mark.parametrize("channels", [20, 33, 48])
def test_copies_share_what_read_the_channel(channels: int):
    """Also where a channel has more than one copy; the shares differ, so that the copies part."""
    old, new = lived_in(SMALL), made(replace(SMALL, channels=channels), seed=1)
    before, after = old.state_dict()["blocks.0.conv1.weight"], grow(old.state_dict(), new)["blocks.0.conv1.weight"]
    summed = torch.zeros(len(after), 16, 3, 3).index_add_(1, torch.arange(channels) % 16, after)
    torch.testing.assert_close(summed, before[torch.arange(channels) % 16], rtol=0, atol=1e-5)
    assert not torch.equal(after[:, 0], after[:, 16])


def test_twice_into_the_same_network_draws_the_same_numbers():
    old, new = lived_in(SMALL), made(replace(SMALL, channels=20, blocks=3), seed=1)
    first, second = grow(old.state_dict(), new), grow(old.state_dict(), new)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"channels": 15}, "only larger: net.channels is 16, not 15"),
        ({"value_hidden": 0}, "only larger: net.value_hidden is 5, not 0"),
        ({"block": "squeeze_excite"}, "net.block stays residual"),
        ({"value_head": "wdl"}, "net.value_head stays scalar"),
        ({"auxiliary": "root_value"}, "net.auxiliary stays"),
    ],
)
def test_another_network_is_refused(change: dict[str, Any], told: str):
    with pytest.raises(WrongRequest, match=told):
        check_growth(SMALL, replace(SMALL, **change))


def test_a_value_head_without_hidden_units_gets_none():
    flat = replace(SMALL, value_hidden=0)
    with pytest.raises(WrongRequest, match=r"net\.value_hidden is 0, not 8"):
        check_growth(flat, replace(flat, value_hidden=8))


def test_a_block_that_cannot_grow_is_named(monkeypatch: pytest.MonkeyPatch):
    def plain(ops: Any, x: Any, net: architecture.Net) -> Any:  # without its input in the sum, 0 is not nothing
        return ops.relu(ops.conv("conv1", "norm1", x, net.channels, 3))

    monkeypatch.setitem(architecture.BLOCKS, "plain", plain)
    kind = replace(SMALL, block="plain")
    old, new = lived_in(kind), made(replace(kind, blocks=3), seed=1)
    new.load_state_dict(grow(old.state_dict(), new))
    with pytest.raises(Refused, match="blocks 'plain' cannot grow"):
        check_answers(old, new)


def test_a_run_goes_on_in_a_larger_network(tmp_path: Path):
    """az train, export and int8 with blocks that add nothing yet."""
    short = ["--deterministic", "--steps", "6"]
    begun = run_az(tmp_path, "train", "connect4", "--run", "old", *short, *settings(net__channels=6))
    assert begun.returncode == 0, begun.stderr
    given = [part for text in settings()[1::2] if not text.startswith("net.") for part in ("--set", text)]
    larger = ["--set", "net.channels=8", "--set", "net.blocks=3", "--set", "selfplay.precision=int8"]
    for name in ("new", "again"):
        words = [*short, *given, *larger, "--set", "keep_checkpoints=9"]
        done = run_az(tmp_path, "train", "connect4", "--run", name, "--from", "old", *words)
        assert done.returncode == 0, done.stderr
    old, new = (
        checkpoint.load(tmp_path / "runs" / run / "checkpoints" / f"step-{step:09d}")
        for run, step in (("old", 6), ("new", 0))
    )
    planes = torch.from_numpy((np.random.default_rng(3).random((40, 2, 6, 7)) < 0.4).astype(np.float32))
    for kept in ("weights", "average"):
        answers: list[torch.Tensor] = []
        for source in (old, new):
            network = made(source.config.net)
            network.load_state_dict(getattr(source, kept) or source.weights)
            answers.append(network.eval()(planes)[0])
        torch.testing.assert_close(*answers, rtol=0, atol=2e-3)
    assert (new.config.net.channels, new.config.net.blocks) == (8, 3)
    last = [checkpoint.load(tmp_path / "runs" / run / "checkpoints/step-000000006") for run in ("new", "again")]
    assert all(torch.equal(last[0].weights[name], last[1].weights[name]) for name in last[0].weights)
