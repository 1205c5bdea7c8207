"""From the guilty operation and what its tensors held to the name of the fault, and to the way out."""

from __future__ import annotations

import math

import torch

from .op import Op
from .operands import Operand
from .root_cause import EXPONENTIALS, LOGS, Birth, base

DIVISIONS = {"div", "reciprocal", "true_divide", "remainder", "fmod", "floor_divide", "addcdiv", "rsqrt"}
DOMAIN = {"pow", "acos", "asin", "acosh", "atanh", "lgamma", "digamma", "erfinv", "tan", "special_erfinv"}
SOFTMAX = {"_softmax", "_log_softmax", "softmax", "log_softmax", "logsumexp"}
STATISTICS = {"mean", "var", "std", "var_mean", "std_mean", "median", "nll_loss_forward", "nll_loss2d_forward",
              "binary_cross_entropy"}  # fmt: skip
SINGULAR = ("Sqrt", "Rsqrt", "Norm", "Pow", "Log", "Div", "Acos", "Asin", "Atan2", "Std", "Var", "Cdist", "Prod",
            "Reciprocal", "Xlogy", "Acosh", "Atanh", "Linalg")  # fmt: skip
LABELED = {"nll_loss_forward", "nll_loss2d_forward"}
LARGEST = {str(kind).removeprefix("torch."): torch.finfo(kind).max
           for kind in (torch.float16, torch.bfloat16, torch.float32, torch.float64)}  # fmt: skip


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
    if birth.chosen_away is not None:
        return "exp-overflow"
    if any(x != x or abs(x) == float("inf") for x in op.scalars) and not op.bad_inputs:
        return "inf-times-zero" if _is_masking(op, inputs, results) else "constant-not-finite"
    if op.phase == "optimizer":
        return _optimizer_fault(op, inputs, results)
    if "batch_norm" in op.name and op.phase != "backward" and op.wrote:
        return _buffer_fault(op, inputs)
    if op.phase == "backward" and op.node.startswith(SINGULAR):
        kind = _by_operation(op, inputs, results)
        return kind if kind == "half-overflow" else "gradient-at-singularity"
    return _by_operation(op, inputs, results)


def _by_operation(op: Op, inputs: list[Operand], results: list[Operand]) -> str:
    name = base(op.name)
    if (special := _of_one_kernel(name, op, inputs, results)) is not None:
        return special
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
        if name == "pow" and _is_inverse(op, inputs, results):
            return "division-by-zero"
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
    if op.grown and not op.bad_inputs:
        return "exp-overflow"  # each exponential was finite, what was made of them is not
    if any(o.dtype == "float16" for o in results):
        return "half-overflow"
    large = bool(op.bad_inputs) or _may_overflow(inputs)
    if any(o.infs for o in results) or (any(o.nans for o in results) and large):
        return "overflow"
    return "not-a-number"


def _is_inverse(op: Op, inputs: list[Operand], results: list[Operand]) -> bool:
    """0 to a negative power."""
    negative = any(x < 0 for x in op.scalars) or any(o.low is not None and o.low < 0 for o in inputs[1:])
    return negative and inputs[0].zeros > 0 and any(o.infs for o in results)


def _of_one_kernel(name: str, op: Op, inputs: list[Operand], results: list[Operand]) -> str | None:
    """Kernels that divide, take a softmax or a mean inside, where no operation shows it."""
    nans = any(o.nans for o in results)
    if name.startswith("_scaled_dot_product"):
        return None if not nans or _may_overflow(inputs) else "softmax-of-nothing"
    if "norm" in name and nans and not op.bad_inputs and not _may_overflow(inputs):
        return "zero-over-zero"  # a weight norm of a row of zeros, a layer norm of equal numbers without an eps
    if name in ("_ctc_loss", "ctc_loss") and not op.bad_inputs:
        return "no-alignment"
    if name in LABELED and nans and not op.bad_inputs:
        return "statistics-of-too-few"  # the labels that count weigh 0 together
    return None


def _may_overflow(operands: list[Operand]) -> bool:
    """Whether squares of the operands, added up, could exceed the largest number of their kind."""
    for one in operands:
        if one.low is not None and one.high is not None and one.dtype in LARGEST:
            most = max(-one.low, one.high)
            if most > math.sqrt(LARGEST[one.dtype] / max(1, _count(one))):
                return True
    return False


def _is_masking(op: Op, inputs: list[Operand], results: list[Operand]) -> bool:
    """(1 - mask) * -inf: 0 times the infinity is NaN."""
    return base(op.name) == "mul" and any(o.zeros for o in inputs) and any(o.nans for o in results)


def fix_for(cause: str, birth: Birth) -> str | None:
    """What to do, in the words of the operation; None where those of the cause say it."""
    name = base(birth.op.name)
    if birth.chosen_away is not None:
        return (
            "Clamp the exponent (such as a log-ratio) before the exponential: a choice after it, such as min or where, "
            "leaves infinity times 0 in backward."
        )
    if cause == "statistics-of-too-few" and name in LABELED:
        return (
            "No label of this batch counts (all are ignore_index, or of weight 0): skip such a batch, or divide the "
            "summed loss by the number of labels that count, at least 1."
        )
    if cause == "zero-over-zero" and "weight_norm" in name:
        return "A row of the weight is all 0 and has no direction: give it a small number, or leave weight_norm away."
    if cause == "zero-over-zero" and "norm" in name:
        return "Give the norm an eps above 0: what it divides by is 0."
    if cause == "inf-times-zero" and name == "mul" and not birth.op.bad_inputs:
        return "Write the mask with masked_fill or where: 0 times infinity is NaN."
    return None


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


def _optimizer_fault(op: Op, inputs: list[Operand], results: list[Operand]) -> str:
    wrote = " ".join(op.wrote)
    is_of_a_state = "weights:" in wrote or "optimizer:" in wrote
    if base(op.name) in ("div", "true_divide") and not op.bad_inputs and not is_of_a_state:
        kind = _division(op, inputs, results)  # by a norm of 0, where gradients are clipped by hand
        if kind != "overflow":
            return kind
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


def _buffer_fault(op: Op, inputs: list[Operand]) -> str:
    first = inputs[0]
    values = _count(first) // max(1, first.shape[1] if len(first.shape) > 1 else 1)
    if values <= 1:
        return "variance-of-one-value"
    return "running-average-not-finite" if op.bad_inputs else "variance-overflow"


def _count(operand: Operand) -> int:
    total = 1
    for size in operand.shape:
        total *= size
    return total
