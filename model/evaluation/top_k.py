"""Rate how often the class of a scan is among the k highest scores."""

from dataclasses import dataclass

from model.evaluation.scored_scans import ScoredScans
from model.metrics import bootstrap, ranking
from model.metrics.bootstrap import GroupedHits
from model.metrics.intervals import Interval, percentile_interval

TOP_K = (1, 5)
"""Values of k in the CHR paper, Section 5.5."""


@dataclass(frozen=True, slots=True)
class TopKAccuracy:
    """Share of scans whose class is among the k highest scores."""

    value: float
    interval: Interval | None
    """None if no bootstrap was asked for."""


def rate_top_k(scans: ScoredScans, num_rounds: int) -> dict[int, TopKAccuracy] | None:
    """Return the accuracy for each k of `TOP_K`; None unless every scan has exactly one class.

    Args:
        scans: of one split.
        num_rounds: of the bootstrap, which draws the same scans as for every other figure; 0 for no intervals.
    """
    true_N = ranking.true_classes(scans.labels_NK)
    if true_N is None:
        return None
    hits = [GroupedHits(scans.groups_N, ranking.is_in_top_k(scans.logits_NK, true_N, k)) for k in TOP_K]
    rounds = bootstrap.resample((), scans.num_groups, (), num_rounds, hits=hits).hit_rates
    return {
        k: TopKAccuracy(float(of.is_hit_S.mean()), percentile_interval(rates_R))
        for k, of, rates_R in zip(TOP_K, hits, rounds, strict=True)
    }
