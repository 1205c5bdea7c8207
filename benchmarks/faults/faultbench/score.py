"""Compares what a tool says with the right answer, and adds up."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from faultbench.loops import line_of
from faultbench.pairs import Pair
from faultbench.run import Outcome
from faultbench.tools import Report

COLUMNS = ("detected", "undamaged", "phase", "cause", "operation", "module", "tensor", "line", "rows", "recovered")


@dataclass
class Marks:
    """One pair: True or False for each column; None where the list does not ask."""

    pair: str
    marks: dict[str, bool | None]
    outcome: Outcome


def marks_of(pair: Pair, found: Outcome) -> Marks:
    """Mark an outcome. No answer is a wrong answer; a pair without a report can be right in recovery alone."""
    told = found.report or Report("")
    given: dict[str, bool | None] = {
        "detected": found.report is not None,
        "undamaged": found.undamaged,
        "phase": _one_of(told.phase, pair.phase),
        "cause": _one_of(told.family, pair.family),
        "operation": _one_of(plain(told.op), pair.op, plain),
        "module": _one_of(told.module, pair.module),
        "tensor": None if pair.tensor == "-" else all(word in told.text for word in pair.tensor.split()),
        "line": None if pair.line == "-" else told.line == line_of(pair.loop, pair.line),
        "rows": None if pair.rows == "-" else told.rows == [found.row],
        "recovered": found.recovered,
    }
    return Marks(pair.name, given, found)


def plain(op: str) -> str:
    """One name for an operation: aten::_softmax and SoftmaxBackward0 are `softmax`, nll_loss_forward is `nllloss`."""
    return re.sub(r"(forward|backward\d*)$", "", op.lower().removeprefix("aten::").replace("_", ""))


def _one_of(given: str, right: str, as_plain: object = None) -> bool | None:
    if right == "-":
        return None
    return given in [plain(one) if as_plain else one for one in right.split("|")]


@dataclass
class Summary:
    """All pairs of a tool: right and asked by column; clean steps and reports in them; cost by loop."""

    tool: str
    rows: list[Marks] = field(default_factory=list)
    clean_steps: int = 0
    false_alarms: dict[str, int] = field(default_factory=dict)  # by loop
    cost: dict[str, float] = field(default_factory=dict)  # by loop: time of a step / that of the bare loop

    def share(self, column: str) -> tuple[int, int]:
        """(right, asked)."""
        given = [row.marks[column] for row in self.rows if row.marks[column] is not None]
        return sum(map(bool, given)), len(given)

    def alarms(self) -> int:
        """Reports in clean steps: those of the clean loops, and those before the strike of a faulty one."""
        return sum(self.false_alarms.values()) + sum(len(row.outcome.early) for row in self.rows)


def by_column(rows: Iterable[Marks], column: str) -> list[str]:
    """The pairs that are wrong in a column."""
    return [row.pair for row in rows if row.marks[column] is False]
