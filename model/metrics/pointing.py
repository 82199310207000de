"""Compute pointing hits: whether the peak of a heatmap lies in a labelled box."""

# S scans  B boxes of those scans

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]


def points_hit(
    points_S2: FloatArray,
    box_scan_B: npt.NDArray[np.integer[Any]],
    box_edges_B4: FloatArray,
    tolerance_px: float = 0.0,
) -> npt.NDArray[np.bool_]:
    """Return for each scan whether its point lies in one of its boxes.

    Args:
        points_S2: x and y in pixels of the image, for instance where the heatmap of a class is highest.
        box_scan_B: the scan, in 0..S-1, that each box belongs to.
        box_edges_B4: xmin, ymin, xmax, ymax in pixels; a point on an edge lies in the box.
        tolerance_px: Euclidean distance to the box that still counts; 0 in the paper, 15 in common code for the
            pointing game.

    Source:
        "SIXray: A Large-scale Security Inspection X-ray Benchmark" (CVPR 2019), Section 5.1: a hit is counted if
        the pixel of the maximum response falls within one of the boxes of the class.
    """
    points_B2 = points_S2[box_scan_B].astype(np.float64)
    outside_B2 = np.maximum(box_edges_B4[:, :2] - points_B2, points_B2 - box_edges_B4[:, 2:]).clip(min=0)
    hits_S = np.zeros(len(points_S2), bool)
    hits_S[box_scan_B[np.hypot(outside_B2[:, 0], outside_B2[:, 1]) <= tolerance_px]] = True
    return hits_S


def covered_shares(
    box_scan_B: npt.NDArray[np.integer[Any]], box_edges_B4: FloatArray, sizes_S2: npt.NDArray[np.integer[Any]]
) -> npt.NDArray[np.float64]:
    """Return the share of each image that its boxes cover together: the chance of a random point to hit.

    Args:
        box_scan_B: the scan, in 0..S-1, that each box belongs to.
        box_edges_B4: xmin, ymin, xmax, ymax in pixels; what lies outside the image does not count.
        sizes_S2: width and height in pixels.
    """
    limits_B4 = np.tile(sizes_S2[box_scan_B], 2).astype(np.float64)
    edges_B4 = np.clip(box_edges_B4.astype(np.float64), 0, limits_B4)
    extent_B2 = (edges_B4[:, 2:] - edges_B4[:, :2]).clip(min=0)
    covered_S = np.bincount(box_scan_B, weights=extent_B2.prod(axis=1), minlength=len(sizes_S2))
    for scan in np.flatnonzero(np.bincount(box_scan_B, minlength=len(sizes_S2)) > 1):
        covered_S[scan] = _union_area(edges_B4[box_scan_B == scan])
    shares_S: npt.NDArray[np.float64] = covered_S / sizes_S2.prod(axis=1, dtype=np.int64)
    return shares_S


def largest_box_centres(
    box_scan_B: npt.NDArray[np.integer[Any]], box_edges_B4: FloatArray, num_scans: int
) -> npt.NDArray[np.float64]:
    """Return the centre of the largest box of each scan, (num_scans, 2) in pixels; NaN for a scan without boxes."""
    edges_B4 = box_edges_B4.astype(np.float64)
    area_B = (edges_B4[:, 2:] - edges_B4[:, :2]).prod(axis=1)
    smallest_first = np.argsort(area_B, kind="stable")
    centres_S2 = np.full((num_scans, 2), np.nan)
    # The last value assigned to a row stays: the largest box.
    centres_S2[box_scan_B[smallest_first]] = ((edges_B4[:, :2] + edges_B4[:, 2:]) / 2)[smallest_first]
    return centres_S2


def _union_area(edges_B4: npt.NDArray[np.float64]) -> float:
    # The edges cut the plane into cells, each wholly inside or outside of every box.
    x, y = np.unique(edges_B4[:, [0, 2]]), np.unique(edges_B4[:, [1, 3]])
    inside = np.zeros((len(x) - 1, len(y) - 1), bool)
    for left, top, right, bottom in edges_B4:
        inside |= ((x[:-1] >= left) & (x[1:] <= right))[:, None] & ((y[:-1] >= top) & (y[1:] <= bottom))[None, :]
    return float((np.diff(x)[:, None] * np.diff(y)[None, :])[inside].sum())
