"""How often does the heatmap point at the item, and how often would it by luck?"""

# N scans  S scans that can be judged  B boxes

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.evaluation.scored_scans import ScoredScans
from model.metrics.pointing import covered_shares, largest_box_centres, points_hit
from model.metrics.ranking import PRESENT

TOLERANCES_PX = (0, 15, 18)
"""None as in the paper, 15 as in common code for the pointing game, 18 to see how fast the figure still grows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PointingFigures:
    """How often the heatmap's highest pixel lies in a box of the class."""

    num_evaluable: int
    """Scans that hold the class and have at least one box of it."""
    num_hits: int
    num_hits_within: dict[int, int]
    """By tolerance in pixels around the boxes; at 0 it is `num_hits`."""
    random_point: float | None
    """What a random point of the image would reach: the mean share that the boxes cover."""
    largest_box: float | None
    """What the centre of the scan's largest box of any class would reach: knowing where, not what."""

    @property
    def accuracy(self) -> float | None:
        """#hits / (#hits + #misses); None where no scan can be judged."""
        return self.accuracy_within(0)

    def accuracy_within(self, tolerance_px: int) -> float | None:
        """Return the accuracy when a point so many pixels outside of a box still counts."""
        return self.num_hits_within[tolerance_px] / self.num_evaluable if self.num_evaluable else None


NOT_EVALUABLE = PointingFigures(
    num_evaluable=0,
    num_hits=0,
    num_hits_within=dict.fromkeys(TOLERANCES_PX, 0),
    random_point=None,
    largest_box=None,
)


@dataclass(frozen=True, slots=True)
class PointingHits:
    """Where the heatmap of a class pointed, on the scans that hold the class and have a box of it."""

    row_S: npt.NDArray[np.int64]
    """Which of the N scans each is."""
    own_scan_B: npt.NDArray[np.int64]
    """The scan, in 0..S-1, of each box of the class."""
    own_edges_B4: npt.NDArray[np.float32]
    is_hit_S: npt.NDArray[np.bool_]
    """Whether its peak lies in one of its boxes."""


def find_pointing_hits(scans: ScoredScans, k: int) -> PointingHits:
    """Return where class `k` can be judged, and how it did; S is 0 where no scan can."""
    present_N = scans.labels_NK[:, k] == PRESENT
    own_B = (scans.box_class_B == k) & present_N[scans.box_scan_B]
    row_S, own_scan_B = np.unique(scans.box_scan_B[own_B], return_inverse=True)
    own_edges_B4 = scans.box_edges_B4[own_B]
    return PointingHits(
        row_S, own_scan_B, own_edges_B4, points_hit(scans.peaks_NK2[row_S, k], own_scan_B, own_edges_B4)
    )


def rate_pointing(scans: ScoredScans, k: int) -> PointingFigures:
    """Return the pointing figures of class `k`, over the scans where it is present and has a box.

    Source:
        "SIXray: A Large-scale Security Inspection X-ray Benchmark" (CVPR 2019), Section 5.1.
    """
    if k >= len(scans.classes):
        return NOT_EVALUABLE  # any item: no heatmap is of no class
    judged = find_pointing_hits(scans, k)
    row_S, own_scan_B, own_edges_B4 = judged.row_S, judged.own_scan_B, judged.own_edges_B4
    if not len(row_S):
        return NOT_EVALUABLE
    points_S2 = scans.peaks_NK2[row_S, k]
    hits = {0: int(judged.is_hit_S.sum())} | {
        tolerance: int(points_hit(points_S2, own_scan_B, own_edges_B4, tolerance).sum())
        for tolerance in TOLERANCES_PX[1:]
    }
    centres_N2 = largest_box_centres(scans.box_scan_B, scans.box_edges_B4, len(scans.labels_NK))
    return PointingFigures(
        num_evaluable=len(row_S),
        num_hits=hits[0],
        num_hits_within=hits,
        random_point=float(covered_shares(own_scan_B, own_edges_B4, scans.sizes_N2[row_S]).mean()),
        largest_box=float(points_hit(centres_N2[row_S], own_scan_B, own_edges_B4).mean()),
    )
