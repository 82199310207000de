"""Measure the time from `sixray score` to its first part: imports, model, trial, a shard of 16 scans.

CHR on ResNet-34 at 224 px, on a processor. Each is the median of three starts.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from model.scoring.engine_selection import EXPORTED_FROM_SCANS
from tests.bench.measure import Measurement
from tests.bench.scoring import make_model, make_scans, make_shards

BACKBONE = "resnet34"


def run(scratch: Path) -> Iterator[Measurement]:
    """Measure a small archive, where no export pays, and a large one, that has the whole trial."""
    make_model(scratch / "model", BACKBONE)
    images = make_scans(16)
    for what, num_shards in (("small", 1), ("large", -(-EXPORTED_FROM_SCANS // 16))):
        shards = make_shards(scratch / f"start-{what}", images, 16 * num_shards, num_shards)
        seconds = [_time_first_part(scratch, shards.url, f"{what}-{number}") for number in range(3)]
        median = float(np.median(seconds))
        yield Measurement(f"start to the first shard, {what} archive", median, "s", "aim: below 15")


def _time_first_part(scratch: Path, dataset_url: str, name: str) -> float:
    output = scratch / f"first-{name}"
    words = ["--model", str(scratch / "model"), "--input", dataset_url, "--output", str(output)]
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.score", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not list(output.glob("*/*.parquet")):
        if process.poll() not in (None, 0):
            raise RuntimeError(f"sixray score must end with 0, got {process.returncode}")
        time.sleep(0.02)
    taken = time.perf_counter() - started
    process.terminate()
    process.wait()
    return taken
