"""Compute 95 % confidence intervals of proportions, average precision, AUC and operating points.

In simulated splits, from 5 positives on, they cover their figures in 90 to 100 %, by figure and condition; recalls and
false alarms in 94 to 100 %, mostly more than 97 %, so they are wider than they need be: `tests/bench/coverage.csv`.
None has zero width, leaves [0, 1] or lies beside its own point.
"""

# P positives  M negatives  J numbers of negatives above a threshold

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

FloatArray = npt.NDArray[np.floating[Any]]

LEVEL = 0.95
MIN_UNITS = 5
"""Fewer independent positives (bags, or scans without a bag) are too few for an interval."""
NUM_PLACES, NUM_SCALES = 9, 5
"""Between the fewest and the most positives above a threshold that is known by the negatives above it only; and scales
of the tail above the highest negative."""
TAIL_FROM = 100
"""Negatives (effective number) from which on their highest tell how scores go on above them; fewer mislead."""
MAX_TAIL = 50
"""Negatives whose excess over the next lower one tells how the scores go on above the highest."""
MAX_BINS = 128
"""Recalls that are mixed; a thousand of them took 20 ms an interval, 90 s for 1,000 classes."""
MAX_COUNTS = 100
"""If a binomial has more likely values, this many of them are taken at even distances."""
_NUM_HALVINGS, _NUM_HALVINGS_MIXED = 40, 26


@dataclass(frozen=True, slots=True)
class Interval:
    """Bounds of a confidence interval."""

    low: float
    high: float


def effective_number(sizes_G: npt.NDArray[np.integer[Any]]) -> float:
    """Return how many independent scans count as much as groups of these sizes; 0 without scans.

    Scans of one group count as one observation, and unequal groups as somewhat fewer than there are.

    Source:
        Kish, "Survey Sampling" (1965), Section 11.7, with an intra-class correlation of 1.
    """
    total = float(sizes_G.sum())
    return total**2 / float(np.square(sizes_G.astype(np.float64)).sum()) if total else 0.0


def proportion_interval(share: float, num_effective: float, level: float = LEVEL) -> Interval:
    """Return the mid-P interval of a proportion.

    Of the usual intervals the one with the fewest misses for 5 to 20 scans; no interval is within 93 to 97 % for every
    proportion of 5 scans, because only six outcomes exist.

    Source:
        Clopper and Pearson (1934) with half the probability of the outcome itself: Lancaster, "Significance tests in
        discrete distributions" (1961).
    """
    hits, tail = share * num_effective, (1 - level) / 2
    return Interval(
        1 - _mid_p_bound(num_effective - hits, num_effective, tail), _mid_p_bound(hits, num_effective, tail)
    )


def wilson_interval(value: float, num_effective: float, quantile: float) -> Interval:
    """Return the score interval of a mean in [0, 1] whose variance is `value * (1 - value) / num_effective`.

    Source:
        Wilson, "Probable inference, the law of succession, and statistical inference" (1927).
    """
    squared = quantile**2 / num_effective
    centre = value + squared / 2
    half = np.sqrt(value * (1 - value) * squared + squared**2 / 4)
    return Interval(
        float(np.clip((centre - half) / (1 + squared), 0, value)),
        float(np.clip((centre + half) / (1 + squared), value, 1)),
    )


def logit_interval(value: float, num_effective: float, quantile: float) -> Interval:
    """Return the interval of a mean in [0, 1] on the scale of logits, half an observation added on either side."""
    shrunk = (value * num_effective + 0.5) / (num_effective + 1)
    half = quantile / np.sqrt(num_effective * shrunk * (1 - shrunk))
    low, high = special.expit(special.logit(shrunk) + np.array([-half, half]))
    return Interval(min(value, float(low)), max(value, float(high)))


def average_precision_interval(value: float, variance: float, num_positive: float, level: float = LEVEL) -> Interval:
    """Return the interval of an average precision.

    Args:
        value: average precision.
        variance: from its influences, see `model.metrics.uncertainty.influence`.
        num_positive: effective number of positives; Student's t has as many degrees of freedom.
        level: of confidence.
    """
    number = average_precision_number(value, variance, num_positive)
    return wilson_interval(value, number, student_quantile(num_positive, level))


def average_precision_number(value: float, variance: float, num_positive: float) -> float:
    """Return the number of observations that an average precision is worth; see `average_precision_interval`."""
    return _blend(value, variance, num_positive, expected=1.5 * num_positive, weight=2)


