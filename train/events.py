"""TensorBoard event files, written with TensorBoard's own writer.

The time of an event is the caller's, so that a deterministic run writes the same bytes again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.summary.writer.record_writer import RecordWriter

GROUPS = {
    "loss": ("policy_loss", "value_loss", "l2", "total"),
    "policy": ("entropy", "target_entropy", "max_logit"),
    "run": ("rows", "games", "lr", "window"),
    "health": ("grad_norm", "buffer_norm"),
}


def grouped(values: Mapping[str, float], signs: Mapping[str, float]) -> dict[str, float]:
    """The numbers of a step and its early signs under the names that TensorBoard shows them by."""
    found = {f"{group}/{name}": values[name] for group, names in GROUPS.items() for name in names}
    return found | {f"health/{name}": value for name, value in signs.items()}


class EventFile:
    """One session's scalars: `events.out.tfevents.<session>.az` in the run's folder."""

    def __init__(self, run: Path, session: int) -> None:
        self._file = (run / f"events.out.tfevents.{session:04d}.az").open("wb")
        self._writer = RecordWriter(self._file)
        self._add(Event(wall_time=0.0, file_version="brain.Event:2"))

    def scalars(self, values: Mapping[str, float], step: int, wall_time: float) -> None:
        """Write the numbers under their names (for example `loss/policy`) at this step."""
        points = [Summary.Value(tag=name, simple_value=float(value)) for name, value in values.items()]
        self._add(Event(wall_time=wall_time, step=step, summary=Summary(value=points)))
        self._writer.flush()

    def _add(self, event: Event) -> None:
        self._writer.write(event.SerializeToString())

    def close(self) -> None:
        """Flush and close."""
        self._writer.close()
