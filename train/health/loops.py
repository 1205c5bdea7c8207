"""Ways to put the recorder around a loop that is there: a generator over its batches, and a decorator of its step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import Any

from .incident import Incident
from .recorder import FlightRecorder

POLICIES = ("skip", "rewind", "stop")
MOST_IN_A_ROW = 3  # faults one after the other: then the state itself is bad, and leaving batches out does not help


class FaultFound(Exception):
    """A step went bad and was undone. incident: what was wrong."""

    def __init__(self, incident: Incident, why: str = "") -> None:
        super().__init__(f"{why}{incident}")
        self.incident = incident


def recorded(
    recorder: FlightRecorder,
    batches: Iterable[Any],
    step: Callable[[Any], Any],
    on_fault: str = "skip",
    say: Callable[[str], None] = print,
) -> Iterator[Any]:
    """What `step(batch)` returns, of every batch whose step ended well.

        for loss in recorded(recorder, loader, step):
            ...

    on_fault: `skip` leaves the batch out; `rewind` also goes back to before the step that caused the fault, where that
    is another one and still kept; `stop` raises FaultFound. say: is told every incident. Raises FaultFound after three
    faults in a row, and ValueError for another policy.
    """
    if on_fault not in POLICIES:
        raise ValueError(f"on_fault is '{on_fault}': it must be one of {', '.join(POLICIES)}.")
    row = 0
    for batch in batches:
        incident = recorder.run(step, batch)
        if incident is None:
            row = 0
            yield recorder.value
            continue
        row += 1
        if on_fault == "stop":
            raise FaultFound(incident)
        if row >= MOST_IN_A_ROW:
            raise FaultFound(incident, f"{row} steps in a row went bad, so another batch does not help. ")
        say(str(incident))
        if on_fault == "rewind" and incident.causal_step < incident.first_bad_step:
            recorder.rewind(incident.causal_step)


def watched(recorder: FlightRecorder) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    """Decorates `step(batch)`: it returns what it did, and raises FaultFound, everything undone, where it went bad.

    @watched(recorder)
    def step(batch): ...
    """

    def decorate(step: Callable[[Any], Any]) -> Callable[[Any], Any]:
        @wraps(step)
        def run(batch: Any) -> Any:
            incident = recorder.run(step, batch)
            if incident is not None:
                raise FaultFound(incident)
            return recorder.value

        return run

    return decorate
