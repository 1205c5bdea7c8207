"""What makes a fault happen in one step. A trigger is one line of words:

fill FIELD row|one|all VALUE     write a value into the batch: the struck row, one number of it, or everything
multiply FIELD row|all VALUE     multiply what is there
replace FIELD                    wherever the struck row's number stands in a field of indices, put the next number
tensor NAME VALUE                write a value into one number of a parameter, buffer or average, between two steps
state KEY NAME                   write NaN into one number of an optimizer's state, between two steps
scale VALUE                      set the gradient scaler's scale, between two steps
gradient NAME                    a hook writes NaN into the gradient of a parameter during this step
rate VALUE                       multiply every learning rate for this step
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from faultbench.loops import Batch, Loop


def prepare(loop: Loop, trigger: str) -> None:
    """What must be in place from the first step on."""
    verb, *words = trigger.split()
    if verb == "gradient":
        loop.parameter(words[0]).register_hook(loop.poison)


def strike(loop: Loop, batch: Batch, trigger: str, row: int) -> None:
    """Make the fault happen in the step that comes: write into the batch or the state, arm the hook, set the rates."""
    verb, *words = trigger.split()
    if verb in ("fill", "multiply", "replace"):
        _strike_batch(batch, verb, words, row, loop.rows)
    elif verb == "tensor":
        loop.parameter(words[0]).data.view(-1)[0] = float(words[1])
    elif verb == "state":
        _state(loop, *words).view(-1)[0] = float("nan")
    elif verb == "scale":
        scaler: Any = loop.extra[0]
        scaler._scale.fill_(float(words[0]))
    elif verb == "gradient":
        loop.armed = True
    elif verb == "rate":
        for group in (group for optimizer in loop.optimizers for group in optimizer.param_groups):
            group["lr"] *= float(words[0])
    else:
        raise ValueError(f"no such trigger: {trigger!r}")


def calm(loop: Loop, rates: list[list[float]]) -> None:
    """Before a step without a fault: no hook is armed, learning rates are what the schedule says."""
    loop.armed = False
    if not loop.scheduled:
        for optimizer, given in zip(loop.optimizers, rates, strict=True):
            for group, rate in zip(optimizer.param_groups, given, strict=True):
                group["lr"] = rate


def _strike_batch(batch: Batch, verb: str, words: list[str], row: int, rows: int) -> None:
    field = batch[words[0]]
    if verb == "replace":
        field[field == row] = (row + 1) % rows
        return
    where, value = words[1], float(words[2])
    part = field if where == "all" else field[row : row + 1]
    if verb == "multiply":
        part.mul_(value)
    elif where == "one":
        part.view(-1)[-1] = value
    else:
        part.fill_(value)


def _state(loop: Loop, key: str, name: str) -> Tensor:
    parameter = loop.parameter(name)
    found = next(optimizer.state[parameter][key] for optimizer in loop.optimizers if parameter in optimizer.state)
    return found[-1] if isinstance(found, list) else found if isinstance(found, Tensor) else torch.tensor(found)
