"""Ask for known vulnerabilities of the locked packages; where no database is reached, say how old the packages are.

    python3 deploy/audit.py .bootstrap/uv

Exit codes: 0 none is known; 1 some are; 3 no database was reached: nothing is known, and that is no all-clear.
"""

import subprocess
import sys
import tomllib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

NUM_SHOWN = 10


def main(argv: Sequence[str]) -> int:
    """Audit the lock file of this folder; `argv` is how uv is called, with further flags of `uv audit`."""
    uv, *flags = argv
    done = subprocess.run([uv, "audit", "--locked", *flags], capture_output=True, text=True)
    print(done.stdout + done.stderr, end="")
    if done.returncode in (0, 1):  # no hole, or some
        return done.returncode
    ages = sorted(age_days(Path("uv.lock"), datetime.now(UTC)).items(), key=lambda item: -item[1])
    print(f"audit: no database of vulnerabilities was reached; the oldest of {len(ages)} locked releases:")
    for name, days in ages[:NUM_SHOWN]:
        print(f"  {days:5d} days  {name}")
    return 3


def age_days(lock: Path, now: datetime) -> dict[str, int]:
    """Return how many days ago each locked release was uploaded, by `name==version`."""
    ages = {}
    for package in tomllib.loads(lock.read_text())["package"]:
        files: list[dict[str, Any]] = [*package.get("wheels", ()), *([package["sdist"]] if "sdist" in package else ())]
        if times := [file["upload-time"] for file in files if "upload-time" in file]:
            ages[f"{package['name']}=={package['version']}"] = (now - datetime.fromisoformat(min(times))).days
    return ages


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
