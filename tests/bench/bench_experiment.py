"""Does CHR gain over its backbone, and more as positives get rarer? The experiment of `experiment.md`.

The real scans are those of SIXRAY_SAMPLE. Everything lies in SIXRAY_BENCH_CACHE (~/.cache/sixray-pipeline/bench), 9 GB:
a stopped run resumes with the features and trainings that are done. `power.md` there is written before `hr` and `chr`
are trained. SIXRAY_BENCH_MINUTES ends the training after that time; what is complete is rated.
"""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.experiment.report import draw, measure, write_tables
from tests.bench.experiment.runs import CELLS, FIRST, Bench
from tests.bench.measure import Measurement

TABLES = "\n## Tables\n\n"
"""Ends what is written by hand in `experiment.md`."""


def run(scratch: Path) -> Iterator[Measurement]:
    """Train what is missing, rate all of it; write the chart, and the tables into `experiment.md`."""
    if (corpus := os.environ.get("SIXRAY_SAMPLE")) is None:
        print("the experiment is left out: SIXRAY_SAMPLE names no folder of real scans", file=sys.stderr)
        return
    root = Path(os.environ.get("SIXRAY_BENCH_CACHE", Path.home() / ".cache/sixray-pipeline/bench")) / "experiment"
    deadline = time.monotonic() + 60 * float(os.environ.get("SIXRAY_BENCH_MINUTES", "inf"))
    bench = Bench.open(Path(corpus), root)
    if not (root / "power.md").exists():
        (root / "power.md").write_text(write_tables(bench.rate(bench.train(FIRST))))
    results = bench.rate(bench.train(CELLS, deadline))
    folder = Path(__file__).parent
    (folder / "experiment.svg").write_text(draw(results))
    page = folder / "experiment.md"
    page.write_text(f"{page.read_text().partition(TABLES)[0]}{TABLES}{write_tables(results)}")
    yield from measure(results)
