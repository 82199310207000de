"""Rate recipes by cross-validation on real scans.

`nice -n 19 python -m tests.bench.recipe_table --corpus DIR --state DIR`

The corpus has the SIXray layout. Its listed scans are divided into folds by bag (scans whose numbers are near and that
look alike), so that every positive is tested once, by a network that saw no scan of its bag. A cell is a recipe with
its flags; a cell that is finished is a row of the table, written after each cell. Everything lies in `--state`: the
same call resumes, in the middle of a run too. The intervals have bags as observations; one seed, so they do not
cover the luck of first weights. Minutes and rates are those of this machine, with whatever else runs on it.
"""

import argparse
import csv
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.evaluation.scans.scored_scans import ScoredScans, join_predictions
from shards.curation.bags import name_bags
from shards.curation.folds import assign_folds
from shards.format.dataset import open_dataset
from shards.host import installed_versions
from shards.predictions.run import open_predictions
from tests.bench.cross_validation import Rating, pool, rate, read_lists
from tests.bench.measure import describe_hardware

NUM_FOLDS = 3
LITE0 = "--backbone tf_efficientnet_lite0 --batch-size 16"
STAGE_1 = f"--recipe sxmnet_attention_sixray {LITE0} --learning-rate 1e-3 --max-epochs 4"
STAGE_2 = f"--recipe sxmnet_average_sixray {LITE0} --learning-rate 1e-2 --max-epochs 6"


@dataclass(frozen=True, slots=True)
class Cell:
    """A way to train."""

    name: str
    varies: str
    """What it varies of the default recipe."""
    stages: tuple[str, ...] = ("",)
    """Flags of `sixray train`; a stage starts from the model of the one before it."""
    is_projected: bool = False
    """Whether items are projected into the training scans (`sixray project`)."""


