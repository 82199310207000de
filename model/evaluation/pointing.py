"""Rate how often the peak of a class' heatmap lies in a box of the class, beside simple baselines."""

# N scans  S evaluable scans  B boxes

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.evaluation.scans.scored_scans import ScoredScans
from model.metrics.pointing import covered_shares, largest_box_centres, points_hit
from shards.format.classes import PRESENT

TOLERANCES_PX = (0, 15, 18)
"""0 as in the paper, 15 as in common code for the pointing game, 18 for how fast the figure still grows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PointingFigures:
    """How often the peak of a class' heatmap lies in a box of the class."""

    num_evaluable: int
    """Scans that hold the class and have at least one box of it."""
    num_hits: int
    num_hits_within: dict[int, int]
    """By tolerance in pixels around the boxes; at 0 equal to `num_hits`."""
    random_point: float | None
    """Accuracy of a random point of the image: the mean share that the boxes cover."""
    largest_box: float | None
    """Accuracy of the centre of the scan's largest box of any class: location known, class ignored."""

    @property
    def accuracy(self) -> float | None:
        """#hits / (#hits + #misses); None without evaluable scans."""
        return self.accuracy_within(0)

    def accuracy_within(self, tolerance_px: int) -> float | None:
        """Return the accuracy if a point up to `tolerance_px` outside a box counts."""
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
    """Peaks of a class and its boxes, on the evaluable scans: those that hold the class and have a box of it."""

    row_S: npt.NDArray[np.int64]
    """Row of each among the N scans."""
    own_scan_B: npt.NDArray[np.int64]
    """The scan, in 0..S-1, of each box of the class."""
    own_edges_B4: npt.NDArray[np.float32]
    is_hit_S: npt.NDArray[np.bool_]
    """Whether its peak lies in one of its boxes."""


def find_pointing_hits(scans: ScoredScans, k: int) -> PointingHits:
    """Return the hits and misses of class `k`; S may be 0.

    Predictions without any peaks are not evaluable. Where others have peaks, a scan in which a detector found no box of
    the class is a miss.
    """
    present_N = (scans.labels_NK[:, k] == PRESENT) & bool(np.isfinite(scans.peaks_NK2).any())
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
    found = find_pointing_hits(scans, k)
    row_S, own_scan_B, own_edges_B4 = found.row_S, found.own_scan_B, found.own_edges_B4
    if not len(row_S):
        return NOT_EVALUABLE
    points_S2 = scans.peaks_NK2[row_S, k]
    hits = {0: int(found.is_hit_S.sum())} | {
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
