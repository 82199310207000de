"""Find boxes in activation maps: the connected parts of a class' map above a share of its peak.

Shapes: B batch  K classes  h w cells of a map  P maps that are looked at  C cells  D boxes
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

MIN_SCORE = 0.001
"""A class with a lower score has no boxes: nearly all scans hold nothing."""
_NEIGHBOURS = np.zeros((3, 3, 3), bool)
_NEIGHBOURS[1] = True
"""Cells of one map that touch, diagonally too, are connected; those of different maps are not."""


class FoundBoxes(NamedTuple):
    """Boxes of the scans of a batch: by scan, then by falling score."""

    scan_D: npt.NDArray[np.int64]
    class_D: npt.NDArray[np.int64]
    score_D: npt.NDArray[np.float64]
    edges_D4: npt.NDArray[np.float64]
    """xmin, ymin, xmax, ymax: of `find_boxes` as fractions of the map, of `place` in pixels."""

    def place(self, windows_B4: npt.NDArray[np.floating], sizes_px_B2: npt.NDArray[np.floating]) -> "FoundBoxes":
        """Return them in pixels of the scans as stored, given what trimming left of each scan, and its size."""
        windows_D22, sizes_D2 = windows_B4[self.scan_D].reshape(-1, 2, 2), sizes_px_B2[self.scan_D]
        origin_D2, extent_D2 = windows_D22[:, 0], windows_D22[:, 1] - windows_D22[:, 0]
        placed_D22 = origin_D2[:, None] + self.edges_D4.reshape(-1, 2, 2) * extent_D2[:, None]
        return self._replace(edges_D4=(placed_D22 * sizes_D2[:, None]).reshape(-1, 4))


def find_boxes(maps_BKhw: npt.NDArray[np.float32], scores_BK: npt.NDArray[np.floating], share: float) -> FoundBoxes:
    """Return the boxes around the parts of every map that reach a share of the way from its lowest value to its peak.

    The highest part has the score of the class in the scan, another one so much of it as its own peak has of the way.
    So the score of a class is that of its highest box, as of imported detections.

    Args:
        maps_BKhw: of each class, in logits.
        scores_BK: of each class, in [0, 1].
        share: above 0 and below 1.

    Source:
        B. Zhou et al., "Learning Deep Features for Discriminative Localization" (CVPR 2016), Section 3.2, there the
        largest part above 20 % of the peak; from the lowest value on as in J. Choe et al., "Evaluating Weakly
        Supervised Object Localization Methods Right" (CVPR 2020), Section 3.1.
    """
    lowest_BK, highest_BK = maps_BKhw.min(axis=(2, 3)), maps_BKhw.max(axis=(2, 3))
    scan_P, class_P = np.nonzero((scores_BK >= MIN_SCORE) & (highest_BK > lowest_BK))
    lowest_P, highest_P = (of[scan_P, class_P][:, None, None] for of in (lowest_BK, highest_BK))
    height_Phw = (maps_BKhw[scan_P, class_P] - lowest_P) / (highest_P - lowest_P)
    labels_Phw, _ = ndimage.label(height_Phw >= share, structure=_NEIGHBOURS)
    map_C, y_C, x_C = np.nonzero(labels_Phw)
    label_C = labels_Phw[map_C, y_C, x_C]
    order = np.argsort(label_C, kind="stable")
    begins = np.flatnonzero(np.diff(label_C[order], prepend=0))
    left_D, top_D = (np.minimum.reduceat(of[order], begins) for of in (x_C, y_C))
    right_D, bottom_D = (np.maximum.reduceat(of[order], begins) + 1 for of in (x_C, y_C))
    map_D = map_C[order][begins]
    scan_D, class_D = scan_P[map_D], class_P[map_D]
    peak_D = np.maximum.reduceat(height_Phw[map_C, y_C, x_C][order].astype(np.float64), begins)
    score_D = scores_BK[scan_D, class_D].astype(np.float64) * peak_D
    num_rows, num_columns = maps_BKhw.shape[2:]
    edges_D4 = np.column_stack([left_D / num_columns, top_D / num_rows, right_D / num_columns, bottom_D / num_rows])
    order = np.lexsort((-score_D, scan_D))
    return FoundBoxes(scan_D[order], class_D[order], score_D[order], edges_D4[order])
