"""torch.autograd.set_detect_anomaly: raises where a node of backward returns NaN."""

from __future__ import annotations

import re
import warnings

import torch

from faultbench.loops import Batch
from faultbench.tools.base import Report, Tool, innermost

RETURNED = re.compile(r"Function '(\w+?)\d*' returned nan values")


class Anomaly(Tool):
    name, about = "anomaly mode", "torch.autograd.set_detect_anomaly(True) around each step"

    def step(self, batch: Batch) -> Report | None:
        """Run one step; the line is the one of forward that torch's warning leads to."""
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                with torch.autograd.set_detect_anomaly(True):
                    self.run(batch)
            except RuntimeError as error:
                found = RETURNED.search(str(error))
                if not found:
                    raise
                text = "\n".join(str(one.message) for one in warned if "Traceback of forward" in str(one.message))
                return Report(f"{text}\n{error}", phase="backward", op=found[1], line=innermost(text))
        return None
