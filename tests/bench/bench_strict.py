"""Measure what `--strict-decode` costs: the real sample read with it and without, a scan and a whole conversion.

Rounds alternate; the least of them counts, for what disturbs only ever adds. SIXRAY_SAMPLE names the folder of the
scans; they are in the cache of the system.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from shards import storage
from shards.corpus.description import make_key
from shards.corpus.policy import Policy
from shards.corpus.read_scan import Scan, read_scan
from shards.corpus.records import ScanRef
from shards.format.classes import load_class_set
from tests.bench.measure import Measurement, time_in_turn

_READ_ROUNDS = 9
_CONVERT_ROUNDS = 5


def run(scratch: Path) -> Iterator[Measurement]:
    """Read and check every scan in one thread, then convert the sample by the command, each both ways."""
    sample = os.environ.get("SIXRAY_SAMPLE")
    if not sample:
        print("strict: SIXRAY_SAMPLE names no folder of real scans", file=sys.stderr)
        return
    infos = list(storage.list_files(str(Path(sample) / "JPEGImage")))
    refs = [ScanRef(make_key(info.url, keeps_folders=False), "train", info.url, info.size_bytes) for info in infos]
    classes = load_class_set("sixray")

    def read(policy: Policy) -> int:
        return sum(isinstance(read_scan(ref, classes, policy), Scan) for ref in refs)

    plain, strict = Policy(), Policy(strict_decode=True)
    yield Measurement("scans refused without --strict-decode", len(refs) - read(plain), "scans", f"of {len(refs)}")
    yield Measurement("scans refused with --strict-decode", len(refs) - read(strict), "scans", f"of {len(refs)}")
    seconds = time_in_turn(
        {"plain": lambda: read(plain), "strict": lambda: read(strict)}, rounds=_READ_ROUNDS, pick=min
    )
    for name, what in (("plain", "without"), ("strict", "with")):
        yield Measurement(f"read a scan {what} --strict-decode", 1e3 * seconds[name] / len(refs), "ms", "one thread")
    yield Measurement("read a scan, with / without", seconds["strict"] / seconds["plain"], "ratio")
    yield from _measure_command(sample, scratch)


def _measure_command(sample: str, scratch: Path) -> Iterator[Measurement]:
    def convert(*flags: str) -> None:
        shutil.rmtree(scratch / "ds", ignore_errors=True)
        words = ["convert", "--input", sample, "--output", str(scratch / "ds"), *flags]
        subprocess.run([sys.executable, "-m", "pipelines.cli", *words], check=False, capture_output=True)
        assert (scratch / "ds/dataset.json").exists()

    seconds = time_in_turn(
        {"plain": convert, "strict": lambda: convert("--strict-decode")}, rounds=_CONVERT_ROUNDS, pick=min
    )
    least = f"least of {_CONVERT_ROUNDS} rounds"
    yield Measurement("convert without --strict-decode, start included", seconds["plain"], "s", least)
    yield Measurement("convert with --strict-decode, start included", seconds["strict"], "s", least)
    yield Measurement("convert, with / without", seconds["strict"] / seconds["plain"], "ratio")
