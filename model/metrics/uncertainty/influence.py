"""Compute how much each group of scans moves a figure: the variances of average precision and AUC, and of their means.

The influence of a group is the derivative of a figure by the group's weight (infinitesimal jackknife, Efron 1982).
"""

# N scans  G groups  P positives  M negatives  T distinct scores of positives, highest first

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model.metrics.uncertainty.intervals import effective_number
from shards.format.classes import ABSENT, PRESENT

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.integer[Any]]
_Sides = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
"""Influences of the positives and of the negatives."""


@dataclass(frozen=True, slots=True)
class Influences:
    """Influences of the groups on two figures of one class, and how many independent scans there are."""

    average_precision_G: npt.NDArray[np.float64]
    average_precision_variance: float
    roc_auc_G: npt.NDArray[np.float64]
    """All 0 without negatives."""
    roc_auc_variance: float
    num_positive_groups: int
    num_negative_groups: int
    effective_positives: float
    effective_negatives: float


def find_influences(
    scores_N: FloatArray,
    labels_N: IntArray,
    groups_N: IntArray,
    num_groups: int,
    baseline_N: FloatArray | None = None,
) -> Influences:
    """Return the influences on the figures of one class; all 0 without positives.

    Args:
        scores_N: finite; higher means more likely present.
        labels_N: 1 present, 0 absent; scans with another label have no influence.
        groups_N: from 0 to `num_groups` - 1; the scans of a group count as one observation.
        num_groups: G.
        baseline_N: scores of another model; then the influences are on the differences from its figures.
    """
    positive_N, negative_N = np.flatnonzero(labels_N == PRESENT), np.flatnonzero(labels_N == ABSENT)
    sizes_2G = [np.bincount(groups_N[rows], minlength=num_groups) for rows in (positive_N, negative_N)]

    def gather(positive_P: FloatArray, negative_M: FloatArray) -> tuple[npt.NDArray[np.float64], float]:
        by_side = [
            _add_by_group(values - (values.mean() if len(values) else 0.0), groups_N[rows], num_groups)
            for values, rows in ((positive_P, positive_N), (negative_M, negative_N))
        ]
        total_G = by_side[0] + by_side[1]
        squares = [float(np.square(of_side).sum()) for of_side in by_side]
        numbers = [effective_number(sizes_G) for sizes_G in sizes_2G]
        # As the n - 1 of a sample variance.
        extra = sum(of / max(number - 1, 1) for of, number in zip(squares, numbers, strict=True) if number > 1)
        return total_G, float(np.square(total_G).sum()) + extra

    def differ(influences: Callable[[FloatArray, FloatArray], _Sides]) -> _Sides:
        positive_P, negative_M = influences(scores_N[positive_N], scores_N[negative_N])
        if baseline_N is None:
            return positive_P, negative_M
        there_P, there_M = influences(baseline_N[positive_N], baseline_N[negative_N])
        return positive_P - there_P, negative_M - there_M

    average_precision_G, average_precision_variance = gather(*differ(_average_precision_influences))
    roc_auc_G, roc_auc_variance = gather(*differ(_roc_auc_influences))
    return Influences(
        average_precision_G,
        average_precision_variance,
        roc_auc_G,
        roc_auc_variance,
        *(int(np.count_nonzero(sizes_G)) for sizes_G in sizes_2G),
        *(effective_number(sizes_G) for sizes_G in sizes_2G),
    )


def _average_precision_influences(positives_P: FloatArray, negatives_M: FloatArray) -> _Sides:
    lowest_first_T, index_P, gained_T = np.unique(positives_P, return_inverse=True, return_counts=True)
    # From here on, index 0 is the lowest score.
    true_T = np.cumsum(gained_T[::-1])[::-1]
    false_T = len(negatives_M) - np.searchsorted(np.sort(negatives_M), lowest_first_T, side="left")
    precision_T = true_T / (true_T + false_T)
    weight_T = gained_T / max(len(positives_P), 1) / np.square(true_T + false_T)
    own_T = (precision_T - gained_T @ precision_T / max(len(positives_P), 1)) / max(len(positives_P), 1)
    # Another positive or negative changes the precision at each score up to its own.
    by_positive_T, by_negative_T = np.cumsum(weight_T * false_T), np.cumsum(weight_T * true_T)
    num_below_M = np.searchsorted(lowest_first_T, negatives_M, side="right")
    return (own_T + by_positive_T)[index_P], -np.concatenate([[0.0], by_negative_T])[num_below_M]


def _roc_auc_influences(positives_P: FloatArray, negatives_M: FloatArray) -> _Sides:
    """Return the placement values over their numbers (DeLong et al., 1988; by groups: Obuchowski, 1997)."""
    num_positive, num_negative = len(positives_P), len(negatives_M)
    if not num_positive or not num_negative:
        return np.zeros(num_positive), np.zeros(num_negative)
    sorted_P, sorted_M = np.sort(positives_P), np.sort(negatives_M)
    beaten_P = _mean_rank(sorted_M, positives_P) / num_negative
    beating_M = 1 - _mean_rank(sorted_P, negatives_M) / num_positive
    return beaten_P / num_positive, beating_M / num_negative


def _mean_rank(sorted_scores: FloatArray, values: FloatArray) -> npt.NDArray[np.float64]:
    """Return how many of the scores lie below each value, a tie counting half."""
    below, at_or_below = (np.searchsorted(sorted_scores, values, side=side) for side in ("left", "right"))
    return (below + at_or_below) / 2


def _add_by_group(values: FloatArray, groups: IntArray, num_groups: int) -> npt.NDArray[np.float64]:
    # Without scans, bincount returns whole numbers.
    return np.bincount(groups, weights=values, minlength=num_groups).astype(np.float64)
