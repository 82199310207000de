"""Compute the average precision of detections: AP50, and AP50:95 as COCO's evaluation defines them."""

# D detections  B boxes  P pairs of both that overlap  T thresholds of overlap

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""Overlaps that a detection must have with a box, its intersection over union; the first is that of AP50."""
RECALLS = np.linspace(0.0, 1.0, 101)
"""The precision is averaged over these."""
MAX_DETECTIONS = 100
"""Of a scan and class; those with the highest scores count."""
CHUNK = 1 << 20
"""Detections whose overlaps are in memory at once."""

FloatArray = npt.NDArray[np.floating[Any]]


def keep_highest(scan_D: npt.NDArray[np.int64], score_D: FloatArray) -> npt.NDArray[np.int64]:
    """Return the detections that count, by scan and falling score: at most MAX_DETECTIONS a scan.

    Args:
        scan_D: row of the scan of each detection of one class.
        score_D: any monotone scale; equal scores keep their order.
    """
    order = np.lexsort((-score_D, scan_D))
    return order[_place_in_group(scan_D[order]) < MAX_DETECTIONS]


def find_true_detections(
    scan_D: npt.NDArray[np.int64],
    edges_D4: FloatArray,
    scan_B: npt.NDArray[np.int64],
    edges_B4: FloatArray,
) -> npt.NDArray[np.bool_]:
    """Return (T, D), whether each detection finds a box, at each of IOU_THRESHOLDS.

    In the order of falling scores a detection takes the free box that it overlaps most, if enough; of equal overlaps
    the later box. A box is found once.

    Args:
        scan_D: row of the scan of each detection of one class, ascending; within a scan by falling score.
        edges_D4: xmin, ymin, xmax, ymax in pixels.
        scan_B: row of the scan of each box of the class, in any order.
        edges_B4: like those of the detections.
    """
    is_true_TD = np.zeros((len(IOU_THRESHOLDS), len(scan_D)), bool)
    by_scan = np.argsort(scan_B, kind="stable")
    for begin, end in _slice_by_scan(scan_D):
        _match(is_true_TD[:, begin:end], scan_D[begin:end], edges_D4[begin:end], scan_B[by_scan], edges_B4[by_scan])
    return is_true_TD


def average_precisions(
    score_D: FloatArray, is_true_TD: npt.NDArray[np.bool_], num_boxes: int
) -> npt.NDArray[np.float64]:
    """Return the average precision of one class at each of IOU_THRESHOLDS, in [0, 1].

    Args:
        score_D: of all scans; equal scores follow their order, as in COCO's evaluation.
        is_true_TD: of `find_true_detections`.
        num_boxes: of the class, at least 1.

    Source:
        T.-Y. Lin et al., "Microsoft COCO" (ECCV 2014), as pycocotools' COCOeval computes it: the mean, over RECALLS, of
        the highest precision at that recall or any higher one; 0 at recalls that are not reached.
    """
    order = np.argsort(-score_D, kind="stable")
    figures_T = np.zeros(len(IOU_THRESHOLDS))
    for t, is_true_D in enumerate(is_true_TD):
        found_D = np.cumsum(is_true_D[order])
        precision_D = found_D / np.arange(1, len(order) + 1)
        envelope_D = np.maximum.accumulate(precision_D[::-1])[::-1]
        at = np.searchsorted(found_D / num_boxes, RECALLS)
        figures_T[t] = envelope_D[at[at < len(order)]].sum() / len(RECALLS)
    return figures_T


def _match(
    is_true_TD: npt.NDArray[np.bool_],
    scan_D: npt.NDArray[np.int64],
    edges_D4: FloatArray,
    scan_B: npt.NDArray[np.int64],
    edges_B4: FloatArray,
) -> None:
    detection_P, box_P, overlap_P = _find_overlaps(scan_D, edges_D4, scan_B, edges_B4)
    if not len(detection_P):
        return
    # The first detections of all scans, then the second, and so on: those of one round are of different scans.
    detections, of_pair = np.unique(detection_P, return_inverse=True)
    round_P = _place_in_group(scan_D[detections])[of_pair]
    order = np.lexsort((-box_P, -overlap_P, detection_P, round_P))
    detection_P, box_P, overlap_P, round_P = detection_P[order], box_P[order], overlap_P[order], round_P[order]
    ends = np.cumsum(np.bincount(round_P))
    for t, threshold in enumerate(IOU_THRESHOLDS):
        is_free_B = np.ones(len(scan_B), bool)
        for begin, end in zip([0, *ends[:-1]], ends, strict=True):
            pairs = begin + np.flatnonzero(is_free_B[box_P[begin:end]] & (overlap_P[begin:end] >= threshold))
            best = pairs[np.unique(detection_P[pairs], return_index=True)[1]]
            is_true_TD[t, detection_P[best]] = True
            is_free_B[box_P[best]] = False


def _find_overlaps(
    scan_D: npt.NDArray[np.int64], edges_D4: FloatArray, scan_B: npt.NDArray[np.int64], edges_B4: FloatArray
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return the pairs of a detection and a box of its scan that overlap by IOU_THRESHOLDS[0] or more, and how much."""
    first_D, end_D = (np.searchsorted(scan_B, scan_D, side) for side in ("left", "right"))
    counts_D = end_D - first_D
    detection_P = np.repeat(np.arange(len(scan_D)), counts_D)
    box_P = np.arange(len(detection_P)) - np.repeat(np.cumsum(counts_D) - counts_D, counts_D) + first_D[detection_P]
    found_P4, true_P4 = edges_D4[detection_P].astype(np.float64), edges_B4[box_P].astype(np.float64)
    extent_P2 = np.minimum(found_P4[:, 2:], true_P4[:, 2:]) - np.maximum(found_P4[:, :2], true_P4[:, :2])
    shared_P = extent_P2.clip(min=0).prod(axis=1)
    union_P = _area(found_P4) + _area(true_P4) - shared_P
    overlap_P = np.divide(shared_P, union_P, out=np.zeros_like(union_P), where=union_P > 0)
    kept = overlap_P >= IOU_THRESHOLDS[0]
    return detection_P[kept], box_P[kept], overlap_P[kept]


def _area(edges_P4: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    area_P: npt.NDArray[np.float64] = (edges_P4[:, 2:] - edges_P4[:, :2]).prod(axis=1)
    return area_P


def _place_in_group(group_D: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the place, from 0, of each element among those of its group; groups are ascending."""
    return np.arange(len(group_D)) - np.searchsorted(group_D, group_D)


def _slice_by_scan(scan_D: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield the bounds of slices of some CHUNK detections; none divides a scan."""
    begin = 0
    while begin < len(scan_D):
        last = min(begin + CHUNK, len(scan_D)) - 1
        end = int(np.searchsorted(scan_D, scan_D[last], "right"))
        yield begin, end
        begin = end