CELLS = (
    Cell("default", ""),
    Cell("labels alone", "box supervision", ("--localization 0",)),
    Cell("plain", "network", ("--network plain",)),
    Cell("hr", "network", ("--network hr",)),
    Cell("sxmnet", "network", (STAGE_1, STAGE_2)),
    Cell("160 px", "size", ("--image-size 160",)),
    Cell("320 px", "size", ("--image-size 320",)),
    Cell("each positive twice", "sampling", ("--positive-repeats 2",)),
    Cell("half positives", "sampling", ("--positive-fraction 0.5",)),
    Cell("scale and aspect", "augmentation", ("--scale 0.3 --aspect 0.3",)),
    Cell("exposure", "augmentation", ("--exposure 0.3",)),
    Cell("upside down", "augmentation", ("--upside-down",)),
    Cell("quarter turns", "augmentation", ("--quarter-turns",)),
    Cell("mixed scans", "augmentation", ("--mixed 0.5",)),
    Cell("averaged weights", "weights", ("--ema-decay 0.99",)),
    Cell("layer decay", "rates", ("--layer-decay 0.7",)),
    Cell("two frozen stages", "rates", ("--frozen-stages 2",)),
    Cell("projected items", "threat projection", is_projected=True),
    Cell("random weights", "first weights", ("--no-pretrained",)),
    Cell("box supervision 1.0", "box supervision", ("--localization 1",)),
    Cell("plain, labels alone", "network", ("--network plain --localization 0",)),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Fill the table; return 0, or 1 if a cell failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.recipe_table", description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True, help="folder in the SIXray layout")
    parser.add_argument("--state", type=Path, required=True, help="folder of datasets, runs and the table")
    parser.add_argument("--cells", nargs="+", metavar="NAME", choices=[cell.name for cell in CELLS])
    flags = parser.parse_args(argv)
    bench = Bench(flags.corpus.resolve(), flags.state.resolve())
    failed = [cell.name for cell in CELLS if cell.name in (flags.cells or [cell.name]) and not bench.finish(cell)]
    if failed:
        print(f"cells that failed: {', '.join(failed)}; their logs lie in {bench.state}", file=sys.stderr)
    return int(bool(failed))


@dataclass(frozen=True, slots=True)
class Bench:
    """The corpus, and where everything is kept."""

    corpus: Path
    state: Path

    def finish(self, cell: Cell) -> bool:
        """Do what is missing of a cell and write its row; return False, with a log, if a command failed."""
        folder = self.state / "cells" / cell.name.replace(" ", "-").replace(",", "")
        row = folder / "row.json"
        if not row.exists():
            folder.mkdir(parents=True, exist_ok=True)
            try:
                parts = [self._run_fold(cell, folder, fold) for fold in range(NUM_FOLDS)]
            except subprocess.CalledProcessError as error:
                print(f"{cell.name}: {error} ({folder / 'log'})", file=sys.stderr)
                return False
            seconds = _read_seconds(folder)
            row.write_text(json.dumps(make_row(cell, rate(pool(parts)), parts, seconds), indent=1))
        rows = [json.loads(path.read_text()) for path in sorted(self.state.glob("cells/*/row.json"))]
        (self.state / "recipes.csv").write_text(format_table(rows))
        return True

    def _run_fold(self, cell: Cell, folder: Path, fold: int) -> ScoredScans:
        data = self._fold_dataset(fold, folder)
        learnt = self._projected_dataset(fold, folder) if cell.is_projected else data
        model: list[str] = []
        for number, stage in enumerate(cell.stages):
            run = folder / f"fold-{fold}-stage-{number}"
            with _timed(folder / "train.seconds"):
                run_sixray(folder, "train", "--data", learnt, "--output", run, *stage.split(), *model)
            model = ["--initial-model", str(run / "model")]
        predictions = folder / f"predictions-{fold}"
        with _timed(folder / "score.seconds"):
            run_sixray(
                folder, "score", "--model", model[1], "--input", data, "--output", predictions, "--split", "test"
            )
        (found,) = (path.parent for path in predictions.glob("*/run.json"))
        return join_predictions(open_predictions(str(found)), open_dataset(str(data)), "test")

    def _fold_dataset(self, fold: int, log: Path) -> Path:
        output = self.state / f"fold-{fold}"
        if not (output / "dataset.json").exists():
            whole = self.state / "whole"
            lists = sorted(self.corpus.glob("ImageSet/*/*.csv"))
            convert_corpus(log, self.corpus, whole, lists)
            listed = read_lists(lists)
            samples = open_dataset(str(whole)).read_samples(columns=["key", "group", "duplicate_of"])
            samples = samples.filter(pc.is_in(samples["key"], value_set=pa.array(listed.rows)))
            keys = samples["key"].to_pylist()
            is_positive_N = np.array(["1" in listed.rows[key][1:] for key in keys])
            folds_N = assign_folds(name_bags(samples), is_positive_N, NUM_FOLDS) - 1
            parts = {"train": False, "test": True}
            paths = [self.state / f"lists-{fold}" / f"{split}.csv" for split in parts]
            for path, is_tested in zip(paths, parts.values(), strict=True):
                listed.write(path, sorted(compress(keys, (folds_N == fold) == is_tested)))
            convert_corpus(log, self.corpus, output, paths)
        return output

    def _projected_dataset(self, fold: int, log: Path) -> Path:
        output, data = self.state / f"projected-{fold}", self.state / f"fold-{fold}"
        run_sixray(log, "project", "--items", data, "--input", data, "--output", output, is_complete=output)
        return output


def make_row(cell: Cell, rating: Rating, parts: Sequence[ScoredScans], seconds: dict[str, float]) -> dict[str, Any]:
    """Return a cell's row of the table."""
    num_scans = sum(len(part.keys_N) for part in parts)
    row: dict[str, Any] = {
        "cell": cell.name,
        "varies": cell.varies,
        "flags": " then ".join(cell.stages) + (" (on sixray project)" if cell.is_projected else ""),
        "num_scans": num_scans,
        "num_folds": len(parts),
        "mean_ap": rating.mean_average_precision,
        "mean_pointing": rating.mean_pointing_accuracy,
    }
    for name, interval in (
        ("ap", rating.intervals.average_precision),
        ("pointing", rating.intervals.pointing_accuracy),
    ):
        row |= {f"{name}_low": interval.low if interval else None, f"{name}_high": interval.high if interval else None}
    for name, of in rating.classes.items():
        row |= {f"{name}_ap": of.average_precision, f"{name}_pointing": of.pointing_accuracy}
    return row | {
        "training_minutes_a_fold": seconds["train"] / 60 / len(parts),
        "scored_scans_per_second": num_scans / seconds["score"],
        "load": os.getloadavg()[2],
        "date": datetime.now(UTC).date().isoformat(),
        "hardware": describe_hardware(),
        "versions": " ".join(f"{name}={version}" for name, version in installed_versions("torch", "timm").items()),
    }


def format_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the CSV of finished cells, in the order of `CELLS`."""
    order = [cell.name for cell in CELLS]
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in sorted(rows, key=lambda row: order.index(row["cell"])):
        writer.writerow({name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()})
    return out.getvalue()


def convert_corpus(log: Path, corpus: Path, output: Path, lists: Sequence[Path]) -> None:
    parts = [word for path in lists for word in ("--lists", path)]
    images, annotations = corpus / "JPEGImage", corpus / "Annotation"
    words = ("--images", images, "--annotations", annotations, "--layout", "sixray", "--group-by", "neighbours")
    run_sixray(log, "convert", "--input", corpus, "--output", output, *words, *parts, is_complete=output)


def run_sixray(folder: Path, *words: str | Path, is_complete: Path | None = None) -> None:
    """Run a command; exit code 1, findings, is fine where it leaves a whole dataset."""
    command = [sys.executable, "-m", "pipelines.cli", *map(str, words)]
    with (folder / "log").open("a") as log:
        code = subprocess.run(command, stdout=log, stderr=log, check=False).returncode
    is_whole = is_complete is not None and (is_complete / "dataset.json").exists()
    if code and not (code == 1 and is_whole):
        raise subprocess.CalledProcessError(code, command)


@contextmanager
def _timed(path: Path) -> Iterator[None]:
    """Add the seconds of a block to a file, also if it is interrupted: a resumed run takes all of them together."""
    started = time.monotonic()
    try:
        yield
    finally:
        with path.open("a") as out:
            out.write(f"{time.monotonic() - started}\n")


def _read_seconds(folder: Path) -> dict[str, float]:
    return {path.stem: sum(map(float, path.read_text().split())) for path in folder.glob("*.seconds")}


if __name__ == "__main__":
    sys.exit(main())
