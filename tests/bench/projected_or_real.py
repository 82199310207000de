"""Ask a classifier whether a scan was projected into, on real scans: it should not be able to tell.

`nice -n 19 python -m tests.bench.projected_or_real --corpus DIR --state DIR`

The corpus has the SIXray layout. Its scans are converted and projected into (`sixray project`) under `--state`; what is
there already is taken. Features of EfficientNet-lite0 with ImageNet weights (1,280, pooled) go into a logistic
regression, whose scores are of folds that hold no scan of their bags. The area under its ROC curve is 0.5 where nothing
tells them apart; the interval has bags as observations.

- `whole scan`: a projection beside the scan that it was made of, so they differ by the object alone, and by one more.
- `re-encoded`: the same scan decoded and encoded as a projection is, without an object, beside itself.
- `light`: the mean transmission as the only feature, for whole scans: what an object more takes away.
- `at the item`: a projected item beside items that were in their bags, each cut out with a margin of half its size.
"""

import argparse
import csv
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from model.networks.backbones import build_backbone
from model.networks.weights import pretrained_normalisation
from shards import storage
from shards.curation.bags import name_bags
from shards.format.classes import BOX_EDGES
from shards.format.dataset import Dataset, open_dataset
from shards.host import installed_versions
from shards.images.decode import decode_image
from shards.images.transcode import encode_like
from tests.bench.measure import describe_hardware
from tests.bench.recipe_table import convert_corpus, run_sixray

BACKBONE = "tf_efficientnet_lite0"
SIDE_PX = 224
NUM_FOLDS = 5
NUM_ROUNDS = 1000
BATCH = 32
MARGIN = 0.5


@dataclass(frozen=True, slots=True)
class Pictures:
    """What is to be told apart: pictures, their bags, and which of them are projections."""

    read: list[Callable[[], Image.Image]]
    bags: list[str]
    is_projected: list[bool]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the questions and print them as CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True)
    options = parser.parse_args(argv)
    rows = _read_rows(_projected_dataset(options.corpus, options.state))
    whole, questions = _whole_scans(rows), []
    features = extract_features(whole.read)
    questions.append(("whole scan", whole, features))
    questions.append(("light", whole, np.array([[np.asarray(read()).mean()] for read in whole.read])))
    again = _encoded_again(rows)
    questions.append(("re-encoded", again, extract_features(again.read)))
    items = _items(rows)
    questions.append(("at the item", items, extract_features(items.read)))
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["question", "auc", "low", "high", "projected", "real", "bags", "date", "hardware", "versions"])
    versions = " ".join(f"{name}={value}" for name, value in installed_versions("torch", "timm").items())
    for name, pictures, features_ND in questions:
        auc, low, high = rate(features_ND, pictures)
        counts = [sum(pictures.is_projected), pictures.is_projected.count(False), len(set(pictures.bags))]
        figures = [f"{value:.3f}" for value in (auc, low, high)]
        writer.writerow([name, *figures, *counts, datetime.now(UTC).date(), describe_hardware(), versions])
    return 0


