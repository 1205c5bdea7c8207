"""Ways to put the recorder around a loop that is there: a generator over its batches, and a decorator of its step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import Any, Protocol

from .incident import Incident

POLICIES = ("skip", "rewind", "stop")
MOST_IN_A_ROW = 3  # faults one after the other: then the state itself is bad, and leaving batches out does not help


class Recorder(Protocol):
    """What is used of a FlightRecorder here."""

    value: Any

    def run(self, step: Callable[[Any], Any], batch: Any) -> Incident | None:
        """Run a step."""
        ...

    def rewind(self, step: int) -> bool:
        """Go back to before an earlier step."""
        ...


class FaultFound(Exception):
    """A step went bad and was undone. incident: what was wrong."""

    def __init__(self, incident: Incident, why: str = "") -> None:
        super().__init__(f"{why}{incident}")
        self.incident = incident


class Policy:
    """What follows a fault, in loops of any form: `after` is told how every step ended.

    on_fault: `skip`, `rewind` or `stop`, as in `recorded`. say: is told every incident that does not stop the loop.
    Raises ValueError for another policy.
    """

    def __init__(self, recorder: Recorder, on_fault: str = "skip", say: Callable[[str], None] = print) -> None:
        if on_fault not in POLICIES:
            raise ValueError(f"on_fault is '{on_fault}': it must be one of {', '.join(POLICIES)}.")
        self.recorder, self.on_fault, self.say = recorder, on_fault, say
        self.in_a_row = 0
        self.incidents: list[Incident] = []  # all that were found

    def after(self, incident: Incident | None) -> bool:
        """Whether the step ended well. Raises FaultFound where the loop must stop."""
        if incident is None:
            self.in_a_row = 0
            return True
        self.in_a_row += 1
        self.incidents.append(incident)
        if self.on_fault == "stop":
            raise FaultFound(incident)
        if self.in_a_row >= MOST_IN_A_ROW:
            raise FaultFound(incident, f"{self.in_a_row} steps in a row went bad, so another batch does not help. ")
        self.say(str(incident))
        if self.on_fault == "rewind" and incident.causal_step < incident.first_bad_step:
            self.recorder.rewind(incident.causal_step)
        return False


def recorded(
    recorder: Recorder,
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
    policy = Policy(recorder, on_fault, say)
    for batch in batches:
        if policy.after(recorder.run(step, batch)):
            yield recorder.value


def watched(recorder: Recorder) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
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
