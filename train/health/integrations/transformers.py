"""The recorder around every update of a Hugging Face Trainer."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..incident import Incident
from ..loops import Policy
from ..recorder import FlightRecorder, Running
from ..trace.loss_roots import noted_roots
from .accelerate import counters_of


def record_trainer(
    trainer: Any,
    on_fault: str = "skip",
    say: Callable[[str], None] = print,
    extra_state: Sequence[Any] = (),
    **options: Any,
) -> TrainerSteps:
    """Put the recorder around every update of a `transformers.Trainer`: an update that goes bad is undone and named.

        record_trainer(trainer)
        trainer.train()

    An update is a forward and backward of each part of the accumulated batch, the clipping and the optimizer's step.
    Steps have the numbers of `trainer.state.global_step`, which counts an undone update too; so does the schedule of
    the rate. on_fault, say: as of `recorded`; extra_state, options: as of FlightRecorder. Raises ImportError without
    transformers.
    """
    steps = TrainerSteps(trainer, on_fault, say, extra_state, options)
    callbacks: Any = importlib.import_module("transformers").TrainerCallback

    def begin(*_: Any, **__: Any) -> None:
        steps.begin()

    def end(*_: Any, **__: Any) -> None:
        steps.end()

    members: dict[str, Any] = {"on_step_begin": begin, "on_optimizer_step": end}
    trainer.add_callback(type("FlightRecorderCallback", (callbacks,), members)())
    return steps


class TrainerSteps:
    """recorder: of the Trainer's model, optimizer and scheduler, made at the first step. incidents: what was found."""

    def __init__(
        self,
        trainer: Any,
        on_fault: str,
        say: Callable[[str], None],
        extra_state: Sequence[Any],
        options: dict[str, Any],
    ) -> None:
        self.recorder: FlightRecorder | None = None
        self.incidents: list[Incident] = []
        self._trainer, self._on_fault, self._say = trainer, on_fault, say
        self._extra, self._options = extra_state, options
        self._samples: list[Any] = []
        self._items: Any = None
        self._running: Running | None = None
        self._undone = False  # the rest of this update is left out
        self._roots: list[Tensor] = []
        self._known: Any = None
        self._policy: Policy | None = None
        self._take, self._train = trainer.get_batch_samples, trainer.training_step
        trainer.get_batch_samples, trainer.training_step = self._get_batch_samples, self._training_step

    def _get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        taken = self._take(*args, **kwargs)
        self._samples, self._items = taken
        return taken

    def begin(self) -> None:
        """Before the first part of an update."""
        trainer = self._trainer
        if self.recorder is None or self._known is not trainer.optimizer:  # train() was called again
            self._known = trainer.optimizer
            state = [trainer.lr_scheduler, *counters_of(trainer.accelerator), *self._extra]
            self.recorder = FlightRecorder(trainer.model, trainer.optimizer, state, **self._options)
            policy = self._policy = Policy(self.recorder, self._on_fault, self._say)
            policy.incidents = self.incidents
        self.recorder.step = int(trainer.state.global_step)
        samples, items = list(self._samples), self._items
        batch = samples[0] if len(samples) == 1 else samples

        def step(batch: Any) -> Tensor:
            return self._update([batch] if len(samples) == 1 else batch, items)

        self._roots, self._undone = [], False
        self._running = self.recorder.start(step, batch)

    def _update(self, samples: list[Any], items: Any) -> Tensor:
        """What the Trainer does with these parts of a batch, for the diagnosis."""
        trainer = self._trainer
        trainer.current_gradient_accumulation_steps = len(samples)
        losses: list[Tensor] = []
        for i, inputs in enumerate(samples):
            trainer.accelerator.gradient_state._set_sync_gradients(i == len(samples) - 1)
            losses.append(self._train(trainer.model_wrapped, inputs, items))
        most = trainer.args.max_grad_norm
        if most is not None and most > 0:
            trainer.accelerator.clip_grad_norm_(trainer.model_wrapped.parameters(), most)
        trainer.optimizer.step()
        return torch.stack(losses).sum()

    def _training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if self._undone:
            return torch.zeros((), device=self._trainer.args.device)
        if self._running is None or self.recorder is None:
            return self._train(model, inputs, *args, **kwargs)
        try:
            with noted_roots(self.recorder.ranks.told_root) as roots:
                value = self._train(model, inputs, *args, **kwargs)
        except Exception as error:
            self._finish(error)  # raises it, unless a bad number explains it
            return torch.zeros((), device=self._trainer.args.device)
        except BaseException:
            running, self._running = self._running, None
            assert self.recorder is not None
            self.recorder.abandon(running)
            raise
        self._roots += roots
        return value

    def end(self) -> None:
        """After the optimizer's step."""
        if self._running is not None:
            self._finish(None)

    def _finish(self, error: Exception | None) -> None:
        running, self._running = self._running, None
        assert self.recorder is not None
        assert running is not None
        assert self._policy is not None
        self._undone = error is not None
        self._policy.after(self.recorder.finish(running, None, error, self._roots))
