"""From the watched operations to the one that was guilty, and to the name of its fault."""

from __future__ import annotations

import math
from dataclasses import dataclass

from az.train.health.op_trace import Op, Operand, OpTrace

# Operations that are asked for an infinity: a mask, a constant. The infinities (not the NaN) that they write are meant.
DELIBERATE = {
    "masked_fill", "where", "full", "full_like", "fill", "scalar_tensor", "index_put", "masked_scatter", "index_fill",
    "new_full",
}  # fmt: skip
# Operations that only hand their numbers on: whatever was wrong with them is met by the next one.
PASSING = {
    "lift_fresh", "_to_copy", "to", "clone", "detach", "alias", "view", "_unsafe_view", "reshape", "slice", "select",
    "split", "split_with_sizes", "unbind", "narrow", "transpose", "t", "permute", "expand", "squeeze", "unsqueeze",
    "contiguous", "copy", "as_strided", "index", "index_select", "gather", "cat", "stack", "unfold", "_pin_memory",
}  # fmt: skip
LOGS = {"log", "log2", "log10", "log1p", "logit", "xlogy", "special_xlog1py"}
DIVISIONS = {"div", "reciprocal", "true_divide", "remainder", "fmod", "floor_divide", "addcdiv", "rsqrt"}
EXPONENTIALS = {"exp", "expm1", "exp2", "sinh", "cosh", "special_expm1"}
DOMAIN = {"pow", "acos", "asin", "acosh", "atanh", "lgamma", "digamma", "erfinv", "tan", "special_erfinv"}
SOFTMAX = {"_softmax", "_log_softmax", "softmax", "log_softmax", "logsumexp"}
STATISTICS = {"mean", "var", "std", "var_mean", "std_mean", "median", "nll_loss_forward", "binary_cross_entropy"}
SINGULAR = ("Sqrt", "Rsqrt", "Norm", "Pow", "Log", "Div", "Acos", "Asin", "Atan2", "Std", "Var", "Cdist", "Prod",
            "Reciprocal", "Xlogy", "Acosh", "Atanh", "Linalg")  # fmt: skip


@dataclass(frozen=True)
class Birth:
    """Where the bad number was born. origin: "op"; "data", "state", "constant" when it met it first; "masked": a meant
    infinity that was not chosen away."""

    op: Op
    origin: str


def base(name: str) -> str:
    """`aten::addcdiv_` → `addcdiv`."""
    plain = name.partition("::")[2]
    if plain.startswith("_foreach_"):
        plain = plain.removeprefix("_foreach_")
    return plain.rstrip("_")


def find_birth(watch: OpTrace, ends: set[int], loss_bad: bool) -> Birth | None:
    """The earliest guilty operation among those that led to the ends.

    ends: the operations that wrote what is bad now (loss, gradients, weights, …). A bad number that forward chose
    away again (its loss was fine) is not guilty: the operation that brought it back is.
    """
    if not ends:
        return None
    led = _ancestors(watch, ends)
    hidden = not loss_bad and not any(watch.ops[i].phase in ("forward", "loss", "data") for i in ends)
    last_meant: Op | None = None
    passed: dict[int, Birth] = {}  # what operations that only hand numbers on were given
    for index in sorted(led):
        op = watch.ops[index]
        if not op.bad_output:
            continue
        name = base(op.name)
        passing = name in PASSING
        early = hidden and op.phase in ("data", "forward", "loss") and not passing
        fresh = "empty" in name and not op.bad_inputs  # memory that is perhaps written before it is read
        if not (early or fresh or (name in DELIBERATE and not op.output_nan)):
            birth = _judge(watch, op, hidden, passed)
            if birth is not None and birth.origin in ("data", "state") and passing:
                passed[index] = birth
            elif birth is not None and not (hidden and passing and op.phase != "backward"):
                return birth
        last_meant = op
    return next(iter(passed.values()), Birth(last_meant, "masked") if last_meant else None)


def _judge(watch: OpTrace, op: Op, hidden: bool, passed: dict[int, Birth]) -> Birth | None:
    """Whether this operation is the guilty one, all operations before it being innocent."""
    if not op.bad_inputs:
        return Birth(op, "op")
    unwritten = [writer for writer, _, _ in op.bad_inputs if writer >= 0 and "empty" in watch.ops[writer].name]
    if unwritten:
        return Birth(watch.ops[unwritten[0]], "op")
    for writer, only_inf, tensor in op.bad_inputs:
        if writer in passed:
            return Birth(op, passed[writer].origin)
        if writer >= 0 or (only_inf and watch.is_meant(tensor)):
            continue
        if watch.name_of(tensor):
            return Birth(op, "state")
        if watch.is_batch(tensor):
            return Birth(op, "data")
        if not only_inf:
            return Birth(op, "constant")
    only_inf = all(only_inf for _, only_inf, _ in op.bad_inputs)
    if (only_inf and op.output_nan) or (hidden and op.phase not in ("data", "forward", "loss")):
        return Birth(op, "op")
    return None


