"""What the recorder and the diagnosis share: the things that fly, their state, and the look at them after a step."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from .history import History, Step
from .state.extra_state import copies_of, same_bits, write
from .state.finite_check import FiniteCheck, gathered, sums_of
from .state.flat_tensors import LOST, Held, has_lost_memory
from .state.snapshot import Inventory, Snapshot, Snapshotter
from .state.starts import Start
from .trace.loss_roots import noted_roots
from .trace.operands import address, has_memory
from .trace.optimizer_hooks import hook_steps, with_inner, with_own_state
from .trace.patience import Patience
from .trace.python_values import PythonValues
from .trace.pytree import is_finite, left_alone
from .trace.surroundings import alone, frames_compiled, is_compiled


@dataclass(frozen=True)
class Seen:
    """What the post-step check found. harm: of loss, gradients, weights, buffers, optimizer, also, batch, error."""

    harm: set[str]
    loss: float | None
    update: float  # norm of what the weights moved by
    weights: float  # norm of the weights


class Session:
    """A model, its optimizers and whatever else its steps change."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer] | None,
        extra_state: Sequence[Any],
        depth: int,
    ) -> None:
        given = [optimizer] if isinstance(optimizer, torch.optim.Optimizer) else list(optimizer or [])
        self.model = model
        given += [item for item in extra_state if isinstance(item, torch.optim.Optimizer)]
        self.optimizers = [one for outer in given for one in with_own_state(outer)]
        self.scalers = [item for item in extra_state if hasattr(item, "_check_inf_per_device")]
        self.python = PythonValues()
        self.clock = time.monotonic  # by which a diagnosis ends
        self.patience: Patience | None = None  # of the diagnosis that is being made
        self._frames = frames_compiled()
        self.snapshotter = Snapshotter(model, self.optimizers, list(extra_state))
        self.history = History(depth)
        self.meant: set[int] | None = None  # tensors of the state with infinities before the first step: masks
        self._loosely_meant = {name for name, tensor in self.snapshotter.loose() if not is_finite(tensor)}
        self.changes_batch = False  # the step writes its own batch: a change of it says nothing
        self._sweep: FiniteCheck | None = None

    def has_good_scales(self) -> bool:
        """Whether there is a gradient scaler, and none whose scale no step can bring down again."""
        scales = [float(scaler.get_scale()) for scaler in self.scalers if hasattr(scaler, "get_scale")]
        return bool(self.scalers) and all(map(math.isfinite, scales))

    def rates(self) -> list[float]:
        """The learning rate of every parameter group."""
        return [float(group.get("lr", 0.0)) for o in self.optimizers for group in o.param_groups]

    def names(self) -> dict[int, tuple[str, str]]:
        """(kind, name) of every tensor of the state of now, by its address."""
        known = [*self.snapshotter.listed(), *self.snapshotter.layout().held]
        held = [(one.tensor, one.kind, one.name) for one in known]
        held += [(tensor, "also", name) for name, tensor in self.snapshotter.loose()]
        return {address(tensor): (kind, name) for tensor, kind, name in held if has_memory(tensor) and tensor.numel()}

    def unknown_optimizers(self) -> list[str]:
        """Names of optimizers that the step uses and the recorder was not given: nothing restores their state."""
        known = {id(inner) for one in self.optimizers for inner in with_inner(one)}
        found = self.python.optimizers()
        return [name for name, one in found if not any(id(inner) in known for inner in with_inner(one))]

    def is_compiled(self) -> bool:
        """Whether a step of this session runs compiled code: compiled since it began, or given so."""
        modules = (part for _, module in self.snapshotter.modules for part in module.modules())
        return frames_compiled() != self._frames or self.python.reads_compiled or any(map(is_compiled, modules))

    def left_alone(self) -> list[str]:
        """`table (torch.sparse_coo)` of the model's tensors that no snapshot holds."""
        return [name for _, module in self.snapshotter.modules for name in left_alone(
            {**dict(module.named_parameters()), **dict(module.named_buffers())}, keep_parts=False)]  # fmt: skip

    def masks(self) -> list[Tensor]:
        """Tensors of the state whose infinities are meant."""
        held = [one.tensor for one in self.snapshotter.layout().held if id(one.tensor) in (self.meant or ())]
        return held + [tensor for name, tensor in self.snapshotter.loose() if name in self._loosely_meant]

    def _harmed(self, one: Held) -> bool:
        if is_finite(one.tensor):
            return False
        return id(one.tensor) not in (self.meant or ()) or bool(torch.isnan(one.tensor).any())

    def _harmed_loosely(self, name: str, tensor: Tensor) -> bool:
        """Infinities are harm in an array; a single one is how people begin to look for a least number."""
        values = tensor.detach()
        meant = not values.ndim or name in self._loosely_meant
        return bool(torch.isnan(values).any()) if meant else not is_finite(values)

    def look(self, before: Snapshot | Start, value: Any, error: Exception | None) -> Seen:
        """One reduction over all that the step may have written; exact only where that is not finite."""
        seen = self.snapshotter.sure(lambda found, worth, is_sure: self._look(found, worth, is_sure, before, value))
        return replace(seen, harm=seen.harm | {"error"}) if error is not None else seen

    def _look(self, found: Inventory, worth: bool, is_sure: bool, before: Snapshot | Start, value: Any) -> Seen | None:
        """None where `found` is not what there is."""
        layout, grads = found.layout, self.snapshotter.gradients(found)
        if self.meant is None:
            self.meant = {id(one.tensor) for one, piece in before.layout.pieces(before.copies)
                          if one.fixed and not is_finite(piece) and not bool(torch.isnan(piece).any())}  # fmt: skip
        if self._sweep is None or self._sweep.layout is not layout:
            self._sweep = FiniteCheck(layout)
        copies = before.copies if layout is before.layout else {}
        harm: set[str] = set()
        work = self._sweep.reading(copies, grads)
        with self.snapshotter.hand.beside(work, worth):
            if not is_sure and self.snapshotter.found(in_place=True) is not found:
                return None
            loose, loss = self.snapshotter.loose(), find_loss(value)
            if any(has_lost_memory(tensor) for _, tensor in loose):
                raise RuntimeError(LOST)
            sums, weights, changes = self._sweep.rest(copies)
            sums += [*sums_of(grads), *(tensor.detach().sum() for _, tensor in loose)]
            lost = [loss.detach().reshape(())] if isinstance(loss, Tensor) else []
            told = gathered([*sums, *weights, *changes, *lost])
            loss_number = told.pop() if isinstance(loss, Tensor) else loss
            if not self.changes_batch and any(not same_bits(leaf, kept) for leaf, kept in before.batch):
                harm.add("batch")
        bad, change, size = self._sweep.out.tolist()
        ends = len(sums), len(sums) + len(weights)
        weight = math.hypot(math.sqrt(size), *told[ends[0] : ends[1]])
        update = math.hypot(math.sqrt(change), *told[ends[1] :]) if isinstance(before, Snapshot) else math.nan
        if loss_number is not None and not math.isfinite(loss_number):
            harm.add("loss")
        if not all(math.isfinite(x) for x in (bad, size, *told[: ends[0]])):
            harm |= {one.kind for one in layout.held if self._harmed(one)}
            harm |= {"also" for name, tensor in loose if self._harmed_loosely(name, tensor)}
            harm |= {"gradients" for gradient in grads.tensors if not is_finite(gradient)}
        return Seen(harm, loss_number, update, weight)

    def harm_of(self, roots: Iterable[Tensor | float]) -> set[str]:
        """{"loss"} where backward began from a bad number. Under a gradient scaler a scaled loss may overflow."""
        return {"loss"} if not self.scalers and not all(math.isfinite(root) for root in roots) else set()

    def redo(self, steps: list[Step], rates: list[float], context: Any = None, rate: float = 100.0) -> bool | None:
        """Whether kept steps, run again in order, end well, the learning rates held near these; None: not kept.

        What lies in the memory of the old batches now is put back: a loader may have filled it with later ones.
        context: to run them in. rate: how many times these rates a rate may be.
        """
        snapshots = [one.snapshot for one in steps if one.snapshot is not None]
        if len(snapshots) < len(steps):
            return None
        now = [one for snapshot in snapshots for one in copies_of([leaf for leaf, _ in snapshot.batch], [])]
        self.snapshotter.put_back(snapshots[0])
        handles = hook_steps(self.optimizers, lambda *_: self._hold_rates(rates, rate))
        try:
            with context or nullcontext(), alone():
                return all(self._redo(one, snapshot) for one, snapshot in zip(steps, snapshots, strict=True))
        except Exception:
            return False
        finally:
            for handle in handles:
                handle.remove()
            for leaf, kept in now:
                write(leaf, kept)

    def _redo(self, one: Step, snapshot: Snapshot) -> bool:
        for leaf, kept in snapshot.batch:
            write(leaf, kept)
        if one.python is not None:
            one.python.write()
        patience = self.patience
        begun = patience.before() if patience is not None else 0.0
        with patience.ends() if patience is not None else nullcontext(), noted_roots() as roots:
            value = one.function(one.batch)
        if patience is not None:
            patience.after(begun, plain=True)
        return not (self.look(snapshot, value, None).harm - {"batch"} or self.harm_of(roots))

    def _hold_rates(self, rates: list[float], most: float) -> None:
        groups = [group for o in self.optimizers for group in o.param_groups]
        for group, rate in zip(groups, rates, strict=False):
            if rate > 0 and not float(group["lr"]) <= most * rate:  # NaN too
                group["lr"] = rate


def find_loss(value: Any) -> Tensor | float | None:
    """The loss in what a step returned: itself, its first part, its `loss` (or `total`); None when there is none."""
    if isinstance(value, Tensor):
        return value if value.numel() == 1 and (value.is_floating_point()) else None
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, dict):
        parts = cast("dict[str, Any]", value)
        return find_loss(parts.get("loss", parts.get("total")))
    if isinstance(value, tuple | list):
        return find_loss(value[0]) if value else None
    return find_loss(getattr(value, "loss", getattr(value, "total", None)))
