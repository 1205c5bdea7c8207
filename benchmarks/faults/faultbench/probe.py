"""A plain check of the list: which operation first makes a non-finite number of finite ones. It belongs to no tool.

It watches every operation of one step as torch dispatches it, forward and backward, and knows nothing of causes.
"""

from __future__ import annotations

import random
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from faultbench.copies import all_finite, state_of
from faultbench.loops import FOLDER, LOOPS, line_of
from faultbench.pairs import Pair
from faultbench.triggers import calm, prepare, strike

QUIET = ("masked_fill", "empty", "zeros", "ones", "detach", "view", "alias", "clone", "copy_", "full")


@dataclass
class Birth:
    """op: torch's name. line: FILE:NUMBER in the loop. backward: whether autograd ran it."""

    op: str
    line: str
    backward: bool


class Watch(TorchDispatchMode):
    """Notes the first operation whose output holds NaN or an infinity that no operand held."""

    def __init__(self) -> None:
        super().__init__()
        self.birth: Birth | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = kinds((args, kwargs)) if self.birth is None else set()
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        told = out[0] if name == "_ctc_loss" else out  # its second output holds the logarithms of 0 that it works with
        if self.birth is None and not name.startswith(QUIET) and kinds(told) - before:
            self.birth = Birth(name, *place())
        return out


def kinds(value: Any) -> set[str]:
    """Of "nan" and "inf", what the floating-point tensors hold."""
    found = set()
    for leaf in tree_leaves(value):
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.numel():
            found |= {"nan"} if bool(torch.isnan(leaf).any()) else set()
            found |= {"inf"} if bool(torch.isinf(leaf).any()) else set()
    return found


def place() -> tuple[str, bool]:
    """The innermost line of a loop on the stack, and whether backward runs."""
    frames = traceback.extract_stack()
    inside = [frame for frame in frames if Path(frame.filename).parent == FOLDER]
    line = f"{Path(inside[-1].filename).name}:{inside[-1].lineno}" if inside else ""
    return line, any(frame.name == "_engine_run_backward" for frame in frames)


@dataclass
class Checked:
    """What happens to a pair that no tool watches. struck: a non-finite loss or state within 3 steps of the strike."""

    early: bool
    struck: bool
    birth: Birth | None


def check(pair: Pair) -> Checked:
    """Run a pair bare. early: something was not finite before the strike."""
    loop = LOOPS[pair.loop](pair.seed, pair.fault)
    prepare(loop, pair.trigger)
    step, row = places(pair, loop.rows)
    rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in loop.optimizers]
    for number in range(step):
        if not torch.isfinite(loop.step(loop.batch(number))):
            return Checked(True, False, None)
    batch, watch = loop.batch(step), Watch()
    strike(loop, batch, pair.trigger, row)
    with watch:
        finite = torch.isfinite(loop.step(batch)).item() and all_finite(state_of(loop))
    calm(loop, rates)
    for number in range(step + 1, step + 3):
        finite = finite and torch.isfinite(loop.step(loop.batch(number))).item() and all_finite(state_of(loop))
    return Checked(False, not finite, watch.birth)


def disagreements(pair: Pair) -> list[str]:
    """What the list says of a pair and the bare run does not show; [] where they agree."""
    found = check(pair)
    wrong = ["not finite before the strike"] if found.early else []
    wrong += [] if found.struck or found.early else ["the strike does no harm"]
    birth = found.birth
    if pair.line == "-" or wrong:
        return wrong
    if birth is None:
        return ["no operation makes a non-finite number"]
    op = birth.op.strip("_").replace("_", "")
    wrong += [] if any(one.replace("_", "") in op for one in pair.op.split("|")) else [f"operation {birth.op}"]
    if birth.backward:
        return [*wrong, *([] if "backward" in pair.phase else ["it happens in backward"])]
    line = line_of(pair.loop, pair.line)
    wrong += [] if birth.line == line else [f"line {birth.line}, not {line}"]
    return [*wrong, *(["it does not happen in backward"] if pair.phase == "backward" else [])]


def places(pair: Pair, rows: int) -> tuple[int, int]:
    """(step, row) of the strike, drawn from the pair's seed."""
    drawn = random.Random(pair.seed)
    return drawn.randrange(12, 18), drawn.randrange(rows)
