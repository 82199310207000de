"""Rate rankings: average precision and ROC AUC with ties, and top-k accuracy."""

# N scans  K classes  P positives  M negatives  T distinct scores of positives, highest first

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shards.format.classes import ABSENT, PRESENT, UNKNOWN

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class Ranking:
    """The sorted scores of one class' positives and negatives, from which all its figures follow."""

    positives_P: FloatArray
    """Scores of the scans that hold the class, lowest first."""
    negatives_M: FloatArray
    """Scores of the scans that do not, lowest first."""
    num_unknown: int
    """Scans with an unknown label, left out."""

    @property
    def num_positive(self) -> int:
        """Scans that hold the class."""
        return len(self.positives_P)

    @property
    def num_negative(self) -> int:
        """Scans that do not hold the class."""
        return len(self.negatives_M)

    @property
    def prevalence(self) -> float | None:
        """Share of positives among the scans with a known label; None if no label is known."""
        known = self.num_positive + self.num_negative
        return self.num_positive / known if known else None

    def num_true(self, thresholds: FloatArray) -> IntArray:
        """Return how many positives score at least each threshold."""
        return self.num_positive - np.searchsorted(self.positives_P, thresholds, side="left")

    def num_false(self, thresholds: FloatArray) -> IntArray:
        """Return how many negatives score at least each threshold."""
        return self.num_negative - np.searchsorted(self.negatives_M, thresholds, side="left")


@dataclass(frozen=True, slots=True)
class Curve:
    """Operating points at every distinct score of a positive.

    Between two of them only false alarms are added, so no other threshold has a higher precision at its recall. T is
    small if positives are rare.
    """

    thresholds_T: FloatArray
    """A score of at least the threshold raises an alarm, so tied scans are alarms together."""
    num_true_T: IntArray
    num_false_T: IntArray
    num_positive: int
    num_negative: int

    @property
    def precision_T(self) -> npt.NDArray[np.float64]:
        """Share of the alarms that are right."""
        precision_T: npt.NDArray[np.float64] = self.num_true_T / (self.num_true_T + self.num_false_T)
        return precision_T

    @property
    def recall_T(self) -> npt.NDArray[np.float64]:
        """Share of the positives that raise an alarm."""
        recall_T: npt.NDArray[np.float64] = self.num_true_T / self.num_positive
        return recall_T


def rank(scores_N: FloatArray, labels_N: IntArray) -> Ranking:
    """Return the ranking of one class.

    Args:
        scores_N: float, higher means more likely present; any monotone scale, logits as well as probabilities.
        labels_N: 1 present, 0 absent, -1 unknown.

    Raises:
        ValueError: the lengths differ, a score is NaN or infinite, a label is another number.
    """
    if scores_N.shape != labels_N.shape or scores_N.ndim != 1:
        raise ValueError(f"scores and labels must be of one length, got shapes {scores_N.shape} and {labels_N.shape}")
    if not np.isfinite(scores_N).all():
        row = int(np.flatnonzero(~np.isfinite(scores_N))[0])
        raise ValueError(f"scores must be finite, got {scores_N[row]} (row {row})")
    present_N, absent_N = labels_N == PRESENT, labels_N == ABSENT
    num_unknown = int(np.count_nonzero(labels_N == UNKNOWN))
    positives_P, negatives_M = np.sort(scores_N[present_N]), np.sort(scores_N[absent_N])
    if len(positives_P) + len(negatives_M) + num_unknown != len(labels_N):
        raise ValueError(f"labels must be 1, 0 or -1 (unknown), got {sorted(set(np.unique(labels_N).tolist()))}")
    return Ranking(positives_P, negatives_M, num_unknown)


def trace_curve(ranking: Ranking) -> Curve:
    """Return the operating points of a ranking; T is 0 for a class without positives."""
    thresholds_T = np.unique(ranking.positives_P)[::-1]
    return Curve(
        thresholds_T,
        ranking.num_true(thresholds_T),
        ranking.num_false(thresholds_T),
        ranking.num_positive,
        ranking.num_negative,
    )


def average_precision(curve: Curve) -> float | None:
    """Return the non-interpolated average precision, in [0, 1]; None for a class without positives.

    The mean over positives of the precision among all scans that score at least as high as that positive.
    A random ranking has the prevalence on average.

    Source:
        scikit-learn's `average_precision_score`, which shares ties as is done here. The SIXray authors' meter
        (MeioJane/CHR, CHR/util.py) has the same definition, but there tied scores follow the order of rows.
    """
    if not curve.num_positive:
        return None
    return float(np.diff(curve.num_true_T, prepend=0) @ curve.precision_T / curve.num_positive)


