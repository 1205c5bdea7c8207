"""How az compiles: decorators for the rules of games and for kernels, and the cache of what was compiled."""

from az.engine.jit.compiler import (
    JIT_OFF,
    CannotCompile,
    Kernel,
    Rules,
    StateKernel,
    cache_dir,
    copy_into,
    helper,
    is_marked,
    kernel,
    mark,
    open_helper,
    python_first,
    state_kernel,
)

__all__ = [
    "JIT_OFF", "CannotCompile", "Kernel", "Rules", "StateKernel", "cache_dir", "copy_into", "helper", "is_marked",
    "kernel", "mark", "open_helper", "python_first", "state_kernel",
]  # fmt: skip
