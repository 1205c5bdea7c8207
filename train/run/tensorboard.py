"""TensorBoard event files, in TensorBoard's own format, without the steps that were undone.

The time of an event is the caller's, so that a deterministic run writes the same bytes again.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.compat.proto.tensor_pb2 import TensorProto  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.compat.proto.types_pb2 import DT_STRING  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.summary.writer.record_writer import RecordWriter

from az.engine.system.files import AppendFile, write_atomic
from az.engine.system.safe_read import MB

CONFIGURATION = "configuration"  # the tag under which TensorBoard's Text tab shows it
PATTERN = "events.out.tfevents.*.az"
MOST_EVENT = 16 * MB  # bytes; none of az's is longer
GROUPS = {
    "loss": ("policy_loss", "value_loss", "l2", "total"),
    "policy": ("entropy", "target_entropy", "max_logit"),
    "run": ("rows", "games", "lr", "window"),
    "health": ("grad_norm", "buffer_norm"),
}


def grouped(values: Mapping[str, float], health: Mapping[str, float]) -> dict[str, float]:
    """The numbers of a step and its health metrics under the names that TensorBoard shows them by."""
    found = {f"{group}/{name}": values[name] for group, names in GROUPS.items() for name in names}
    return found | {f"health/{name}": value for name, value in health.items()}


class EventFile:
    """One session's scalars and configuration: `events.out.tfevents.<session>.az` in the run's folder.

    last_step: what the run has done; later steps are taken out of the files of all sessions (-1: all).
    restarted: the wall time at which a run that was there went on, for a TensorBoard that still shows undone steps;
    None where the file goes on as if nothing had happened.
    configuration: the text of config.toml, written where the file does not end with this text already, so that a
    run that was killed and goes on writes the same bytes; "" for none.
    """

    def __init__(
        self, run: Path, session: int, last_step: int, restarted: float | None = None, configuration: str = ""
    ) -> None:
        self.run, self._path = run, run / f"events.out.tfevents.{session:04d}.az"
        self._configuration = configuration
        self._open(last_step)
        if restarted is not None:
            self._restart(last_step, restarted)

    def _restart(self, last_step: int, wall_time: float) -> None:
        """TensorBoard's own sign that what it shows of later steps was undone."""
        again = SessionLog(status=SessionLog.START)
        self._add(Event(wall_time=wall_time, step=last_step + 1, session_log=again))

    def _open(self, last_step: int) -> None:
        for path in sorted(self.run.glob(PATTERN)):
            _cut(path, last_step)
        self._file = AppendFile(self._path)
        if not self._file.size:
            self._add(Event(wall_time=0.0, file_version="brain.Event:2"))
        text = as_markdown(self._configuration)
        if self._configuration and _last_configuration(self._path) != text:
            self._add(Event(wall_time=0.0, step=max(0, last_step), summary=_text_summary(CONFIGURATION, text)))

    def scalars(self, values: Mapping[str, float], step: int, wall_time: float) -> None:
        """Write the numbers under their names (for example `loss/policy`) at this step. Raises OSError."""
        points = [Summary.Value(tag=name, simple_value=float(value)) for name, value in values.items()]
        self._add(Event(wall_time=wall_time, step=step, summary=Summary(value=points)))

    def _add(self, event: Event) -> None:
        framed = io.BytesIO()
        RecordWriter(framed).write(event.SerializeToString())
        self._file.append(framed.getvalue())

    def cut(self, last_step: int, wall_time: float | None) -> None:
        """Steps after this one were undone and will come again. Raises OSError.

        wall_time: of now; the file is then only added to, since a TensorBoard that has it open reads on where it was
        and would never see a file that took its place. Undone events leave the file when the run is next resumed. None
        takes them out at once: a deterministic run writes what it would have written without a stop in between.
        """
        if wall_time is not None:
            self._restart(last_step, wall_time)
            return
        self._file.close()
        self._open(last_step)

    def sync(self) -> None:
        """Return once every event is on the disk. Raises OSError."""
        self._file.sync()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def as_markdown(text: str) -> str:
    """Text as a block of code: TensorBoard reads Markdown, where `#` would begin a heading."""
    return "".join(f"    {line}\n" for line in text.splitlines())


def _text_summary(tag: str, text: str) -> Summary:
    """A text as TensorBoard's Text tab wants it: a tensor with one string, for the plugin `text`."""
    value = Summary.Value(
        tag=f"{tag}/text_summary",
        metadata=SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text")),
        tensor=TensorProto(
            dtype=DT_STRING,
            string_val=[text.encode()],
            tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]),
        ),
    )
    return Summary(value=[value])


def _last_configuration(path: Path) -> str | None:
    """The configuration that the file tells last; None where it tells none."""
    found = None
    for event, _ in _records(path):
        for value in event.summary.value:
            if value.tag == f"{CONFIGURATION}/text_summary" and value.tensor.string_val:
                found = value.tensor.string_val[0].decode(errors="replace")
    return found


def _cut(path: Path, last_step: int) -> None:
    """Take out events of later steps, and what follows a torn one; a file that is right is not written."""
    limits = _limits(path, last_step)

    def kept() -> Iterator[bytes]:
        return (record for limit, (event, record) in zip(limits, _records(path), strict=False) if event.step <= limit)

    if sum(map(len, kept())) != path.stat().st_size:
        write_atomic(path, kept())


def _limits(path: Path, last_step: int) -> list[int]:
    """The last step that stays, for each event: less where a restart behind it says that later ones were undone."""
    restarts = [e.step - 1 if e.session_log.status == SessionLog.START else last_step for e, _ in _records(path)]
    lowest, limits = last_step, []
    for undone in reversed(restarts):
        limits.append(lowest)
        lowest = min(lowest, undone)
    return limits[::-1]


def _records(path: Path) -> Iterator[tuple[Event, bytes]]:
    """(event, record): 8 bytes of length, 4 of checksum, the event, 4 of checksum; ends at a torn one."""
    with path.open("rb") as file:
        while len(head := file.read(12)) == 12:
            length = int.from_bytes(head[:8], "little")
            body = file.read(length + 4) if 0 < length <= MOST_EVENT else b""  # zeros are no events either
            if len(body) != length + 4:
                return
            try:
                event = Event.FromString(body[:-4])
            except DecodeError:
                return
            yield event, head + body
