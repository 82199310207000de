"""How many cores may this process use?"""

import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def count_cores() -> int:
    """Return how many cores this process may use: those it is bound to, or fewer where a container has a quota."""
    cores = len(os.sched_getaffinity(0))
    limit, _, period = _QUOTA.read_text().partition(" ") if _QUOTA.exists() else ("max", "", "")
    return cores if limit == "max" else max(1, min(cores, int(limit) // int(period)))