def roc_auc_interval(
    value: float, variance: float, num_positive: float, num_negative: float, level: float = LEVEL
) -> Interval:
    """Return the interval of an area under the ROC curve; arguments as of `average_precision_interval`."""
    number = roc_auc_number(value, variance, num_positive, num_negative)
    return logit_interval(value, number, float(special.ndtri((1 + level) / 2)))


def roc_auc_number(value: float, variance: float, num_positive: float, num_negative: float) -> float:
    """Return the number of observations that an area under the ROC curve is worth.

    Source:
        Where positives are few, the variance of exponential scores has weight: Hanley and McNeil, "The meaning and use
        of the area under a receiver operating characteristic (ROC) curve" (1982).
    """
    spread = 1 + (num_positive - 1) * (1 - value) / (2 - value) + (num_negative - 1) * value / (1 + value)
    return _blend(value, variance, num_positive, expected=num_positive * num_negative / spread, weight=2)


def _blend(value: float, variance: float, num_units: float, expected: float, weight: float) -> float:
    """Return the number of observations that `variance` is worth, drawn towards `expected` where units are few.

    Args:
        value: of a figure in [0, 1].
        variance: estimated from `num_units` units.
        num_units: effective number.
        expected: number of observations that the figure is usually worth.
        weight: of `expected`, in units.
    """
    spread = value * (1 - value)
    if spread < 1e-12:
        return expected  # perfect, or hopeless: nothing varies, and the variance is 0
    degrees = max(num_units - 1, 0)
    return float((degrees + weight) / max(degrees * variance / spread + weight / expected, 1e-12))


def recall_interval(
    positives_P: FloatArray,
    negatives_M: FloatArray,
    false_alarm_share: float,
    num_positive: float,
    num_negative: float,
    level: float = LEVEL,
) -> Interval:
    """Return the interval of the recall at the threshold which a share of all clean bags exceeds.

    The threshold is uncertain as well: the number of the split's negatives above it is binomial, and each number leaves
    a range of recalls. The interval holds the middle of the Beta distributions of recall, mixed over numbers and
    ranges. Above the highest negative the threshold is extrapolated from the tail, if there are TAIL_FROM; else it may
    be anywhere above.

    Args:
        positives_P: scores, lowest first.
        negatives_M: scores, lowest first.
        false_alarm_share: in (0, 1).
        num_positive: effective number.
        num_negative: effective number.
        level: of confidence.
    """
    chance_J, first_J, last_J = _count_exceeding(len(negatives_M), false_alarm_share, num_negative)
    fewest_J, most_J = (
        _hits_above(positives_P, negatives_M, first_J)[0],
        _hits_above(positives_P, negatives_M, last_J)[1],
    )
    places = (np.arange(NUM_PLACES) + 0.5) / NUM_PLACES
    hits_JL = fewest_J[:, None] + (most_J - fewest_J)[:, None] * places
    hits, chances = hits_JL.ravel(), np.repeat(chance_J / NUM_PLACES, NUM_PLACES)
    if first_J[0] == 0 and num_negative >= TAIL_FROM:
        beyond = _scores_beyond(negatives_M, num_negative * false_alarm_share, places)
        hits_beyond = np.minimum(len(positives_P) - np.searchsorted(positives_P, beyond, side="left"), most_J[0])
        hits = np.concatenate([hits_beyond, hits[NUM_PLACES:]])
        chances = np.concatenate([np.full(len(beyond), chance_J[0] / len(beyond)), chances[NUM_PLACES:]])
    recalls, chances = _gather(hits, chances, len(positives_P))
    a, b = recalls * num_positive + 0.5, (1 - recalls) * num_positive + 0.5
    tail = (1 - level) / 2
    low_2, high_2, tails_2 = np.zeros(2), np.ones(2), np.array([tail, 1 - tail])
    for _ in range(_NUM_HALVINGS_MIXED):
        middle_2 = (low_2 + high_2) / 2
        is_below_2 = special.betainc(a, b, middle_2[:, None]) @ chances < tails_2
        low_2, high_2 = np.where(is_below_2, middle_2, low_2), np.where(is_below_2, high_2, middle_2)
    allowed = np.array([int(np.floor(false_alarm_share * len(negatives_M) + 1e-9))])
    point = float(_hits_above(positives_P, negatives_M, allowed)[1][0]) / len(positives_P)
    return Interval(min(float(low_2[0]), point), max(float(high_2[1]), point))


def false_alarm_interval(
    positives_P: FloatArray,
    negatives_M: FloatArray,
    recall: float,
    num_positive: float,
    num_negative: float,
    level: float = LEVEL,
) -> Interval:
    """Return the interval of the share of false alarms at the threshold that catches a share of all items."""
    quiet = recall_interval(-negatives_M[::-1], -positives_P[::-1], 1 - recall, num_negative, num_positive, level)
    return Interval(1 - quiet.high, 1 - quiet.low)


