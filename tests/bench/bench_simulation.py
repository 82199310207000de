"""Count the lives that jobs live through power cuts, what a simulated disk lost in them, and the promises broken.

SIXRAY_BENCH_MINUTES is the time of all jobs together (5); the seeds are new.
"""

import os
import random
from collections.abc import Iterator
from pathlib import Path

from tests.bench.measure import Measurement
from tests.simulation.lives import JOBS, live_for


def run(scratch: Path) -> Iterator[Measurement]:
    """Measure each job for an equal share of the time."""
    seconds = 60 * float(os.environ.get("SIXRAY_BENCH_MINUTES", "5")) / len(JOBS)
    for name in JOBS:
        seed = random.SystemRandom().randrange(10**9)
        tally = live_for(name, seed, seconds)
        about = f"seeds from {seed} on; {tally.num_jobs} jobs of {tally.num_changes} changes of the disk"
        what = "conversion without Beam" if name == "plain" else f"sixray {name}"
        yield Measurement(f"{what}: lives an hour", tally.num_lives / tally.seconds * 3600, "1/h", about)
        yield Measurement(f"{what}: lives", tally.num_lives, "lives", about)
        yield Measurement(f"{what}: unsynced content lost, torn or zeroed", tally.num_lost["content"], "files", about)
        yield Measurement(f"{what}: unsynced changes of names undone", tally.num_lost["names"], "changes", about)
        yield Measurement(f"{what}: broken promises", tally.num_broken, "jobs", about)
