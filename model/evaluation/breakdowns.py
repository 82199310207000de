"""Break figures down by size of the item, number of items and size of the image; count misses and confusions."""

# N scans  B boxes

import itertools
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from model.evaluation.scored_scans import UNSCORED, ScoredScans
from model.metrics import ranking as metrics
from model.metrics.operating_points import OperatingPoint
from model.metrics.ranking import ABSENT, PRESENT, Ranking

BoolArray = npt.NDArray[np.bool_]

BOX_SHARE_EDGES = (0.0, 0.02, 0.05, 0.10, np.inf)
"""Approximate quartiles of the boxes in SIXray: the median item covers 5 % of its image."""
MEGAPIXEL_EDGES = (0.0, 0.25, 0.5, np.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """Figures of one class over part of the scans."""

    name: str
    num_positive: int
    num_negative: int
    average_precision: float | None
    """Depends on the ratio of positives to negatives: compare breakdowns by the other two figures."""
    roc_auc: float | None
    recall: float | None
    """At the threshold of the whole split for a few false alarms; None without one or without positives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassBreakdowns:
    """Figures of one class by properties of its scans."""

    by_box_size: tuple[Breakdown, ...]
    """By the class' largest box in the scan, as a share of the image; every breakdown keeps all negatives."""
    by_num_items: tuple[Breakdown, ...]
    """By the labelled items of any class in the scan; every breakdown keeps all negatives."""
    by_image_size: tuple[Breakdown, ...]
    """By the pixels of the scan; a breakdown has its own negatives."""


def rate_breakdowns(scans: ScoredScans, k: int, point: OperatingPoint | None) -> ClassBreakdowns:
    """Return the breakdowns of class `k`; `point` gives the threshold of their recall."""
    scores_N, labels_N = scans.column(k)
    negatives_M = metrics.rank(scores_N, labels_N).negatives_M
    threshold = point.threshold if point is not None else None

    def rate(named: list[tuple[str, BoolArray]], keep_negatives: bool) -> tuple[Breakdown, ...]:
        rankings = [metrics.rank(scores_N[within_N], labels_N[within_N]) for _, within_N in named]
        if keep_negatives:
            # Negatives have no box of the class, so every breakdown has all of them.
            rankings = [replace(ranking, negatives_M=negatives_M) for ranking in rankings]
        return tuple(_rate(name, of, threshold) for (name, _), of in zip(named, rankings, strict=True))

    return ClassBreakdowns(
        by_box_size=rate(_bands(_largest_box_share(scans, k), BOX_SHARE_EDGES, 100, "%"), True),
        by_num_items=rate(_counts(scans), True),
        by_image_size=rate(_bands(scans.sizes_N2.prod(axis=1, dtype=np.int64) / 1e6, MEGAPIXEL_EDGES, 1, "MP"), False),
    )


def _rate(name: str, ranking: Ranking, threshold: float | None) -> Breakdown:
    found = (
        int(ranking.num_true(np.array([threshold], ranking.positives_P.dtype))[0]) if threshold is not None else None
    )
    return Breakdown(
        name=name,
        num_positive=ranking.num_positive,
        num_negative=ranking.num_negative,
        average_precision=metrics.average_precision(metrics.trace_curve(ranking)),
        roc_auc=metrics.roc_auc(ranking),
        recall=found / ranking.num_positive if found is not None and ranking.num_positive else None,
    )


def _largest_box_share(scans: ScoredScans, k: int) -> npt.NDArray[np.float64]:
    """Return the largest box of class `k` in each scan as a share of the image; NaN without one."""
    of_class_B = scans.box_class_B == k
    edges_B4 = scans.box_edges_B4[of_class_B].astype(np.float64)
    scan_B = scans.box_scan_B[of_class_B]
    area_B = (edges_B4[:, 2] - edges_B4[:, 0]) * (edges_B4[:, 3] - edges_B4[:, 1])
    share_N = np.full(len(scans.labels_NK), -np.inf)
    np.maximum.at(share_N, scan_B, area_B / scans.sizes_N2[scan_B].prod(axis=1, dtype=np.int64))
    return np.where(np.isfinite(share_N), share_N, np.nan)


def _bands(
    values_N: npt.NDArray[np.float64], edges: tuple[float, ...], scale: float, unit: str
) -> list[tuple[str, BoolArray]]:
    named = []
    for low, high in itertools.pairwise(edges):
        if high == np.inf:
            name = f"from {scale * low:g} {unit}"
        elif low == 0:
            name = f"below {scale * high:g} {unit}"
        else:
            name = f"{scale * low:g}–{scale * high:g} {unit}"
        named.append((name, (values_N >= low) & (values_N < high)))
    return named


def _counts(scans: ScoredScans) -> list[tuple[str, BoolArray]]:
    known_B = scans.box_class_B >= 0
    items_N = np.bincount(scans.box_scan_B[known_B], minlength=len(scans.labels_NK))
    return [("1 item", items_N == 1), ("2 items", items_N == 2), ("3 or more", items_N >= 3)]


@dataclass(frozen=True, slots=True)
class Mistakes:
    """Misses and confusions, at one threshold a class."""

    num_missed_K: npt.NDArray[np.int64]
    """Scans that hold class i and raise no alarm for it."""
    num_confused_KK: npt.NDArray[np.int64]
    """Of these, scans that raise a false alarm for class j instead; shape (0, 0) if not asked for."""


def count_mistakes(scans: ScoredScans, points: list[OperatingPoint | None], by_pair: bool = True) -> Mistakes:
    """Return the misses of each class and, `by_pair`, its confusions with each other class."""
    never = np.inf
    thresholds_K = np.array([never if p is None or p.threshold is None else p.threshold for p in points])
    alarm_NK = scans.logits_NK >= thresholds_K
    missed_NK = (scans.labels_NK == PRESENT) & ~alarm_NK & (scans.logits_NK != UNSCORED)
    if not by_pair:
        return Mistakes(missed_NK.sum(axis=0), np.zeros((0, 0), np.int64))
    false_NK = (scans.labels_NK == ABSENT) & alarm_NK
    wrong = missed_NK.any(axis=1)
    confused_KK = missed_NK[wrong].T.astype(np.int64) @ false_NK[wrong].astype(np.int64)
    return Mistakes(missed_NK.sum(axis=0), confused_KK)
