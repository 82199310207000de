"""Rate how often the class of a scan is among the k highest scores."""

from dataclasses import dataclass

from model.evaluation.scans.scored_scans import ScoredScans
from model.evaluation.uncertainty import share_interval
from model.metrics import ranking
from model.metrics.uncertainty.intervals import Interval

TOP_K = (1, 5)
"""Values of k in the CHR paper, Section 5.5."""


@dataclass(frozen=True, slots=True)
class TopKAccuracy:
    """Share of scans whose class is among the k highest scores."""

    value: float
    interval: Interval | None
    """None if none was asked for, of too few scans, or if k classes are all there are."""


def rate_top_k(scans: ScoredScans, with_intervals: bool) -> dict[int, TopKAccuracy] | None:
    """Return the accuracy for each k of `TOP_K`; None unless every scan has exactly one class."""
    true_N = ranking.true_classes(scans.labels_NK)
    if true_N is None:
        return None
    accuracies = {}
    for k in TOP_K:
        is_hit_N = ranking.is_in_top_k(scans.logits_NK, true_N, k)
        is_open = k < scans.labels_NK.shape[1]  # else every scan is a hit
        interval = share_interval(is_hit_N, scans.groups_N) if with_intervals and is_open else None
        accuracies[k] = TopKAccuracy(float(is_hit_N.mean()), interval)
    return accuracies
