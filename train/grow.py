"""A network that goes on inside a larger one, with the same answers at first: `az train --from RUN --set net.blocks=8`.

The idea is that of Net2Net (Chen, Goodfellow and Shlens 2015, arXiv:1511.05641): a new channel begins as a copy of one
that was there, and what read that one reads both, each with a share of its weight. The shares are drawn for every
weight, so that the copies get different gradients and part. The last batch norm of a new block begins so small that
the block adds next to nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor, nn

from az.engine.errors import Refused, WrongRequest
from az.train.config import NetConfig
from az.train.model import Network

SIZES = ("channels", "blocks", "policy_channels", "value_channels", "value_hidden")  # of NetConfig: what may grow
POSITIONS = 64  # random boards on which both networks must answer alike
SPREAD = 0.5  # of the shares, around equal ones
NEXT_TO_NOTHING = 1e-4  # with 0 the block's other layers would have no gradient in the first step
LIMIT = 1e-2  # most by which a logit or a value may differ there


def check_growth(old: NetConfig, new: NetConfig) -> None:
    """Raises WrongRequest unless `new` is `old` with some sizes made larger."""
    had, wanted = asdict(old), asdict(new)
    for name, value in wanted.items():
        if value == had[name]:
            continue
        if name not in SIZES:
            raise WrongRequest(f"--from brings its own network: net.{name} stays {had[name]}, leave it out.")
        if not 0 < had[name] < value:
            raise WrongRequest(f"--from makes a network only larger: net.{name} is {had[name]}, not {value}.")


def grow(state: Mapping[str, Tensor], larger: Network) -> dict[str, Tensor]:
    """The tensors of `larger`: a smaller network's `state`, with copies of its channels beside them, and new blocks.

    Twice with the same `larger` gives the same new numbers, so that averaged weights stay an average.
    """
    grown = {name: tensor.clone() for name, tensor in larger.state_dict().items()}
    norms = _last_norms(larger)
    for name, tensor in grown.items():
        old = state.get(name)
        if old is not None:
            tensor.copy_(_widened(old, tensor))
        elif name in norms:
            tensor.fill_(NEXT_TO_NOTHING)
    return grown


def _widened(old: Tensor, drawn: Tensor) -> Tensor:
    """`old` in the shape of `drawn`, which says how the copies share: rows repeat, columns split what they had.

    Channels of flattened planes lie one after the other, so that the copies repeat there too.
    """
    if old.shape == drawn.shape:
        return old
    repeated = old[torch.arange(len(drawn)) % len(old)]
    if old.dim() < 2:
        return repeated
    had = old.shape[1]
    sources = torch.arange(drawn.shape[1]) % had
    numbers = torch.bincount(sources)
    noise = drawn * (SPREAD / drawn.std().clamp_min(1e-12))  # layers that begin at 0 get equal shares
    mean = torch.zeros_like(repeated).index_add_(1, sources, noise) / _across(numbers, old)
    shares = noise - mean[:, sources] + _across(1.0 / numbers[sources], old)
    return repeated[:, sources] * shares


def _across(numbers: Tensor, like: Tensor) -> Tensor:
    """One number a column, in the shape that multiplies `like`."""
    return numbers.reshape(1, -1, *[1] * (like.dim() - 2))


def _last_norms(network: Network) -> set[str]:
    """The scale of the last batch norm of every block."""
    found: set[str] = set()
    for index, block in enumerate(network.blocks):
        names = [name for name, module in block.named_modules() if isinstance(module, nn.BatchNorm2d)]
        found.add(f"blocks.{index}.{names[-1]}.weight")
    return found


def check_answers(old: Network, new: Network) -> None:
    """Raises Refused unless both give the same answers on random boards (a block of one's own may not be one to grow).

    Both are left in evaluation mode.
    """
    drawn = np.random.default_rng(0).random((POSITIONS, *old.planes_shape)) < 0.3
    planes = torch.tensor(drawn, dtype=torch.float32)
    with torch.no_grad():
        pairs = zip(old.eval()(planes), new.eval()(planes), strict=True)
        apart = max(float((one - two).abs().max()) for one, two in pairs)
    if not apart <= LIMIT:
        kind = old.config.block
        raise Refused(f"a network of blocks '{kind}' cannot grow: the larger one answers otherwise, by {apart:.2g}.")
