"""What stands around a step and decides how it may be run again: compiled code, and other ranks."""

from __future__ import annotations

import gc
import sys
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

_distributed: Any = torch.distributed
SHARDED = ("FullyShardedDataParallel", "FSDPModule", "DeepSpeedEngine")  # classes whose steps need the other ranks


def frames_compiled() -> int:
    """How many frames torch.compile has looked at in this process; it rises when something is compiled."""
    utils: Any = sys.modules.get("torch._dynamo.utils")
    return int(sum(utils.counters["frames"].values())) if utils is not None else 0


def is_compiled(thing: Any) -> bool:
    """Whether this is a module or function that torch.compile made."""
    wrapped = hasattr(thing, "_torchdynamo_orig_callable") or type(thing).__name__ == "OptimizedModule"
    return wrapped or getattr(thing, "_compiled_call_impl", None) is not None


@contextmanager
def eager() -> Generator[None]:
    """Compiled functions run as they are written. A frame that torch sees under a dispatch mode is never compiled
    again (pytorch#190286), so every watched or repaired run is one of these."""
    if not frames_compiled():
        yield
        return
    stance: Any = torch.compiler.set_stance
    with stance("force_eager"):
        yield


def is_distributed() -> bool:
    """Whether this process is one rank of several."""
    return bool(_distributed.is_available() and _distributed.is_initialized() and _distributed.get_world_size() > 1)


def needs_other_ranks(modules: Iterable[nn.Module]) -> bool:
    """Whether the parameters themselves are spread over ranks: a step cannot be run on one of them."""
    names = {base.__name__ for module in modules for part in module.modules() for base in type(part).__mro__}
    return is_distributed() and bool(names & set(SHARDED))


class _Done:
    """What a collective that ran alone returns where its caller may wait for it."""

    def wait(self, *_: Any) -> bool:
        """Nothing to wait for."""
        return True

    def is_completed(self) -> bool:
        """It is."""
        return True


def _nothing(*_: Any, **__: Any) -> _Done:
    return _Done()


class _LocalReducer:
    """A model's reducer of gradients that settles nothing with other ranks."""

    def __init__(self, reducer: Any) -> None:
        self._reducer = reducer

    def _rebuild_buckets(self) -> bool:  # the order of the buckets is broadcast
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reducer, name)


@cache
def _group_of_one() -> Any:
    backend = _distributed.ProcessGroupGloo(_distributed.HashStore(), 0, 1)
    group, kind = _distributed.ProcessGroup(_distributed.HashStore(), 0, 1), _distributed.ProcessGroup.BackendType.GLOO
    group._set_default_backend(kind)
    for device in ("cpu", "cuda"):
        group._register_backend(torch.device(device), kind, backend)
    return group


@contextmanager
def _reduces_locally(model: Any) -> Generator[None]:
    """A step that raised between forward and backward left the reducer waiting: it reduces in the next backward."""
    reducer = model.reducer
    with patch.object(model, "reducer", _LocalReducer(reducer)):
        reducer._update_process_group(_group_of_one())
        try:
            yield
        finally:
            reducer._update_process_group(model.process_group)


def _own_part(outputs: list[Tensor], own: Tensor, *_: Any, **__: Any) -> _Done:
    for output in outputs:
        output.copy_(own)
    return _Done()


@contextmanager
def alone() -> Generator[None]:
    """Collectives of this rank touch no other: a replay on one rank would pair with the next step of the others."""
    if not is_distributed():
        yield
        return
    parallel: Any = nn.parallel.DistributedDataParallel
    models = [one for one in gc.get_objects() if issubclass(type(one), parallel)]  # never asks the object
    with ExitStack() as stack:
        for name in ("all_reduce", "broadcast", "reduce", "barrier", "broadcast_object_list"):
            stack.enter_context(patch.object(_distributed, name, _nothing))
        stack.enter_context(patch.object(_distributed, "all_gather", _own_part))
        for model in models:
            stack.enter_context(_reduces_locally(model))
            for flag in ("require_backward_grad_sync", "require_forward_param_sync"):
                stack.enter_context(patch.object(model, flag, False))
        yield
