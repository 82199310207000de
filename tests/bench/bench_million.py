"""Measure time and memory of a conversion of 10,000, 100,000 and, on request, 1,059,231 scans.

The scans are tiny (one JPEG with its number in a comment) to measure the bookkeeping: listing, lists, joins, checksums,
rows. Every hundredth is positive and has an annotation; the lists name all. Memory is the peak of all processes of the
command, with shared pages counted proportionally.
`SIXRAY_BENCH_SCANS` names other numbers, e.g. `10000,1059231`: the whole of SIXray takes minutes.
"""

import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from tests.bench.measure import Measurement, Peak

SIZES_VARIABLE = "SIXRAY_BENCH_SCANS"
SIZES = "10000,100000"
_CLASSES = ("Gun", "Knife", "Wrench", "Pliers", "Scissors")
_BOX = (
    "<annotation><object><name>Gun</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>6</xmax><ymax>6</ymax></bndbox>"
    "</object></annotation>"
)


def run(scratch: Path) -> Iterator[Measurement]:
    """Measure conversions of growing corpora, then the looks at the largest."""
    seconds: dict[int, float] = {}
    megabytes: dict[int, float] = {}
    sizes = [int(text) for text in os.environ.get(SIZES_VARIABLE, SIZES).split(",")]
    for num_scans in sizes:
        corpus, dataset = scratch / f"corpus-{num_scans}", scratch / f"dataset-{num_scans}"
        make_tiny_corpus(corpus, num_scans)
        seconds[num_scans], megabytes[num_scans] = run_measured(
            "convert", "--input", str(corpus), "--output", str(dataset), "--shard-bytes", "4000000"
        )
        yield Measurement(f"convert {num_scans:,} tiny scans", seconds[num_scans], "s")
        yield Measurement(f"convert {num_scans:,} tiny scans, peak memory", megabytes[num_scans], "MB", "at most 2,000")
    few, many = sizes[0], sizes[-1]
    a_scan = (seconds[many] - seconds[few]) / (many - few)
    yield Measurement("each further scan", 1e6 * a_scan, "µs")
    yield Measurement("each further scan, memory", 1e6 * (megabytes[many] - megabytes[few]) / (many - few), "bytes")
    for words in (["convert", "--input", str(corpus), "--output"], ["verify"], ["verify", "--quick"]):
        flags = ["--shard-bytes", "4000000"] if words[0] == "convert" else []
        taken, peak = run_measured(*words, str(dataset), *flags)
        name = "convert again, nothing to do" if words[0] == "convert" else " ".join(words)
        yield Measurement(f"{name}, {many:,} tiny scans", taken, "s")
        yield Measurement(f"{name}, {many:,} tiny scans, peak memory", peak, "MB", "at most 2,000")


def make_tiny_corpus(root: Path, num_scans: int) -> None:
    """Write a corpus in the release's layout; no two scans have the same bytes."""
    for folder in ("JPEGImage", "Annotation", "ImageSet/10"):
        (root / folder).mkdir(parents=True)
    out = io.BytesIO()
    Image.new("L", (8, 8), 200).save(out, "JPEG")
    start, rest = out.getvalue()[:2], out.getvalue()[2:]
    with (root / "ImageSet/10/train.csv").open("w") as train, (root / "ImageSet/10/test.csv").open("w") as test:
        for lines in (train, test):
            lines.write(f"{','.join(['name', *_CLASSES])}\n")
        for number in range(num_scans):
            is_positive = number % 100 == 0
            name = f"P{number // 100:05d}" if is_positive else f"N{number:07d}"
            comment = f"{number:010d}".encode()
            image = start + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + rest
            (root / f"JPEGImage/{name}.jpg").write_bytes(image)
            if is_positive:
                (root / f"Annotation/{name}.xml").write_text(_BOX)
            lines = test if number % 7 == 3 else train
            lines.write(f"{name},{1 if is_positive else -1},-1,-1,-1,-1\n")
    os.sync()


def run_measured(*words: str) -> tuple[float, float]:
    """Run a command; return its seconds and the peak memory of all its processes in MB."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", *words],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with process, Peak([process.pid]) as peak:
        if process.wait() != 0:
            raise RuntimeError(f"sixray {' '.join(words)} must end with 0, got {process.returncode}")
        return time.perf_counter() - started, peak.megabytes
