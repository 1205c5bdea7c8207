"""Game rules as typed function pointers: how one compiled kernel plays every game. Imports numba; see az.engine.jit."""

from __future__ import annotations

from typing import Any

from numba.core import cgutils
from numba.experimental.function_type import _get_jit_address
from numba.extending import intrinsic
from numba.np.numpy_support import as_dtype

from az.engine.jit.compiler import JIT_OFF, Kernel
from az.engine.jit.rule_types import RuleTypes


def address(rule: Any) -> Any:
    """What the search's kernels are handed for a rule: its address, or the rule itself without the compiler.

    Four function objects as arguments took most of an empty call's 124 µs (measured), which is many simulations.
    """
    if JIT_OFF:
        return rule
    compiled = rule.compile() if isinstance(rule, Kernel) else rule
    return _get_jit_address(compiled, compiled.nopython_signatures[0])


def _rule_at(rule: str) -> Any:
    """`rule_at(address, state)` in a kernel: the rule that stands at this address, for states like this one."""
    if JIT_OFF:
        return lambda address, state: address  # noqa: ARG005

    def typed(_: Any, address: Any, state: Any) -> Any:
        kind = RuleTypes(as_dtype(state.dtype)).pointer(rule)

        def generate(context: Any, builder: Any, __: Any, arguments: Any) -> Any:
            found = cgutils.create_struct_proxy(kind)(context, builder)
            found.c_addr = found.py_addr = cgutils.get_null_value(cgutils.voidptr_t)
            found.jit_addr = builder.inttoptr(arguments[0], cgutils.voidptr_t)
            return found._getvalue()

        return kind(address, state), generate

    return intrinsic(typed)


apply_at, legal_at, outcome_at, encode_at = (_rule_at(rule) for rule in ("apply", "legal", "outcome", "encode"))
