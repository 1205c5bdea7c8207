"""The recorder of a loop that accelerate has prepared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..recorder import FlightRecorder
from ..state.extra_state import Attributes


def accelerate_recorder(accelerator: Any, extra_state: Sequence[Any] = (), **options: Any) -> FlightRecorder:
    """A recorder of all that an `accelerate.Accelerator` has prepared: models, optimizers, schedulers and scaler.

        recorder = accelerate_recorder(accelerator)
        for batch in loader:
            with recorder.step(batch):
                ...

    The accelerator's own count of steps, by which it accumulates gradients, is put back with the rest. extra_state,
    options: as of FlightRecorder. Raises ValueError where nothing was prepared yet.
    """
    models = list(accelerator._models)
    if not models:
        raise ValueError("accelerate has no model yet: call accelerator.prepare(model, optimizer, loader) first.")
    state = [*accelerator._schedulers, *extra_state, *counters_of(accelerator)]
    return FlightRecorder(models[0] if len(models) == 1 else models, list(accelerator._optimizers), state, **options)


def counters_of(accelerator: Any) -> list[Any]:
    """What of an accelerator a step changes: its scaler, its count, and whether gradients are synchronized now."""
    scaler = getattr(accelerator, "scaler", None)
    shared = Attributes(accelerator.gradient_state, ("sync_gradients",))
    return [*([scaler] if scaler is not None else []), Attributes(accelerator, ("step",)), shared]
