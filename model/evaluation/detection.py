"""Rate the boxes that a model found, beside the figures of whole scans."""

# N scans  K classes  D detections  B boxes  T thresholds of overlap

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from model.evaluation.scans.scored_scans import ScoredScans
from model.metrics.detection import (
    IOU_THRESHOLDS,
    MAX_DETECTIONS,
    average_precisions,
    find_true_detections,
    keep_highest,
)
from model.metrics.ranking import mean_of_defined
from shards.format.classes import ABSENT, BOX_EDGES, PRESENT
from shards.predictions.detections import has_detections, read_detections
from shards.predictions.run import Predictions


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassDetection:
    """Quality of the detections of a class, over the scans without it and those that have it with boxes."""

    num_scans: int
    num_boxes: int
    num_detections: int
    """In these scans; of each at most `model.metrics.detection.MAX_DETECTIONS`."""
    average_precision_by_iou: tuple[float, ...] | None
    """At each of `model.metrics.detection.IOU_THRESHOLDS`; None without boxes."""

    @property
    def ap50(self) -> float | None:
        """Average precision where detection and box overlap by half."""
        return None if self.average_precision_by_iou is None else self.average_precision_by_iou[0]

    @property
    def ap50_95(self) -> float | None:
        """Mean of the average precisions over the overlaps 0.5, 0.55, ..., 0.95."""
        return None if self.average_precision_by_iou is None else float(np.mean(self.average_precision_by_iou))


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionFigures:
    """Quality of the detections of every class."""

    classes: dict[str, ClassDetection]

    @property
    def mean_ap50(self) -> float | None:
        """Mean over the classes with boxes."""
        return mean_of_defined([of.ap50 for of in self.classes.values()])

    @property
    def mean_ap50_95(self) -> float | None:
        """Mean over the classes with boxes."""
        return mean_of_defined([of.ap50_95 for of in self.classes.values()])

    def to_json(self) -> dict[str, Any]:
        """Return the section `detection` of metrics.json."""
        return {
            "iou_thresholds": IOU_THRESHOLDS.round(2).tolist(),
            "max_detections_per_scan": MAX_DETECTIONS,
            "classes": {
                name: asdict(of) | {"ap50": of.ap50, "ap50_95": of.ap50_95} for name, of in self.classes.items()
            },
            "mean": {"ap50": self.mean_ap50, "ap50_95": self.mean_ap50_95},
        }


def rate_detections(scans: ScoredScans, predictions: Predictions) -> DetectionFigures | None:
    """Return the figures of the boxes in the table `detections`; None without the table or without boxes to find.

    Raises:
        ValueError: a file has other bytes than the run wrote.
    """
    if not (has_detections(predictions) and (scans.box_class_B >= 0).any()):
        return None
    table = read_detections(predictions, scans.split, ["key", "class", "score", *BOX_EDGES])
    row_D = pc.index_in(table["key"], value_set=scans.keys_N)
    class_D = pc.index_in(table["class"], value_set=pa.array(scans.classes, pa.string()))
    rated = pc.and_(pc.is_valid(row_D), pc.is_valid(class_D))
    table = table.filter(rated)
    row_D, class_D = (of.filter(rated).to_numpy().astype(np.int64) for of in (row_D, class_D))
    score_D = table["score"].to_numpy()
    edges_D4 = np.column_stack([table[name].to_numpy() for name in BOX_EDGES])
    by_class = np.argsort(class_D, kind="stable")
    bounds = np.searchsorted(class_D[by_class], np.arange(len(scans.classes) + 1))
    classes = {}
    for k, name in enumerate(scans.classes):
        found, true_B = by_class[bounds[k] : bounds[k + 1]], scans.box_class_B == k
        boxes = scans.box_scan_B[true_B], scans.box_edges_B4[true_B]
        classes[name] = rate_boxes(scans.column(k)[1], *boxes, row_D[found], score_D[found], edges_D4[found])
    return DetectionFigures(classes=classes)


def rate_boxes(
    labels_N: npt.NDArray[np.integer[Any]],
    scan_B: npt.NDArray[np.int64],
    edges_B4: npt.NDArray[np.floating[Any]],
    scan_D: npt.NDArray[np.int64],
    score_D: npt.NDArray[np.float64],
    edges_D4: npt.NDArray[np.float64],
) -> ClassDetection:
    """Return how well the detections of a class find its boxes.

    Args:
        labels_N: of the class; scans where it is unknown, or present without a box, are left out.
        scan_B: row of the scan of each box of the class.
        edges_B4: xmin, ymin, xmax, ymax; a scan's boxes and detections are on one scale.
        scan_D: row of the scan of each detection; equal scores rank in their order.
        score_D: any monotone scale.
        edges_D4: like those of the boxes.
    """
    own = labels_N[scan_B] == PRESENT
    scan_B, edges_B4 = scan_B[own], edges_B4[own]
    is_rated_N = labels_N == ABSENT
    is_rated_N[scan_B] = True
    kept = np.flatnonzero(is_rated_N[scan_D])
    kept = kept[keep_highest(scan_D[kept], score_D[kept])]
    scan_D, score_D, edges_D4 = scan_D[kept], score_D[kept], edges_D4[kept]
    figures = None
    if len(scan_B):
        is_true_TD = find_true_detections(scan_D, edges_D4, scan_B, edges_B4)
        figures = tuple(average_precisions(score_D, is_true_TD, len(scan_B)).tolist())
    return ClassDetection(
        num_scans=int(is_rated_N.sum()),
        num_boxes=len(scan_B),
        num_detections=len(kept),
        average_precision_by_iou=figures,
    )