def debiased_average_precision(ranking: Ranking) -> float:
    """Return a class' average precision without the bias of few scans; it may leave [0, 1].

    The average precision of few positives is too high: each counts among the alarms at its own score, and the number of
    negatives above it is noisy. Here the precision at a positive is that of the other positives, at the prevalence of
    all, and the bias that remains is measured by leaving out one more positive, and one negative. It varies more than
    the average precision itself, so it serves means over many classes only.

    Source:
        The jackknife of Quenouille, "Notes on bias in estimation" (1956), for each side; averages over what is left out
        need no loop, because only its being above or below a positive matters.
    """
    num_positive, num_negative = ranking.num_positive, ranking.num_negative
    if num_positive < 3 or num_negative < 2:
        return average_precision(trace_curve(ranking)) or 0.0
    true_P, false_P = (count(ranking.positives_P).astype(np.float64) for count in (ranking.num_true, ranking.num_false))

    def precision(
        others_P: npt.NDArray[np.float64], num_others: int, alarms_P: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        scaled_P = np.maximum(others_P, 0) * (num_positive / num_others)
        total_P = scaled_P + np.maximum(alarms_P, 0)
        return np.where(total_P > 0, scaled_P / np.maximum(total_P, 1e-300), 1.0)

    def leave_out(chance_P: npt.NDArray[np.float64], above: FloatArray, below: FloatArray) -> float:
        return float((chance_P * above + (1 - chance_P) * below).mean())

    figure = float(precision(true_P - 1, num_positive - 1, false_P).mean())
    one_positive_less = leave_out(
        (true_P - 1) / (num_positive - 1),
        precision(true_P - 2, num_positive - 2, false_P),
        precision(np.minimum(true_P - 1, num_positive - 2), num_positive - 2, false_P),
    )
    scale = num_negative / (num_negative - 1)
    one_negative_less = leave_out(
        false_P / num_negative,
        precision(true_P - 1, num_positive - 1, (false_P - 1) * scale),
        precision(true_P - 1, num_positive - 1, false_P * scale),
    )
    bias = (num_positive - 1) * (one_positive_less - figure) + (num_negative - 1) * (one_negative_less - figure)
    return figure - bias


def average_precision_voc_all_points(curve: Curve) -> float | None:
    """Return the area under the precision envelope, in [0, 1]; None for a class without positives.

    The envelope at a recall is the highest precision at that recall or any higher one; never below the
    non-interpolated figure.

    Source:
        PASCAL VOC from 2010 on (development kit, VOCap.m); tied scores share a rank here.
    """
    if not curve.num_positive:
        return None
    envelope_T = np.maximum.accumulate(curve.precision_T[::-1])[::-1]
    return float(np.diff(curve.num_true_T, prepend=0) @ envelope_T / curve.num_positive)


def average_precision_voc2007(curve: Curve) -> float | None:
    """Return the 11-point average precision, in [0, 1]; None for a class without positives.

    The mean of the precision envelope at the recalls 0, 0.1, ..., 1, and 0 at a recall that is not reached.
    Recalls are compared as whole numbers: 3 of 10 positives do reach a recall of 0.3.

    Source:
        PASCAL VOC 2007 (Everingham et al., "The PASCAL Visual Object Classes Challenge", IJCV 2010, Section 4.2).
    """
    if not curve.num_positive:
        return None
    envelope_T = np.maximum.accumulate(curve.precision_T[::-1])[::-1]
    # All positives are found at the lowest threshold, so every recall is reached at some point.
    first_reaching = np.searchsorted(curve.num_true_T * 10, np.arange(11) * curve.num_positive, side="left")
    return float(envelope_T[first_reaching].mean())


def roc_auc(ranking: Ranking) -> float | None:
    """Return the area under the ROC curve, in [0, 1]; None for a class without positives or without negatives.

    The chance that a random positive scores above a random negative, a tie counting half (Mann-Whitney U).

    Source:
        Equal to scikit-learn's `roc_auc_score`.
    """
    pairs = ranking.num_positive * ranking.num_negative
    if not pairs:
        return None
    below = np.searchsorted(ranking.negatives_M, ranking.positives_P, side="left")
    at_or_below = np.searchsorted(ranking.negatives_M, ranking.positives_P, side="right")
    return int(below.sum() + at_or_below.sum()) / (2 * pairs)


def true_classes(labels_NK: IntArray) -> npt.NDArray[np.int64] | None:
    """Return the class of each scan, (N,); None unless every scan has one of several classes and no label is unknown.

    Args:
        labels_NK: 1 present, 0 absent, -1 unknown.
    """
    is_single = ((labels_NK == PRESENT).sum(axis=1) == 1).all() and not (labels_NK == UNKNOWN).any()
    return labels_NK.argmax(axis=1) if is_single and len(labels_NK) and labels_NK.shape[1] > 1 else None


def top_k_accuracy(logits_NK: FloatArray, true_N: IntArray, k: int) -> float:
    """Return the share of scans whose class is among the `k` highest logits; see `is_in_top_k`."""
    return float(is_in_top_k(logits_NK, true_N, k).mean())


def is_in_top_k(logits_NK: FloatArray, true_N: IntArray, k: int) -> npt.NDArray[np.bool_]:
    """Return whether each scan's class is among the `k` highest logits; 1 - the mean is the top-k error.

    A class with the same logit counts as higher, so that a constant output scores 0.

    Args:
        logits_NK: fused logits; a NaN counts as a wrong answer.
        true_N: the class of each scan; at least one scan.

    Source:
        CHR, Section 5.5. Without ties scikit-learn's `top_k_accuracy_score`.
    """
    own_N1 = np.take_along_axis(logits_NK, true_N[:, None], axis=1)
    num_lower_N = (logits_NK < own_N1).sum(axis=1)
    is_in_top_N: npt.NDArray[np.bool_] = num_lower_N >= logits_NK.shape[1] - k
    return is_in_top_N


AVERAGE_PRECISIONS = {
    "non_interpolated": average_precision,
    "voc_all_points": average_precision_voc_all_points,
    "voc2007_11_point": average_precision_voc2007,
}
"""Definitions of average precision in reports; summaries show the first."""


def mean_of_defined(values: list[float | None]) -> float | None:
    """Return the mean of the values that are not None; None if all are.

    A class without positives has no average precision and is left out of the mean.
    """
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None
