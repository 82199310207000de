"""Time contenders side by side, and describe the hardware of a measurement."""

import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local.processes import members_of


@dataclass(frozen=True, slots=True)
class Measurement:
    """A measured figure."""

    what: str
    value: float
    unit: str
    beside: str = ""
    """What to compare it with."""


def describe_hardware() -> str:
    """Return processor, cores, memory and relevant instruction sets in one line."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = next((line.partition(":")[2].strip() for line in cpuinfo.splitlines() if "model name" in line), "unknown")
    flags = next((line.split() for line in cpuinfo.splitlines() if line.startswith("flags")), [])
    units = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "sha_ni") if name in flags]
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return f"{model}, {os.cpu_count()} cores, {memory_gb:.0f} GB, {' '.join(units)}"


def time_in_turn(
    contenders: Mapping[str, Callable[[], object]],
    rounds: int = 3,
    pick: Callable[[list[float]], float] = statistics.median,
) -> dict[str, float]:
    """Return the seconds of each contender, run alternately for `rounds`, so that drift affects all alike.

    The median of the rounds; `pick=min` where differences of a few per cent count, for what disturbs only ever adds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return {name: pick(values) for name, values in seconds.items()}


@dataclass(frozen=True, slots=True)
class Cost:
    """What a command takes, with all processes that it waits for."""

    seconds: float
    processor_seconds: float
    peak_bytes: int
    """Of its largest process."""


def measure_command(module: str, flags: Sequence[object]) -> Cost:
    """Run a command, start included, and return what it took; AssertionError if it ends with another code than 0."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", module, *map(str, flags)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    seconds = time.perf_counter() - started
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


class Peak:
    """Peak memory of the processes of some sessions; shared pages count proportionally."""

    def __init__(self, sessions: Sequence[int]) -> None:
        self.sessions = sessions
        self.megabytes = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(0.5):
            pids = [pid for session in self.sessions for pid in members_of(session)]
            self.megabytes = max(self.megabytes, sum(map(_memory_mb, pids)))


def _memory_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1000
