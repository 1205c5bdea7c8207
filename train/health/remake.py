"""Steps made again from the last copy of the state, so that the state before each of the last few is there."""

from __future__ import annotations

from typing import Any

from .history import Step
from .pace import MOST_DEPTH, MOST_MEMORY
from .session import Session
from .state.extra_state import copies_of, same_bits, write
from .state.snapshot import Snapshot
from .state.starts import Start
from .trace.loss_roots import noted_roots


def state_before(session: Session, start: Start, batch: Any) -> Snapshot | None:
    """The state before the step that began with `start`; the last steps in the history get theirs too.

    None where a step since the last copy, made again, did not end as it did: then the state is that copy, and the steps
    from there on are forgotten.
    """
    history, snapshotter = session.history, session.snapshotter
    steps = list(history.kept)
    copied = [at for at, one in enumerate(steps) if one.snapshot is not None]
    last = steps[copied[-1]]
    own = {id(leaf) for leaf, _ in start.batch}
    old = [leaf for one in steps for leaf, kept in one.inputs if id(leaf) not in own and not same_bits(leaf, kept)]
    now = copies_of(old, [])  # a loader may have filled that memory with later batches
    values = session.python.read(steps[-1].function)
    assert last.snapshot is not None
    wanted = len(steps) - _depth(last.snapshot)
    try:
        if earlier := [at for at in copied[:-1] if at <= wanted] or copied[:-1][:1]:
            _all_made_again(session, steps[earlier[-1] : copied[-1]], wanted - earlier[-1])
        ended_alike = _all_made_again(session, steps[copied[-1] :], wanted - copied[-1])
    finally:
        for leaf, kept in now:
            write(leaf, kept)
        values.write()
    if not ended_alike:
        snapshotter.put_back(last.snapshot)
        history.forget_from(last.step)
        return None
    history.recount()
    start.put_back()
    return snapshotter.take(batch)


def _depth(copy: Snapshot) -> int:
    """How many steps before a fault get a copy."""
    return max(1, min(MOST_DEPTH, MOST_MEMORY // max(1, copy.bytes())))


def _all_made_again(session: Session, steps: list[Step], wanted: int) -> bool:
    """Make these steps again, the first of which has a copy; whether they ended as they did. From number `wanted` on
    each keeps the state before it."""
    return all(_made_again(session, one, at >= wanted) for at, one in enumerate(steps))


def _made_again(session: Session, one: Step, keep: bool) -> bool:
    """Make one step again; whether it ended as it did. keep: the state before it."""
    snapshotter = session.snapshotter
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
        with noted_roots() as roots:
            value = one.function(one.batch)
    except Exception:
        return False
    seen = session.look(before, value, None)
    if seen.harm or seen.loss != one.loss or [float(root) for root in roots] != one.ends:
        return False
    if keep:
        one.snapshot, one.start = before, None
        one.update, one.weights = seen.update, seen.weights
    return True
