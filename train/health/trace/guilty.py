"""Which tensor of the state a fault hit or came from, and the module that owns it."""

from __future__ import annotations

from torch import Tensor

from .op import Op
from .op_trace import OpTrace
from .operands import Operand
from .pytree import is_finite
from .root_cause import Birth

LARGE = 1e15  # a weight of this size explains an overflow


def owner(tensor: str | None) -> str | None:
    """`optimizer: exp_avg_sq/blocks.0.conv1.weight` → `blocks.0.conv1`; None where no module owns it."""
    name = (tensor or "").partition(": ")[2].rpartition("/")[2]
    if not name or " " in name or name.startswith("optimizer"):
        return None
    return name.rpartition(".")[0]


def guilty_tensor(watch: OpTrace, birth: Birth, state: list[tuple[str, Tensor]]) -> str | None:
    """`weights: 1.weight`, `gradients: 1.weight`, `buffers: bn.running_var`, …: what was bad before, what the guilty
    operation wrote, what it read of a size that explains it, or else what became bad first.

    state: (name, tensor) of all that the replay may have left bad, gradients too.
    """
    op = birth.op
    inputs = [one for one in op.operands if one.role != "result" and one.name]
    if birth.origin == "state":
        first = [one for one in birth.handed_on.operands if one.name] if birth.handed_on is not None else []
        return next((one.name for one in (*first, *inputs) if one.nans or one.infs), None)
    if op.wrote:
        return op.wrote[0]
    if op.gradient_of:
        return f"gradients: {op.gradient_of}"
    largest = max(inputs, key=_size, default=None)
    only_state = all(one.name for one in op.operands if one.role != "result")  # such as a weight norm
    if birth.origin == "op" and largest is not None and (_size(largest) > LARGE or only_state):
        return largest.name
    bad = watch.hit or [(watch.writer(tensor), name) for name, tensor in state if not is_finite(tensor)]
    since = sorted(one for one in bad if one[0] >= op.index)
    return since[0][1] if since else None


def large_state(op: Op) -> list[str]:
    """Names of the state's tensors that an operation read and that are so large that they explain an overflow."""
    return [one.name for one in op.operands if one.role != "result" and one.name and _size(one) > LARGE]


def _size(operand: Operand) -> float:
    return max(-operand.low, operand.high) if operand.low is not None and operand.high is not None else 0.0
