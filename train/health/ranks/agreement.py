"""The ranks of a distributed run agree at the end of every step whether it stands, and undo it together."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn

from ..trace.loss_roots import any_is_bad
from ..trace.surroundings import is_distributed, needs_other_ranks
from .collectives import Collectives, parallel_models

_distributed: Any = torch.distributed
MEETING = 30.0  # seconds in which the recorders of all ranks must have come to the end of their first step
PATIENCE = 1800.0  # seconds that a rank waits for the others, as torch.distributed does
SLICE = 1.0  # seconds after which a rank that waits looks whether another one has left
ROOM = 4096  # bytes in which a rank tells of its incident
_groups: dict[str, int] = {}  # how many recorders of this process have met, by their ranks


class Ranks:
    """Of one recorder. wanted: None: where a model is DistributedDataParallel or FSDP; True: wherever there are ranks.

    An own group of gloo carries one small sum a step; nothing of the user's groups is touched.
    """

    def __init__(self, modules: list[nn.Module], wanted: bool | None, patience: float = PATIENCE) -> None:
        self._modules, self._wanted, self.patience = modules, wanted, patience
        self.collectives: Collectives | None = None
        self.settled = True  # nothing of this step is still to be agreed on
        self.clean = False  # what this rank gave to the reduction of gradients was finite
        self.early = False  # this step was bad on this rank before any other rank came in
        self.place, self.names = 0, [0]  # of this rank in the group; the rank at each place
        self._group: Any = None
        self._store: Any = None
        self._has_looked = wanted is False
        self._to_meet = False
        self.stranded = False  # a step raised, and the others may wait for it: the error must not be swallowed

    @property
    def together(self) -> bool:
        """Whether the steps of this rank stand or fall with those of others."""
        return self._group is not None

    @property
    def told_root(self) -> Callable[[Tensor], None] | None:
        """Whom to tell before backward begins."""
        return self.collectives.told_root if self.collectives is not None else None

    def begin(self) -> None:
        """A step begins."""
        if not self._has_looked and is_distributed():
            self._has_looked = True
            self._look()
        self.settled, self.stranded = not self.together, False
        if self.collectives is not None:
            self.collectives.begin()

    def agree(self, harmed: bool, raised: Exception | None, roots: list[Tensor]) -> bool:
        """At the end of a step: whether it was harmed on any rank of those that agree."""
        self.settled = True
        if self.collectives is None:
            return False
        self.stranded = raised is not None
        if self._joined() or not (self.together or self._to_meet):
            return False
        if raised is None:
            self.collectives.end()
        elif not self.collectives.pay():
            self._to_meet = False
            self.leave(f"its step raised {type(raised).__name__}")
            return False
        if self._to_meet:
            self._meet()
        if not self.together:
            return False
        one_is = self.any(harmed)
        if not self.together:
            return False
        self.stranded, self.settled = False, not one_is
        if one_is:
            self.clean = self.collectives.own_gradients_are_good()
            self.early = self.collectives.own_gradients_are_bad() or any_is_bad(roots[:1])
        return one_is

    def any(self, yes: bool) -> bool:
        """Whether it is so on any rank; of this one alone where the others are gone."""
        flags = torch.zeros(len(self.names), dtype=torch.uint8)
        flags[self.place] = yes
        return bool(flags.any()) if self._highest(flags) else yes

    def tell(self, own: dict[str, Any]) -> list[dict[str, Any]] | None:
        """What every rank has to say, in the order of their places; None where the others are gone."""
        room = torch.zeros((len(self.names), ROOM), dtype=torch.uint8)
        said = json.dumps(own).encode()
        room[self.place, : len(said)] = torch.tensor(list(said), dtype=torch.uint8)
        told = self._highest(room)
        self.settled = True
        return [json.loads(line.numpy().tobytes().rstrip(b"\0")) for line in room] if told else None

    def leave(self, why: str) -> None:
        """From now on this rank is on its own; the others learn it where they wait for it."""
        self.settled = True
        if self._group is None:
            return
        try:
            self._store.set("left", f"rank {self.names[self.place]}: {why}")
        except Exception:  # the store is gone with its process: so is what the others wait for
            self._store = None
        self._group = None
        warnings.warn(f"the recorder of rank {self.names[self.place]} is on its own from now on: {why}", stacklevel=2)

    def _joined(self) -> bool:
        """In `with model.join():` a rank without batches answers the others' collectives, not the recorder's."""
        return self.collectives is not None and any(
            getattr(getattr(model, "_join_config", None), "enable", False) for model in self.collectives.models
        )

    def _highest(self, tensor: Tensor) -> bool:
        """Maximum over the ranks, in place; False where one of them is gone."""
        if self._group is None:
            return False
        options = _distributed.AllreduceOptions()
        options.reduceOp = _distributed.ReduceOp.MAX
        options.timeout = timedelta(seconds=2 * self.patience)  # of the group's own; `_wait` ends before
        try:
            why = self._wait(self._group.allreduce([tensor], options))
        except RuntimeError as error:
            why = f"another rank has ended ({str(error).splitlines()[0][:120]})"
        if why:
            self.leave(why)
        return not why

    def _wait(self, work: Any) -> str:
        """Why the wait was given up; "" where it was not. Raises RuntimeError where another process has ended."""
        until = time.monotonic() + self.patience
        while True:
            try:
                work.wait(timedelta(seconds=min(SLICE, self.patience)))
                return ""
            except RuntimeError:
                if work.is_completed():
                    work.wait()
                    return ""
            if self._store.check(["left"]):
                return f"it was left by {self._store.get('left').decode()}"
            if time.monotonic() > until:
                return f"the others did not end their step within {self.patience:g} s"

    def _look(self) -> None:
        """Find out who the others are."""
        models = parallel_models(self._modules)
        if not (models or self._wanted or needs_other_ranks(self._modules)):
            return
        group = models[0].process_group if models else _distributed.group.WORLD
        names = list(_distributed.get_process_group_ranks(group))
        if len(names) < 2:
            return
        self.names, self.place = names, names.index(_distributed.get_rank())
        self.collectives, self._to_meet = Collectives(models), True

    def _meet(self) -> None:
        """Make the group of those that agree, where every rank has a recorder."""
        self._to_meet = False
        names = self.names
        place = ",".join(map(str, names))
        _groups[place] = _groups.get(place, 0) + 1
        try:
            store = _distributed.distributed_c10d._get_default_store()
            self._store = _distributed.PrefixStore(f"flight-recorder/{place}/{_groups[place]}", store)
            self._store.set(f"here/{self.place}", "1")
            self._store.wait([f"here/{at}" for at in range(len(names))], timedelta(seconds=MEETING))
            if self._store.check(["left"]):
                raise RuntimeError("another rank waited in vain")
            self._group = _distributed.ProcessGroupGloo(
                self._store, self.place, len(names), timedelta(seconds=2 * MEETING)
            )
        except Exception as error:
            if self._store is not None:
                self._store.set("left", f"rank {names[self.place]}")
            warnings.warn(
                f"the recorder of rank {names[self.place]} found none on every other rank within {MEETING:g} s, so a "
                f"fault is undone on this rank alone: {str(error).splitlines()[0][:120]}", stacklevel=2,
            )  # fmt: skip
