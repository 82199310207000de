"""Count the available cores and list installed versions."""

import importlib.metadata
import os
import platform
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def count_cores() -> int:
    """Return how many cores this process may use: its affinity, or less if the container has a quota."""
    cores = len(os.sched_getaffinity(0))
    limit, _, period = _QUOTA.read_text().partition(" ") if _QUOTA.exists() else ("max", "", "")
    return cores if limit == "max" else max(1, min(cores, int(limit) // int(period)))


def installed_versions(*distributions: str) -> dict[str, str]:
    """Return the versions of Python, of this software and of the named distributions that are installed."""
    versions = {"python": platform.python_version()}
    for name in ("sixray-pipeline", *distributions):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
