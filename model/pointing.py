"""Does the heatmap point at the item? Pointing localisation accuracy against the labelled boxes."""

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
        tolerance_px: how far outside (Euclidean distance to the box) still counts; the paper allows none, common
            code for the pointing game 15.

    Source:
        "SIXray: A Large-scale Security Inspection X-ray Benchmark" (CVPR 2019), Section 5.1: a hit is counted if
        the pixel of the maximum response falls within one of the boxes of the class.
    """
    points_B2 = points_S2[box_scan_B].astype(np.float64)
    outside_B2 = np.maximum(box_edges_B4[:, :2] - points_B2, points_B2 - box_edges_B4[:, 2:]).clip(min=0)
    hits_S = np.zeros(len(points_S2), bool)
    hits_S[box_scan_B[np.hypot(outside_B2[:, 0], outside_B2[:, 1]) <= tolerance_px]] = True
    return hits_S
