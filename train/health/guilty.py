"""Which tensor of the state a fault hit or came from, and the module that owns it."""

from __future__ import annotations

from az.train.health.op_trace import OpTrace
from az.train.health.operands import Operand
from az.train.health.pytree import is_finite
from az.train.health.replay import Diagnosis
from az.train.health.root_cause import Birth

LARGE = 1e15  # a weight of this size explains an overflow


def owner(tensor: str | None) -> str | None:
    """`optimizer: exp_avg_sq/blocks.0.conv1.weight` → `blocks.0.conv1`; None where no module owns it."""
    name = (tensor or "").partition(": ")[2].rpartition("/")[2]
    if not name or " " in name or name.startswith("optimizer"):
        return None
    return name.rpartition(".")[0]


def guilty_tensor(found: Diagnosis, watch: OpTrace, birth: Birth) -> str | None:
    """`weights: 1.weight`, `gradients: 1.weight`, `buffers: bn.running_var`, …: what was bad before, what the guilty
    operation wrote, what it read of a size that explains it, or else the gradient that became bad first."""
    op = birth.op
    inputs = [one for one in op.operands if one.role != "result" and one.name]
    if birth.origin == "state":
        return next((one.name for one in inputs if one.nans or one.infs), None)
    if op.wrote:
        return op.wrote[0]
    largest = max(inputs, key=_size, default=None)
    only_state = all(one.name for one in op.operands if one.role != "result")  # such as a weight norm
    if birth.origin == "op" and largest is not None and (_size(largest) > LARGE or only_state):
        return largest.name
    return _first_hit(found, watch, op.index)


def _size(operand: Operand) -> float:
    return max(-operand.low, operand.high) if operand.low is not None and operand.high is not None else 0.0


def _first_hit(found: Diagnosis, watch: OpTrace, birth: int) -> str | None:
    """Of the state and the gradients that are bad after the replay, what was written first since the birth."""
    snapshotter = found.session.snapshotter
    held = snapshotter.layout().held
    names = {id(one.tensor): one.name for one in held if one.kind in ("weights", "also")}
    state = [(f"{one.kind}: {one.name}", one.tensor) for one in held]
    state += [(f"gradients: {names[id(p)]}", p.grad) for p in snapshotter.found().parameters
              if p.grad is not None and id(p) in names]  # fmt: skip
    bad = [(watch.writer(tensor), name) for name, tensor in state if not is_finite(tensor)]
    since = sorted(one for one in bad if one[0] >= birth)
    return since[0][1] if since else None
