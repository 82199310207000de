"""Cut the power of jobs for some minutes: `python -m tests.simulation --job convert --minutes 5 --seed 1`.

Each life that breaks a promise prints its seed and the changes of the disk before it; the same seed does it again. The
exit code is then 1.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from pipelines.runtime import process_pool
from tests.simulation.lives import JOBS, BrokenPromiseError, live, plain_conversion, run_undisturbed


def main() -> int:
    """Run jobs until the time is over, or one seed of one job."""
    parser = argparse.ArgumentParser(description="Cut the power of jobs, and see that nothing is lost.")
    parser.add_argument("--job", choices=["plain", *JOBS], default="plain", help="plain: a conversion without Beam")
    parser.add_argument("--seed", type=int, help="the first seed, or with --minutes 0 the only one")
    parser.add_argument("--minutes", type=float, default=1.0)
    flags = parser.parse_args()
    process_pool.MAX_PROCESSES = 1
    os.fdatasync = os.fsync = lambda fd: None  # the disk is simulated
    seed = random.SystemRandom().randrange(10**9) if flags.seed is None else flags.seed
    with tempfile.TemporaryDirectory() as scratch:
        job = plain_conversion(Path(scratch) / "corpus") if flags.job == "plain" else JOBS[flags.job]
        undisturbed = run_undisturbed(job)
        print(f"{flags.job}: {undisturbed.num_changes} changes of the disk, from seed {seed} on", flush=True)
        began = time.monotonic()
        num_jobs = num_lives = num_broken = 0
        lost = {"content": 0, "names": 0}
        while num_jobs == 0 or time.monotonic() - began < 60 * flags.minutes:
            try:
                lives, cuts = live(job, seed, undisturbed)
                num_lives += lives
                for kind, count in cuts.num_lost.items():
                    lost[kind] += count
            except BrokenPromiseError as error:
                num_broken += 1
                print(error, flush=True)
            num_jobs += 1
            seed += 1
    hours = (time.monotonic() - began) / 3600
    print(
        f"{num_jobs} jobs, {num_lives} lives ({num_lives / hours:,.0f} an hour), lost: content of {lost['content']} "
        f"files, {lost['names']} changes of names; {num_broken} broken promises"
    )
    return int(num_broken > 0)


if __name__ == "__main__":
    sys.exit(main())
