"""How many CPU cores this process may use."""

import math
import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores() -> int:
    """Cores that the process may run on, or fewer where a container has the time of fewer, rounded up.

    Threads beyond that take turns: all of a machine's cores for a tenth of the time paint slower than a tenth of them.
    """
    return int(max(min(visible_cores(), _quota()), 1))


def visible_cores() -> int:
    """Cores that the process may run on: what libraries count."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quota() -> float:
    """Cores whose time a container has; endless without one, or without a limit."""
    try:
        time, period = _QUOTA.read_text().split()
        return math.ceil(int(time) / int(period))
    except (OSError, ValueError, ZeroDivisionError):  # "max 100000" is one of them
        return math.inf
