"""What a tool is to the suite: an adapter with `begin(loop)` and `step(batch)`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from faultbench.loops import FOLDER, Batch, Loop

FRAME = re.compile(r'File "([^"]+)", line (\d+)')


@dataclass
class Report:
    """What a tool says of a step; a field that it does not know stays empty.

    text: all that it prints. phase, family, op, module, rows: as in list.csv, with numbers for rows. line:
    `FILE.py:NUMBER`.
    """

    text: str
    phase: str = ""
    family: str = ""
    op: str = ""
    module: str = ""
    line: str = ""
    rows: list[int] = field(default_factory=list)


class Tool:
    """No tool at all, and the base of the others.

    A tool that stops the run by an exception reports it here; the suite gives the batch up and trains on, the kindest
    thing to do after it.
    """

    name, about = "nothing", "the loop as it is"

    def begin(self, loop: Loop) -> None:
        """Take a loop before its first step; `loop.on_loss` and `loop.may_update` may be replaced."""
        self.loop = loop
        self.loss = math.nan  # of the last step that was made

    def step(self, batch: Batch) -> Report | None:
        """Run one step of the loop. None: nothing to say."""
        self.run(batch)
        return None

    def run(self, batch: Batch) -> None:
        """The loop's own step, its loss kept."""
        loss = self.loop.step(batch)
        self.loss = float(loss.detach()) if loss is not None else 0.0  # an optimizer in between may lose it

    def end(self) -> None:
        """Leave the loop; whatever the tool holds is given back."""


def innermost(text: str) -> str:
    """The last line of a traceback that lies in one of the loops; "" where there is none."""
    found = [(Path(file), number) for file, number in FRAME.findall(text)]
    inside = [f"{file.name}:{number}" for file, number in found if file.parent == FOLDER]
    return inside[-1] if inside else ""
