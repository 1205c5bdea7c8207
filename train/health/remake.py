"""Steps made again from the last copy of the state, so that the state before each of the last few is there."""

from __future__ import annotations

from typing import Any

from az.train.health.history import Step
from az.train.health.pace import MOST_DEPTH, MOST_MEMORY
from az.train.health.session import Session
from az.train.health.state.extra_state import copies_of, same_bits, write
from az.train.health.state.snapshot import Snapshot
from az.train.health.state.starts import Start


def state_before(session: Session, start: Start, batch: Any) -> Snapshot | None:
    """The state before the step that began with `start`; the last steps in the history get theirs too.

    None where a step, made again, did not end as it did: then the state is that of before the oldest step kept, and
    that step and all later ones are forgotten.
    """
    history, snapshotter = session.history, session.snapshotter
    steps = list(history.kept)
    own = {id(leaf) for leaf, _ in start.batch}
    old = [leaf for one in steps for leaf, kept in one.inputs if id(leaf) not in own and not same_bits(leaf, kept)]
    now = copies_of(old, [])  # a loader may have filled that memory with later batches
    values = session.python.read(steps[-1].function)
    try:
        ended_alike = all(_made_again(session, steps, at) for at in range(_first(steps), len(steps)))
    finally:
        for leaf, kept in now:
            write(leaf, kept)
        values.write()
    history.recount()
    if not ended_alike:
        oldest = steps[0].snapshot
        assert oldest is not None
        snapshotter.put_back(oldest)
        history.forget_from(steps[0].step)
        return None
    start.put_back()
    return snapshotter.take(batch)


def _first(steps: list[Step]) -> int:
    """Where to begin: the newest copy from which the last few steps can be had."""
    assert steps
    assert steps[0].snapshot is not None
    each = max(1, steps[0].snapshot.bytes())
    wanted = max(1, min(MOST_DEPTH, MOST_MEMORY // each))
    copied = [at for at, one in enumerate(steps) if one.snapshot is not None]
    return max([at for at in copied if at <= len(steps) - wanted] or copied[:1])


def _made_again(session: Session, steps: list[Step], at: int) -> bool:
    """Make one of these steps again; whether it ended as it did."""
    one, snapshotter = steps[at], session.snapshotter
    if one.start is not None:
        one.start.put_back()
        before = snapshotter.take(one.batch)
    else:
        assert one.snapshot is not None
        before = one.snapshot
        snapshotter.put_back(before)
    if one.python is not None:
        one.python.write()
    try:
        value = one.function(one.batch)
    except Exception:
        return False
    seen = session.look(before, value, None)
    if seen.harm or seen.loss != one.loss:
        return False
    each = max(1, before.bytes())
    if len(steps) - at <= max(1, min(MOST_DEPTH, MOST_MEMORY // each)):
        one.snapshot, one.start = before, None
        one.update, one.weights = seen.update, seen.weights
    return True
