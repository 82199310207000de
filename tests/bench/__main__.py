"""Run benchmarks: `python -m tests.bench [NAME ...]`, or `make bench` for all.

Each module `bench_<name>.py` times its contenders in turn in one run and yields `Measurement`s. They are printed and
written to `<name>_<processor>_<date>.csv` in this folder, with versions and hardware.
"""

import argparse
import csv
import importlib
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from shards.host import installed_versions
from tests.bench.measure import Measurement, describe_hardware

FOLDER = Path(__file__).parent
VERSIONED = ("apache-beam", "nvidia-dali-cuda130", "numpy", "pyarrow", "torch", "webdataset")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the named benchmarks, or all; return 0."""
    known = sorted(path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py"))
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}; all by default")
    parser.add_argument("--scratch", help="folder on the measured disk; the system's temporary folder by default")
    flags = parser.parse_args(argv)
    if unknown := sorted(set(flags.names) - set(known)):
        parser.error(f"benchmark must be one of {known}, got {unknown}")
    for name in flags.names or known:
        with tempfile.TemporaryDirectory(dir=flags.scratch) as scratch:
            module = importlib.import_module(f"tests.bench.bench_{name}")
            measurements = list(module.run(Path(scratch)))
        if not measurements:  # it has said why: what it measures is not on this machine
            continue
        _print(name, measurements)
        print(f"-> {_write(name, measurements)}", file=sys.stderr)
    return 0


def _print(name: str, measurements: Sequence[Measurement]) -> None:
    table = Table("what", "value", "unit", "beside", title=name)
    for measurement in measurements:
        table.add_row(measurement.what, f"{measurement.value:,.4g}", measurement.unit, measurement.beside)
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def _write(name: str, measurements: Sequence[Measurement]) -> Path:
    hardware = describe_hardware()
    versions = " ".join(f"{package}={version}" for package, version in installed_versions(*VERSIONED).items())
    about = {"date": datetime.now(UTC).date().isoformat(), "hardware": hardware, "versions": versions}
    processor = "-".join(re.sub(r"\(r\)|processor|[^a-z0-9]+", " ", hardware.partition(",")[0].lower()).split())
    path = FOLDER / f"{name}_{processor}_{about['date']}.csv"
    rows = [asdict(measurement) | about for measurement in measurements]
    with path.open("w", newline="") as out:
        writer = csv.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


if __name__ == "__main__":
    sys.exit(main())