def student_quantile(degrees: float, level: float = LEVEL) -> float:
    """Return the two-sided quantile of Student's t."""
    return float(special.stdtrit(max(degrees, 1), (1 + level) / 2))


def _mid_p_bound(hits: float, number: float, tail: float) -> float:
    """Return the proportion at which `hits` or fewer have the mid-P probability `tail`."""
    if number - hits < 1e-9:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(_NUM_HALVINGS):
        middle = (low + high) / 2
        fewer = 1 - special.betainc(hits, number - hits + 1, middle) if hits > 1e-9 else 0.0
        at_most = 1 - special.betainc(hits + 1, number - hits, middle)
        low, high = (middle, high) if (fewer + at_most) / 2 > tail else (low, middle)
    return high


def _count_exceeding(
    num_negatives: int, share: float, num_effective: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the likely numbers of negatives above a threshold that a share exceeds: their chances, and the numbers.

    Groups are above or below as a whole, so each number has a range, from the second to the third value.
    """
    number = max(round(num_effective), 1)
    mean, spread = number * share, np.sqrt(number * share * (1 - share))
    bounds = max(int(mean - 6 * spread - 6), 0), min(int(mean + 6 * spread + 6), number)
    counts_J = np.unique(np.linspace(*bounds, MAX_COUNTS).astype(np.int64))
    chance_J = np.exp(
        special.gammaln(number + 1)
        - special.gammaln(counts_J + 1)
        - special.gammaln(number - counts_J + 1)
        + special.xlogy(counts_J, share)
        + special.xlog1py(number - counts_J, -share)
    )
    scans = num_negatives / number
    first_J = np.floor(counts_J * scans + 1e-9).astype(np.int64)
    last_J = np.maximum(np.ceil((counts_J + 1) * scans - 1e-9).astype(np.int64) - 1, first_J)
    return chance_J / chance_J.sum(), first_J, last_J


def _scores_beyond(
    negatives_M: FloatArray, num_expected: float, places_L: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return likely thresholds above all negatives, where `num_expected` of so many are above on average.

    The tail of the scores is taken to fall exponentially, as its mean excess over the highest tenth says: then the
    number above a score is exp(-excess / scale) of what it was, and the arrivals above it are a Poisson process. The
    scale is as uncertain as the mean of so few excesses: each place is combined with NUM_SCALES scales.

    Source:
        Peaks over threshold with shape 0: Davison and Smith, "Models for exceedances over high thresholds" (1990).
    """
    num_tail = min(max(len(negatives_M) // 10, 1), len(negatives_M) - 1, MAX_TAIL)
    tail, start = negatives_M[len(negatives_M) - num_tail :], negatives_M[len(negatives_M) - num_tail - 1]
    total = float(np.sum(tail - start)) if num_tail and np.isfinite(start) else 0.0
    scales = total / special.gammaincinv(max(num_tail, 1), (np.arange(NUM_SCALES) + 0.5) / NUM_SCALES)
    beyond_SL = negatives_M[-1] + scales[:, None] * np.log1p(-np.log1p(-places_L) / num_expected)
    beyond: npt.NDArray[np.float64] = beyond_SL.ravel()
    return beyond


def _gather(
    hits: npt.NDArray[np.float64], weights: npt.NDArray[np.float64], number: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the shares of `number`, gathered into at most MAX_BINS, each the mean of its own.

    Bins are equally wide as logits: on a linear scale all shares near 0 or 1 became one.
    """
    logits = special.logit((hits + 0.5) / (number + 1))
    width = max(float(np.ptp(logits)) / MAX_BINS, 1e-12)
    bins = np.minimum(((logits - logits.min()) / width).astype(np.int64), MAX_BINS - 1)
    total, sums = (np.bincount(bins, of).astype(np.float64) for of in (weights, weights * hits / number))
    filled = total > 0
    return np.clip(sums[filled] / total[filled], 0, 1), total[filled]


def _hits_above(
    positives_P: FloatArray, negatives_M: FloatArray, num_above_J: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the fewest and the most positives above a threshold that `num_above_J` negatives exceed."""
    padded = np.concatenate([[-np.inf], negatives_M, [np.inf]])
    at_J = len(negatives_M) + 1 - np.minimum(num_above_J, len(negatives_M))
    fewest_J = len(positives_P) - np.searchsorted(positives_P, padded[at_J], side="left")
    most_J = len(positives_P) - np.searchsorted(positives_P, padded[at_J - 1], side="right")
    return np.minimum(fewest_J, most_J), most_J
