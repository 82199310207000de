"""How often is a scan's one class among the highest scores?"""

# N scans  J numbers of guesses  R bootstrap rounds

from dataclasses import dataclass

from model.evaluation.scored_scans import ScoredScans
from model.metrics import bootstrap, ranking
from model.metrics.bootstrap import GroupedHits
from model.metrics.intervals import Interval, percentile_interval

TOP_K = (1, 5)
"""Of the CHR paper's Section 5.5."""


@dataclass(frozen=True, slots=True)
class TopKAccuracy:
    """The share of scans whose class is among so many highest scores."""

    value: float
    interval: Interval | None
    """None when no bootstrap was asked for."""


def rate_top_k(scans: ScoredScans, num_rounds: int) -> dict[int, TopKAccuracy] | None:
    """Return the accuracy of each of NUMS_GUESSES; None unless every scan has exactly one class.

    Args:
        scans: of one split.
        num_rounds: of the bootstrap, which draws the scans that it draws for every other figure; 0 for no intervals.
    """
    true_N = ranking.true_classes(scans.labels_NK)
    if true_N is None:
        return None
    hits_JN = [ranking.is_in_top_k(scans.logits_NK, true_N, number) for number in TOP_K]
    judged = [GroupedHits(scans.groups_N, is_hit_N) for is_hit_N in hits_JN]
    rates_RJ = bootstrap.resample((), scans.num_groups, (), num_rounds, judged=judged).hit_rate_RJ
    return {
        number: TopKAccuracy(float(is_hit_N.mean()), percentile_interval(rates_R))
        for number, is_hit_N, rates_R in zip(TOP_K, hits_JN, rates_RJ.T, strict=True)
    }
