"""Runs a script as Python itself would, under watch."""

from __future__ import annotations

import os
import runpy
import sys

from .report import told
from .watch import FaultStop, Watch

FAULT = 3  # exit status after a fault


def run_script(path: str, arguments: list[str], package: str) -> int:
    """Run a script as `__main__`; its exit status where it ends by itself, 3 where a number went bad.

    What it raises, SystemExit too, goes through. package: the name under which the recorder can be imported. A file
    that is not there gives 2, as Python does.
    """
    if not os.path.isfile(path):
        print(f"{sys.executable}: can't open file '{path}'", file=sys.stderr)
        return 2
    sys.argv = [path, *arguments]
    sys.path[0] = os.path.dirname(os.path.abspath(path))
    try:
        with Watch():
            runpy.run_path(path, run_name="__main__")
    except FaultStop as stop:
        sys.stdout.flush()
        print(told(stop.fault, package), file=sys.stderr)
        return FAULT
    return 0
