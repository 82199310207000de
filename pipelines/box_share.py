"""Find the share of a map's peak at which the boxes of a model fit best, on training scans.

Scans with boxes go through the network once; each of `SHARES` is rated on the same maps. All is in fractions of the
network's input: an overlap does not depend on the scale of either axis.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from model.artifacts.saved_model import LoadedModel, load_model
from model.evaluation.detection import DetectionFigures, rate_boxes
from model.hardware import detect_hardware
from model.inputs.feeds import FeedConfig, ValidationFeed
from model.inputs.sample_table import SampleTable, load_sample_table
from model.scoring.boxes import FoundBoxes, find_boxes
from model.scoring.heatmaps import join_heatmaps
from pipelines.runtime import command_line
from pipelines.runtime.flags import make_config
from pipelines.runtime.progress import Progress
from shards.format.dataset import open_dataset

SHARES = tuple(n / 20 for n in range(2, 20))
BATCH_SIZE = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxShareConfig:
    """A model, and the scans that its boxes are held against."""

    model: str
    """Folder of the model: a path or an fsspec URL."""
    data: str
    """The dataset that it was trained on, or another one with its classes and with boxes."""
    split: str = "train"
    """Its scans with boxes are looked at; never the split that the boxes will be rated on."""
    max_scans: int = 2000
    """Scans to take at most, drawn at random."""

    def __post_init__(self) -> None:
        if self.max_scans < 1:
            raise ValueError(f"max_scans must be >= 1, got {self.max_scans}")


class _Truth(NamedTuple):
    """Labels and boxes of the scans, in fractions of the network's input."""

    labels_NK: npt.NDArray[np.int8]
    scan_B: npt.NDArray[np.int64]
    class_B: npt.NDArray[np.int64]
    edges_B4: npt.NDArray[np.float64]


def rate_shares(config: BoxShareConfig) -> dict[float, DetectionFigures]:
    """Return how well the boxes at each of SHARES fit.

    Raises:
        ValueError: the model or dataset cannot be used, their classes differ, or no scan of the split has a box.
    """
    model, dataset = load_model(config.model), open_dataset(config.data)
    classes = model.config.classes
    if dataset.manifest.scored_classes != classes:
        raise ValueError(
            f"data must have the model's classes {list(classes)}, got {list(dataset.manifest.scored_classes)} "
            f"({config.data}); `sixray reshard --classes` selects and orders classes"
        )
    samples = load_sample_table(dataset, config.split)
    _, row_X, class_X = samples.boxes_of(np.arange(len(samples)))
    rows = np.unique(row_X[class_X >= 0])
    if not len(rows):
        raise ValueError(f"split must have scans with boxes, got none in {config.split!r} ({config.data})")
    rows = np.sort(np.random.default_rng(0).permutation(rows)[: config.max_scans])
    found, truth = _look_at(model, samples.take(rows))
    return {share: _rate(boxes, truth, classes) for share, boxes in found.items()}


def _look_at(model: LoadedModel, samples: SampleTable) -> tuple[dict[float, FoundBoxes], _Truth]:
    """Return the boxes at each share, and the truth."""
    hardware, size_px = detect_hardware(), model.config.input.size_px
    network = model.network.eval().to(hardware.device)
    feed_config = FeedConfig(input=model.config.input, resize_px=size_px, batch_size=BATCH_SIZE, hardware=hardware)
    found: dict[float, list[FoundBoxes]] = {share: [] for share in SHARES}
    truth: list[_Truth] = []
    begin = 0
    with Progress("box-share", len(samples)) as progress, torch.inference_mode():
        for batch in ValidationFeed(samples, feed_config):
            output = network(batch.images_BCHW)
            maps_BKhw = join_heatmaps(output.heatmaps).cpu().numpy()
            scores_BK = torch.sigmoid(output.logits_BK.double()).cpu().numpy()
            for share, parts in found.items():
                boxes = find_boxes(maps_BKhw, scores_BK, share)
                parts.append(boxes._replace(scan_D=begin + boxes.scan_D))
            edges_M4, _, scans_M, classes_M = (of.numpy() for of in batch.boxes)
            truth.append(_Truth(batch.labels_BK.numpy().astype(np.int8), begin + scans_M, classes_M, edges_M4))
            begin += len(scores_BK)
            progress.advance(len(scores_BK))
    joined = {share: FoundBoxes(*map(np.concatenate, zip(*parts, strict=True))) for share, parts in found.items()}
    return joined, _Truth(*map(np.concatenate, zip(*truth, strict=True)))


def _rate(found: FoundBoxes, truth: _Truth, classes: Sequence[str]) -> DetectionFigures:
    figures = {}
    for k, name in enumerate(classes):
        own_B, own_D = truth.class_B == k, found.class_D == k
        boxes = truth.scan_B[own_B], truth.edges_B4[own_B]
        detections = found.scan_D[own_D], found.score_D[own_D], found.edges_D4[own_D]
        figures[name] = rate_boxes(truth.labels_NK[:, k], *boxes, *detections)
    return DetectionFigures(classes=figures)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return command_line.run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    rated = rate_shares(make_config(BoxShareConfig, make_parser().parse_args(argv)))
    first = next(iter(rated.values()))
    print("share   mean" + "".join(f"  {name:>8}" for name in first.classes) + "  (AP50)")
    for share, of in rated.items():
        figures = [of.mean_ap50, *(figures.ap50 for figures in of.classes.values())]
        cells = ["–" if value is None else f"{value:.3f}" for value in figures]
        print(f"{share:5.2f}  {cells[0]}" + "".join(f"  {cell:>8}" for cell in cells[1:]))
    best = max(rated, key=lambda share: rated[share].mean_ap50 or 0.0)
    print(f"best on these scans: sixray score --boxes {best:g}")
    return command_line.OK


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    return command_line.make_parser(
        "box-share",
        BoxShareConfig,
        "Rate a model's boxes on training scans, at each share of a map's peak, and name the best share for `sixray "
        "score --boxes`.",
    )


if __name__ == "__main__":
    sys.exit(main())
