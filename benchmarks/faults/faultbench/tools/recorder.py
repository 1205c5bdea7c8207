"""`FlightRecorder` of az.train.health, used as its page says: run, print, go on."""

from __future__ import annotations

from pathlib import Path

from faultbench.loops import Batch, Loop
from faultbench.tools.base import Report, Tool

FAMILIES = {
    "batch-not-finite": "data", "batch-value-out-of-range": "data", "domain-error": "domain",
    "softmax-of-nothing": "empty-softmax", "masked-value-used": "masked", "statistics-of-too-few": "empty-mean",
    "half-overflow": "overflow", "gradient-at-singularity": "singular-gradient", "learning-rate-spike": "rate",
    "learning-rate-not-finite": "rate", "changed-outside-the-step": "state", "state-not-finite": "state",
}  # fmt: skip


class Recorder(Tool):
    """A second incident in a row means that the state is bad already: then it goes back to an earlier step."""

    name, about = "FlightRecorder", "recorder.run(step, batch); rewind where the cause lies in an earlier step"

    def begin(self, loop: Loop) -> None:
        from az.train.health import FlightRecorder

        super().begin(loop)
        self.recorder = FlightRecorder(loop.model, loop.optimizers, [*loop.more_models, *loop.extra])
        self.begun: int | None = None  # the first step of a row of incidents

    def step(self, batch: Batch) -> Report | None:
        """Run one step."""
        number = self.recorder.step
        incident = self.recorder.run(self.loop.step, batch)
        if incident is None:
            self.loss, self.begun = float(self.recorder.value.detach()), None
            return None
        if incident.causal_step < incident.first_bad_step:
            self.recorder.rewind(incident.causal_step)
        elif self.begun is not None:
            self.recorder.rewind(self.begun - 1)
        self.begun = number if self.begun is None else self.begun
        family = FAMILIES.get(incident.cause, incident.cause)
        if incident.cause == "constant-not-finite" and incident.phase == "backward":
            family = "gradient"
        source = incident.source or ""
        return Report(
            str(incident), incident.phase, family, incident.op or "", incident.module or "", Path(source).name,
            incident.rows,
        )  # fmt: skip