def rate(features_ND: np.ndarray, pictures: Pictures, num_rounds: int = NUM_ROUNDS) -> tuple[float, float, float]:
    """Return the area under the ROC curve of scores from other bags, with its 95 % interval."""
    labels_N = np.array(pictures.is_projected)
    bags, bags_N = np.unique(pictures.bags, return_inverse=True)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
    folds = GroupKFold(NUM_FOLDS, shuffle=True, random_state=0)
    scores_N = cross_val_predict(model, features_ND, labels_N, groups=bags_N, cv=folds, method="decision_function")
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(num_rounds):
        weights_G = np.bincount(random.integers(0, len(bags), len(bags)), minlength=len(bags))
        drawn.append(roc_auc_score(labels_N, scores_N, sample_weight=weights_G[bags_N]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(roc_auc_score(labels_N, scores_N)), float(low), float(high)


def extract_features(read: Iterable[Callable[[], Image.Image]]) -> np.ndarray:
    """Return the pooled features (N, 1280) of pictures, squashed to a square."""
    backbone = build_backbone(BACKBONE, 1, complete_levels=True, pretrained=True).eval()
    mean, std = (torch.tensor(values)[:, None, None] for values in pretrained_normalisation(BACKBONE))
    parts, batch = [], []
    for picture in (*read, None):
        if picture is not None:
            square = picture().resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR)
            batch.append((torch.from_numpy(np.array(square)).permute(2, 0, 1) / 255 - mean) / std)
        if batch and (picture is None or len(batch) == BATCH):
            with torch.inference_mode():
                parts.append(backbone(torch.stack(batch))[0].mean(dim=(2, 3)).numpy())
            batch = []
    return np.concatenate(parts)


def _whole_scans(rows: dict[str, dict[str, Any]]) -> Pictures:
    pairs = [(rows[row["projected_from"]["scan"]], row) for row in _projections(rows)]
    return _gather([(_picture(row), row["bag"], row is pair[1]) for pair in pairs for row in pair])


def _encoded_again(rows: dict[str, dict[str, Any]]) -> Pictures:
    scans = [rows[row["projected_from"]["scan"]] for row in _projections(rows)]
    return _gather([(_picture(row, again=again), row["bag"], again) for row in scans for again in (False, True)])


def _items(rows: dict[str, dict[str, Any]]) -> Pictures:
    """Return projected items and those real ones that were projected: both show the same items, by the item's bag.

    Those whose square would leave the scan are left out: objects are not projected so near to its edge.
    """
    found, donors = [], set()
    for row in _projections(rows):
        made = row["projected_from"]
        if made["class"] is not None:
            if _lies_within(made, row):
                found.append((_picture(row, box=made), rows[made["item"]]["bag"], True))
            donors.add(made["item"])
    for key in sorted(donors):
        scan = rows[key]
        found += [(_picture(scan, box=box), scan["bag"], False) for box in scan["boxes"] if _lies_within(box, scan)]
    return _gather(found)


def _gather(found: list[tuple[Callable[[], Image.Image], str, bool]]) -> Pictures:
    read, bags, is_projected = zip(*found, strict=True)
    return Pictures(list(read), list(bags), list(is_projected))


def _projections(rows: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return (row for row in rows.values() if row["projected_from"] is not None)


def _picture(
    row: dict[str, Any], *, again: bool = False, box: dict[str, float] | None = None
) -> Callable[[], Image.Image]:
    def read() -> Image.Image:
        data = storage.read_range(row["url"], row["offset_bytes"], row["size_bytes"])
        picture = decode_image(data).convert("RGB")
        if again:
            picture = decode_image(encode_like(np.asarray(picture), data)).convert("RGB")
        if box is None:
            return picture
        return picture.crop(_square_around(box))

    return read


def _square_around(box: dict[str, float]) -> tuple[int, int, int, int]:
    left, top, right, bottom = (box[name] for name in BOX_EDGES)
    half = (0.5 + MARGIN) * max(right - left, bottom - top)
    x, y = (left + right) / 2, (top + bottom) / 2
    return int(x - half), int(y - half), int(x + half), int(y + half)


def _lies_within(box: dict[str, float], row: dict[str, Any]) -> bool:
    left, top, right, bottom = _square_around(box)
    return left >= 0 and top >= 0 and right <= row["width_px"] and bottom <= row["height_px"]


def _read_rows(dataset: Dataset) -> dict[str, dict[str, Any]]:
    """Return the scans of the split `train` by key, with their bag and tar."""
    table = dataset.read_samples("train")
    bags = name_bags(table).to_pylist()
    urls = {f"{info.name}.tar": dataset.tar_url(info) for info in dataset.shards("train")}
    rows = zip(table.to_pylist(), bags, strict=True)
    return {row["key"]: row | {"bag": bag, "url": urls[row["shard"]]} for row, bag in rows}


def _projected_dataset(corpus: Path, state: Path) -> Dataset:
    whole, projected = state / "whole", state / "projected"
    state.mkdir(parents=True, exist_ok=True)
    if not (whole / "dataset.json").exists():
        convert_corpus(state, corpus, whole, sorted(corpus.glob("ImageSet/*/*.csv")))
    if not (projected / "dataset.json").exists():
        run_sixray(state, "project", "--items", whole, "--input", whole, "--output", projected, is_complete=projected)
    return open_dataset(str(projected))


if __name__ == "__main__":
    sys.exit(main())
