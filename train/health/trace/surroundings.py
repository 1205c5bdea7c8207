"""What stands around a step and decides how it may be run again: compiled code, and other ranks."""

from __future__ import annotations

import gc
import sys
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any, cast
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


# What a collective gives where every rank sent what this one sends; each takes the arguments of torch's own.


def _own_part(outputs: list[Tensor], own: Tensor, *_: Any, **__: Any) -> _Done:
    for output in outputs:
        output.copy_(own)
    return _Done()


def _own_parts(outputs: list[list[Tensor]], own: list[Tensor], *_: Any, **__: Any) -> _Done:
    for each, tensor in zip(outputs, own, strict=False):
        _own_part(each, tensor)
    return _Done()


def _own_in_one(output: Tensor, own: Tensor, *_: Any, **__: Any) -> _Done:
    """output: the parts of all ranks, one behind the other or stacked."""
    output.view(-1, own.numel()).copy_(own.reshape(1, -1)) if own.numel() else None
    return _Done()


def _own_share(output: Tensor, whole: Tensor | list[Tensor], *_: Any, group: Any = None, **__: Any) -> _Done:
    """whole: what this rank sends to each."""
    rank = _distributed.get_rank(group)
    parts = list(whole.view(-1, output.numel())) if isinstance(whole, Tensor) and output.numel() else whole
    output.copy_(cast("Tensor", parts[rank]).view_as(output))
    return _Done()


def _exchanged(outputs: Tensor | list[Tensor], own: Tensor | list[Tensor], *_: Any, **__: Any) -> _Done:
    single = isinstance(outputs, Tensor)
    pairs = [(outputs, own)] if single else zip(outputs, own, strict=False)
    for output, sent in cast("Any", pairs):
        output.copy_(sent) if output.shape == sent.shape else output.zero_()
    return _Done()


def _gathered(own: Tensor, outputs: list[Tensor] | None = None, *_: Any, gather_list: Any = None, **__: Any) -> _Done:
    return _own_part(outputs or gather_list or [], own)


def _own_object(outputs: list[Any], own: Any, *_: Any, **__: Any) -> None:
    outputs[:] = [own] * len(outputs)


def _gathered_object(own: Any, outputs: Any = None, *_: Any, object_gather_list: Any = None, **__: Any) -> None:
    _own_object(outputs or object_gather_list or [], own)


def _no_works(*_: Any) -> list[Any]:
    return []


COLLECTIVES: dict[str, Any] = {
    **dict.fromkeys(
        ("all_reduce", "all_reduce_coalesced", "broadcast", "reduce", "barrier", "monitored_barrier", "scatter",
         "broadcast_object_list", "send", "recv", "isend", "irecv"), _nothing),
    "all_gather": _own_part, "all_gather_coalesced": _own_parts, "gather": _gathered,
    **dict.fromkeys(("all_gather_into_tensor", "all_gather_single"), _own_in_one),
    **dict.fromkeys(("reduce_scatter", "reduce_scatter_tensor", "reduce_scatter_single"), _own_share),
    **dict.fromkeys(("all_to_all", "all_to_all_single"), _exchanged),
    "all_gather_object": _own_object, "gather_object": _gathered_object,
    "batch_isend_irecv": _no_works,
}  # fmt: skip


@contextmanager
def alone() -> Generator[None]:
    """Collectives of this rank touch no other: a replay on one rank would pair with the next step of the others."""
    if not is_distributed():
        yield
        return
    parallel: Any = nn.parallel.DistributedDataParallel
    models = [one for one in gc.get_objects() if issubclass(type(one), parallel)]  # never asks the object
    with ExitStack() as stack:
        for name, own in COLLECTIVES.items():
            if hasattr(_distributed, name):  # some came with later versions of torch
                stack.enter_context(patch.object(_distributed, name, own))
        for model in models:
            stack.enter_context(_reduces_locally(model))
            for flag in ("require_backward_grad_sync", "require_forward_param_sync"):
                stack.enter_context(patch.object(model, flag, False))
        yield
