"""Measure how many flipped labels of real scans a review finds by scores out of fold, beside cleanlab on the same ones.

A label of a share of the training scans of $SIXRAY_SAMPLE is flipped by `reshard --corrections`, the boxes with it; the
models of `train --folds` learn from the flipped labels. Each share takes some ten minutes on two cores.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from model.evaluation.scans.scored_scans import join_predictions
from pipelines import convert, reshard, train
from shards.curation.corrections import Correction, write_corrections
from shards.format.classes import Box
from shards.format.dataset import Dataset, open_dataset
from shards.predictions.run import open_predictions
from tests.bench.bench_review import SHARES, list_rankings, order_by
from tests.bench.measure import Measurement

RECIPE = "--folds 3 --max-epochs 3 --image-size 160 --batch-size 16 --devices 1"


def run(scratch: Path) -> Iterator[Measurement]:
    """Measure precision among as many scans as were flipped, and recall among twice and five times as many."""
    if not (sample := os.environ.get("SIXRAY_SAMPLE")):
        print("review_folds: SIXRAY_SAMPLE does not name a folder of real scans", file=sys.stderr)
        return
    sound = scratch / "sound"
    words = ("--input", sample, "--output", str(sound), "--layout", "sixray", "--group-by", "neighbours")
    if not (sound / "dataset.json").exists() and convert.main(words) > 1:
        raise RuntimeError("the corpus was not converted")
    for share in SHARES:
        flipped, folder = scratch / f"flipped-{share}", scratch / f"run-{share}"
        keys = flip(open_dataset(str(sound)), share, scratch / f"corrections-{share}.csv")
        corrections = ("--corrections", str(scratch / f"corrections-{share}.csv"))
        if reshard.main(("--input", str(sound), "--output", str(flipped), *corrections)):
            raise RuntimeError("the labels were not flipped")
        if train.main(("--data", str(flipped), "--output", str(folder), *RECIPE.split())):
            raise RuntimeError("the folds were not trained")
        (predictions,) = (folder / "predictions").iterdir()
        scans = join_predictions(open_predictions(str(predictions)), open_dataset(str(flipped)), "train")
        is_flipped_N = np.isin(scans.keys_N.to_pylist(), keys)
        for name in list_rankings():
            order_N = order_by(name, scans)
            for times, what in ((1, "precision among as many"), (2, "recall among 2"), (5, "recall among 5")):
                found = float(is_flipped_N[order_N[: times * len(keys)]].sum() / len(keys))
                what = what if times == 1 else f"{what} times as many"
                yield Measurement(f"{share:.0%} of {len(scans.keys_N)} flipped, {name}: {what}", found, "share")


def flip(dataset: Dataset, share: float, path: Path) -> list[str]:
    """Write corrections that flip one known label of a share of the training scans; return their keys."""
    random = np.random.default_rng(int(1000 * share))
    rows = dataset.read_samples("train", ["key", "sha256", "labels", "boxes"]).to_pylist()
    chosen = [rows[at] for at in random.permutation(len(rows))[: int(share * len(rows))]]
    corrections = []
    for row in chosen:
        known = [name for name in dataset.manifest.scored_classes if row["labels"][name] is not None]
        name = known[int(random.integers(len(known)))]
        boxes = [Box.from_row(box) for box in row["boxes"]]
        corrections.append(
            Correction(
                key=row["key"],
                sha256=row["sha256"],
                labels={name: 1 - row["labels"][name]},
                boxes=tuple(box for box in boxes if box.class_name != name) if boxes else None,
                author="bench",
                time="2026-11-27",
                reason="flipped",
            )
        )
    write_corrections(str(path), corrections)
    return [of.key for of in corrections]
