"""How many cores and how much memory this process may use, which in a container is not what the machine has."""

from __future__ import annotations

import math
import os
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # Linux's control groups, version 2: "microseconds a period", or "max"
MEMORY = Path("/sys/fs/cgroup/memory.max")  # bytes, or "max"
WORKERS_A_CORE = 4  # more processes or threads only wait for one another


def usable_cores() -> int:
    """At least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = QUOTA.read_text().split()
        allowed = min(allowed, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # no control groups, or no limit
        pass
    return max(1, allowed)


def most_workers() -> int:
    """The most processes or threads that a request may ask for on this machine."""
    return WORKERS_A_CORE * usable_cores()


def usable_memory() -> int:
    """Bytes of memory; where the system does not tell, as much as no machine has."""
    try:
        found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows
        found = 0
    try:
        limit = int(MEMORY.read_text())
    except (OSError, ValueError):  # no control groups, or no limit
        limit = 0
    return min((each for each in (found, limit) if each > 0), default=1 << 60)