def _ancestors(watch: OpTrace, ends: set[int]) -> set[int]:
    found: set[int] = set()
    waiting = [i for i in ends if i in watch.ops]
    while waiting:
        index = waiting.pop()
        if index in found:
            continue
        found.add(index)
        waiting += [writer for writer, _, _ in watch.ops[index].bad_inputs if writer in watch.ops]
    return found


def classify(birth: Birth) -> str:
    """The id of the fault (a key of CAUSES)."""
    op = birth.op
    if birth.origin == "data":
        return "batch-not-finite"
    if birth.origin == "state":
        return "state-not-finite"
    if birth.origin == "constant":
        return "constant-not-finite"
    if birth.origin == "masked":
        return "masked-value-used"
    inputs = [o for o in op.operands if o.role != "result"]
    results = [o for o in op.operands if o.role == "result"]
    if op.phase == "optimizer" and not all(map(math.isfinite, op.rates)) and " ".join(op.wrote).count("weights:"):
        return "learning-rate-not-finite"
    if any(x != x or abs(x) == float("inf") for x in op.scalars) and not op.bad_inputs:
        return "constant-not-finite"
    if op.phase == "optimizer":
        return _optimizer_fault(op, inputs)
    if "batch_norm" in op.name and op.phase != "backward" and op.wrote:
        return _buffer_fault(inputs)
    if op.phase == "backward" and op.node.startswith(SINGULAR):
        kind = _by_operation(op, inputs, results)
        return kind if kind == "half-overflow" else "gradient-at-singularity"
    return _by_operation(op, inputs, results)


def _by_operation(op: Op, inputs: list[Operand], results: list[Operand]) -> str:
    name = base(op.name)
    low = min((o.low for o in inputs if o.low is not None), default=0.0)
    if name in LOGS:
        edge = -1.0 if name in ("log1p", "special_xlog1py") else 0.0
        return "log-of-negative" if low < edge else "log-of-zero"
    if name in DIVISIONS:
        return _division(op, inputs, results)
    if name in EXPONENTIALS:
        return "exp-overflow"
    if name == "sqrt":
        return "root-of-negative"
    if name in DOMAIN:
        huge = max((max(-o.low, o.high) for o in inputs if o.low is not None and o.high is not None), default=0.0)
        big = name == "pow" and huge > 1 and not any(o.nans for o in results)  # a square of a negative number as well
        return "overflow" if big else "domain-error"
    if name in SOFTMAX:
        return (
            "inf-minus-inf"
            if any(o.infs and o.high is not None and o.high > 1e30 for o in inputs)
            else "softmax-of-nothing"
        )
    if op.bad_inputs and name in ("mul", "dot", "mm", "bmm", "addmm", "mv", "addcmul"):
        return "inf-times-zero"
    if op.bad_inputs and name in ("add", "sub", "rsub", "sum", "mean", "cumsum"):
        return "inf-minus-inf"
    if name in STATISTICS and (not inputs or _count(inputs[0]) <= 1 or not any(o.infs for o in results)):
        return "statistics-of-too-few"
    if name.startswith(("empty", "new_empty")):
        return "uninitialised-memory"
    if any(o.dtype == "float16" for o in results):
        return "half-overflow"
    return "overflow" if any(o.infs or o.nans for o in results) else "not-a-number"


def _division(op: Op, inputs: list[Operand], results: list[Operand]) -> str:
    name = base(op.name)
    divisors = (
        inputs[-1:] if name in ("div", "true_divide", "remainder", "fmod", "floor_divide", "addcdiv") else inputs[:1]
    )
    if name == "rsqrt" and any(o.low is not None and o.low < 0 for o in divisors):
        return "root-of-negative"
    scalar_zero = len(inputs) == 1 and name == "div" and 0.0 in op.scalars
    if any(o.zeros for o in divisors) or scalar_zero:
        return (
            "zero-over-zero"
            if any(o.nans for o in results) and not any(o.infs for o in results)
            else "division-by-zero"
        )
    if op.bad_inputs:
        return "inf-minus-inf"
    return "half-overflow" if any(o.dtype == "float16" for o in results) else "overflow"


def _optimizer_fault(op: Op, inputs: list[Operand]) -> str:
    wrote = " ".join(op.wrote)
    second = "exp_avg_sq" in wrote or "square_avg" in wrote or "sum/" in wrote
    if second:
        return "second-moment-overflow"
    if base(op.name) in ("addcdiv", "div", "fused_adam", "_fused_adam", "_fused_adamw") and any(
        o.zeros and ("exp_avg_sq" in o.name or o.role == "tensor2") for o in inputs
    ):
        return "second-moment-vanished"
    if base(op.name) in ("mul", "square", "addcmul", "pow"):
        return "second-moment-overflow" if base(op.name) != "mul" else "update-overflow"
    return "update-overflow"


def _buffer_fault(inputs: list[Operand]) -> str:
    first = inputs[0]
    values = _count(first) // max(1, first.shape[1] if len(first.shape) > 1 else 1)
    return "variance-of-one-value" if values <= 1 else "running-average-not-finite"


def _count(operand: Operand) -> int:
    total = 1
    for size in operand.shape:
        total *= size
    return total
