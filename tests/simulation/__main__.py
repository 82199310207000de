"""Cut the power of jobs for some minutes: `python -m tests.simulation --job convert --minutes 5 --seed 1`.

Each life that breaks a promise prints its seed and the changes of the disk before it; the same seed does it again. The
exit code is then 1.
"""

import argparse
import random
import sys

from tests.simulation.lives import JOBS, live_for


def main() -> int:
    """Run one job, or each for an equal share of the time, until the time is over or enough lives were lived."""
    parser = argparse.ArgumentParser(description="Cut the power of jobs, and see that nothing is lost.")
    parser.add_argument("--job", choices=["all", *JOBS], default="all", help="plain: a conversion without Beam")
    parser.add_argument("--seed", type=int, help="the first seed, or with --minutes 0 the only one")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--lives", type=int, help="end a job's share earlier, after so many")
    flags = parser.parse_args()
    seed = random.SystemRandom().randrange(10**9) if flags.seed is None else flags.seed
    names = list(JOBS) if flags.job == "all" else [flags.job]
    num_broken = 0
    for name in names:
        print(f"{name}, from seed {seed} on", flush=True)
        tally = live_for(name, seed, 60 * flags.minutes / len(names), flags.lives)
        print(tally, flush=True)
        num_broken += tally.num_broken
    return int(num_broken > 0)


if __name__ == "__main__":
    sys.exit(main())
