"""From the watched operations to the one that was guilty, and to the name of its fault."""

from __future__ import annotations

from dataclasses import dataclass

from .op import PASSING, Op
from .op_trace import OpTrace
from .operands import has_plus_infinity

# Operations that are asked for an infinity: a mask, a constant. The infinities (not the NaN) that they write are meant.
DELIBERATE = {
    "masked_fill", "where", "full", "full_like", "fill", "scalar_tensor", "index_put", "masked_scatter", "index_fill",
    "new_full",
}  # fmt: skip
MASKING = {"div", "reciprocal", "mul", "neg"}  # with a logarithm, what masks are made with
LOGS = {"log", "log2", "log10", "log1p", "logit", "xlogy", "special_xlog1py"}
EXPONENTIALS = {"exp", "expm1", "exp2", "sinh", "cosh", "special_expm1"}
FORWARD = ("data", "forward", "loss")
Meant = set[tuple[str, str | None, str]]  # (operation, module, line)


@dataclass(frozen=True)
class Birth:
    """Where the bad number was born. origin: "op"; "data", "state", "constant" when it met it first; "masked": a meant
    infinity that was not chosen away. chosen_away: the operation of forward whose infinity backward multiplied by 0.
    handed_on: the copy or view that met it first, such as autocast's."""

    op: Op
    origin: str
    chosen_away: Op | None = None
    handed_on: Op | None = None


def base(name: str) -> str:
    """`aten::addcdiv_` → `addcdiv`."""
    plain = name.partition("::")[2]
    if plain.startswith("_foreach_"):
        plain = plain.removeprefix("_foreach_")
    return plain.rstrip("_")


def find_birth(watch: OpTrace, ends: set[int], loss_bad: bool, meant: Meant | None = None) -> Birth | None:
    """The earliest guilty operation among those that led to the ends.

    ends: the operations that wrote what is bad now (loss, gradients, weights, …). A bad number that forward chose
    away again (its loss was fine) is not guilty: the operation that brought it back is. meant: operations that made
    infinities in a step that ended well.
    """
    if not ends:
        return None
    led = _ancestors(watch, ends)
    hidden = not loss_bad and not any(watch.ops[i].phase in FORWARD for i in ends)
    last_meant: Op | None = None
    passed: dict[int, Birth] = {}  # what operations that only hand numbers on were given
    for index in sorted(led):
        op = watch.ops[index]
        if not op.bad_output:
            continue
        name = base(op.name)
        passing = name in PASSING
        early = hidden and op.phase in FORWARD and not passing
        fresh = "empty" in name and not op.bad_inputs  # memory that is perhaps written before it is read
        wanted = name in DELIBERATE or key_of(op) in (meant or ())
        if not (early or fresh or (wanted and not op.output_nan) or _is_mask(watch, op, led)):
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
            first = passed[writer]
            return Birth(op, first.origin, handed_on=first.handed_on or first.op)
        if writer >= 0 or (only_inf and watch.is_meant(tensor)):
            continue
        if watch.name_of(tensor):
            return Birth(op, "state")
        if watch.is_batch(tensor):
            return Birth(op, "data")
        if not only_inf:
            return Birth(op, "constant")
    if hidden and op.phase not in FORWARD:
        return _behind(watch, op)
    if all(only_inf for _, only_inf, _ in op.bad_inputs) and op.output_nan:
        return Birth(op, "op")
    return None


def _behind(watch: OpTrace, op: Op) -> Birth:
    """Backward met what forward had chosen away. A NaN was born there; of an infinity only an exponential's is."""
    for writer, only_inf, _ in op.bad_inputs:
        made = watch.ops.get(writer)
        if made is None or made.phase not in FORWARD:
            continue
        if not only_inf:
            return find_birth(watch, {writer}, loss_bad=True) or Birth(op, "op")
        first = find_birth(watch, {writer}, loss_bad=True) if op.output_nan else None
        if first is not None and first.origin == "op" and base(first.op.name) in EXPONENTIALS:
            return Birth(op, "op", first.op)
    return Birth(op, "op")


def _is_mask(watch: OpTrace, op: Op, led: set[int]) -> bool:
    """Whether this is the logarithm of a mask: only -inf came of it, and a later operation made NaN or +inf of numbers
    that are all finite."""
    if base(op.name) not in LOGS or op.output_nan or op.bad_inputs or op.phase not in FORWARD or _has_plus(op):
        return False
    later = (watch.ops[i] for i in led if i > op.index and not watch.ops[i].bad_inputs and watch.ops[i].bad_output)
    return any(
        one.phase in FORWARD and base(one.name) not in DELIBERATE | PASSING and (one.output_nan or _has_plus(one))
        for one in later
    )


def _has_plus(op: Op) -> bool:
    return any(map(has_plus_infinity, op.outputs))


def key_of(op: Op) -> tuple[str, str | None, str]:
    """The same for one place of the code in every step."""
    return op.name, op.module, op.source


def meant_by(watch: OpTrace) -> Meant:
    """Operations of a step that ended well which made infinities of finite numbers."""
    return {key_of(op) for op in watch.ops.values() if op.bad_output and not op.output_nan and not op.bad_inputs}


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
