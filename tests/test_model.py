"""The network: the founding description tensor by tensor, and what any game and preset must give."""

import pytest
import torch

from az.engine.errors import WrongRequest
from az.train.config import NetConfig
from az.train.model import Network, build, l2_parameters
from az.train.presets import PRESETS

torch.set_num_threads(1)
CHECKERS = (3, 4, 8)
SEED_NET = NetConfig()


def seed_parameters() -> dict[str, tuple[int, ...]]:
    """Written from the founding description, not from the code."""
    expected: dict[str, tuple[int, ...]] = {"stem.conv.weight": (64, 3, 3, 3)}
    expected |= {f"stem.norm.{name}": (64,) for name in ("weight", "bias")}
    for block in range(5):
        for half in (1, 2):
            expected[f"blocks.{block}.conv{half}.weight"] = (64, 64, 3, 3)
            expected |= {f"blocks.{block}.norm{half}.{name}": (64,) for name in ("weight", "bias")}
    expected |= {"policy_stem.conv.weight": (2, 64, 1, 1), "value_stem.conv.weight": (1, 64, 1, 1)}
    expected |= {f"policy_stem.norm.{name}": (2,) for name in ("weight", "bias")}
    expected |= {f"value_stem.norm.{name}": (1,) for name in ("weight", "bias")}
    expected |= {"policy_out.weight": (256, 64), "policy_out.bias": (256,)}
    return expected | {"value_out.weight": (1, 32), "value_out.bias": (1,)}


def test_the_seed_network_for_checkers_tensor_by_tensor():
    model = Network(CHECKERS, 256, SEED_NET)
    found = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert found == seed_parameters()
    assert sum(p.numel() for p in model.parameters()) == 388_647
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(norms) == 13
    assert {m.momentum for m in norms} == {0.001}


def test_l2_covers_every_kernel_and_nothing_else():
    model = Network(CHECKERS, 256, SEED_NET)
    chosen = {id(p) for p in l2_parameters(model)}
    names = {name for name, p in model.named_parameters() if id(p) in chosen}
    assert names == {name for name, p in model.named_parameters() if p.ndim > 1}
    assert len(names) == 15


@pytest.mark.parametrize("preset", list(PRESETS))
def test_build_answers_with_the_shapes_of_the_game(preset):
    torch.manual_seed(1)
    model = build("tictactoe", preset).eval()
    assert isinstance(model, Network)
    logits, values = model(torch.rand(5, 2, 3, 3))
    assert logits.shape == (5, 9)
    assert values.shape == (5,)
    assert bool((values.abs() < 1).all())
    raw_logits, before_tanh, extra = model.heads(torch.rand(5, 2, 3, 3))
    assert raw_logits.shape == (5, 9)
    assert before_tanh.shape == (5,)
    assert extra is None


def test_value_is_the_tanh_of_the_head():
    torch.manual_seed(1)
    model = Network(CHECKERS, 256, NetConfig(8, 1, value_hidden=4)).eval()
    planes = torch.rand(3, *CHECKERS)
    assert torch.equal(model(planes)[1], torch.tanh(model.heads(planes)[1]))


def test_a_seed_gives_the_same_weights_and_another_seed_others():
    def weights(seed):
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in build("tictactoe", "quick").parameters()])

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_kernels_are_drawn_by_xavier_and_biases_start_at_zero():
    torch.manual_seed(0)
    model = Network(CHECKERS, 256, SEED_NET)
    bound = (6 / (64 * 9 + 64 * 9)) ** 0.5
    kernel = model.get_parameter("blocks.0.conv1.weight").detach()
    assert 0.99 * bound < float(kernel.abs().max()) <= bound
    assert abs(float(kernel.std()) / (bound / 3**0.5) - 1) < 0.02
    assert not model.policy_out.bias.any()


def test_unknown_names_are_wrong_requests_that_name_what_there_is():
    with pytest.raises(WrongRequest, match=r"did you mean seed.*quick, long, gpu, seed"):
        build("tictactoe", "sed")
    with pytest.raises(WrongRequest, match="did you mean tictactoe"):
        build("tictacto", "seed")
