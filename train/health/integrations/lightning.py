"""The recorder around every step of a Lightning Trainer."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from ..incident import Incident
from ..loops import Policy
from ..recorder import FlightRecorder


def lightning_callback(
    on_fault: str = "skip", say: Callable[[str], None] = print, extra_state: Sequence[Any] = (), **options: Any
) -> Any:
    """A callback for `Trainer(callbacks=[…])`: a batch whose step goes bad is undone, named and left out.

        trainer = Trainer(callbacks=[lightning_callback()])

    Its `recorder` is a FlightRecorder of the LightningModule, the Trainer's optimizers and its schedulers, its
    `incidents` what was found. `trainer.global_step` does not count an undone step; what `self.log` wrote in it stays.
    on_fault, say: as of `recorded`; extra_state, options: as of FlightRecorder. With `lightning` or
    `pytorch_lightning`, whichever is there; raises ImportError where neither is.
    """
    try:
        pytorch: Any = importlib.import_module("lightning.pytorch")
    except ImportError:
        pytorch = importlib.import_module("pytorch_lightning")
    steps = _Steps(on_fault, say, extra_state, options)

    def begin(_: Any, trainer: Any, pl_module: Any) -> None:
        steps.begin(trainer, pl_module)

    def end(_: Any, trainer: Any, *__: Any) -> None:
        steps.end(trainer)

    members: dict[str, Any] = {
        "__doc__": "The flight recorder around every step.",
        "on_train_start": begin,
        "on_train_end": end,
        "on_exception": end,
        "recorder": property(lambda _: steps.recorder),
        "incidents": property(lambda _: steps.incidents),
    }
    return type("FlightRecorderCallback", (pytorch.Callback,), members)()


class _Steps:
    """Stands where the Trainer runs one batch, with or without an optimizer step behind it."""

    def __init__(
        self, on_fault: str, say: Callable[[str], None], extra_state: Sequence[Any], options: dict[str, Any]
    ) -> None:
        self._on_fault, self._say, self._extra, self._options = on_fault, say, extra_state, options
        self.recorder: FlightRecorder | None = None
        self.incidents: list[Incident] = []

    def begin(self, trainer: Any, model: Any) -> None:
        """Take the place of the two loops' `run`, which has one batch among its arguments."""
        loop = trainer.fit_loop.epoch_loop
        schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
        counts = [loop.automatic_optimization.optim_progress, loop.manual_optimization.optim_step_progress]
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        state = [*schedulers, *counts, *([scaler] if scaler is not None else []), *self._extra]
        self.recorder = FlightRecorder(model, list(trainer.optimizers), state, **self._options)
        policy = Policy(self.recorder, self._on_fault, self._say)
        policy.incidents = self.incidents
        for one in (loop.automatic_optimization, loop.manual_optimization):
            one.run = _recorded_run(self.recorder, policy, one.run)

    def end(self, trainer: Any) -> None:
        """The loops' own `run` again."""
        loop = trainer.fit_loop.epoch_loop
        for one in (loop.automatic_optimization, loop.manual_optimization):
            if "run" in vars(one):
                del one.run


def _recorded_run(recorder: FlightRecorder, policy: Policy, run: Callable[..., Any]) -> Callable[..., Any]:
    def recorded_run(*args: Any) -> Any:
        *others, kwargs = args  # the optimizer and the batch's number, and what training_step is given
        first = next(iter(kwargs))

        def step(batch: Any) -> Any:
            return run(*others, type(kwargs)([(first, batch), *list(kwargs.items())[1:]]))

        return recorder.value if policy.after(recorder.run(step, kwargs[first])) else {}

    return recorded_run
