"""One operation of a watched step, and what it met."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from .operands import Operand

# Operations that only hand their numbers on: whatever was wrong with them is met by the next one.
PASSING = {
    "lift_fresh", "_to_copy", "to", "clone", "detach", "alias", "view", "_unsafe_view", "reshape", "slice", "select",
    "split", "split_with_sizes", "unbind", "narrow", "transpose", "t", "permute", "expand", "squeeze", "unsqueeze",
    "contiguous", "copy", "as_strided", "index", "index_select", "gather", "cat", "stack", "unfold", "_pin_memory",
}  # fmt: skip


@dataclass
class Op:
    """One operation of the watched step."""

    index: int
    name: str  # aten::log
    phase: str  # data, forward, loss, backward, optimizer
    module: str | None  # None outside of the model
    source: str
    node: str = ""  # the autograd node that it belongs to, in backward
    forward: int = -1  # index of the forward operation of that node
    bad_inputs: list[tuple[int, bool, Tensor]] = field(default_factory=list)  # (writer or -1, only inf, tensor)
    bad_output: bool = False
    output_nan: bool = False
    operands: list[Operand] = field(default_factory=list)
    scalars: list[float] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    wrote: list[str] = field(default_factory=list)  # names of the state's tensors that it left bad
    rates: list[float] = field(default_factory=list)  # learning rates, in the optimizer
    gradient_of: str = ""  # the parameter whose gradient it made last, in a hook or in adding it up
    grown: bool = False  # it was given large finite numbers that an exponential made


def only_follows(ops: Mapping[int, Op], bad: list[tuple[int, bool, Tensor]], hidden: bool) -> bool:
    """Whether an operation only hands on the NaN of earlier ones, which are looked at before it.

    bad: as in `Op.bad_inputs`. hidden: it is of backward, which began from a good number: forward is innocent then.
    """
    writers = [ops[writer] for writer, only_inf, _ in bad if writer in ops and not only_inf]
    return len(writers) == len(bad) > 0 and all(
        op.name.partition("::")[2].rstrip("_") not in PASSING
        and "empty" not in op.name
        and (op.phase == "backward" or not hidden)
        for op in writers
    )
