"""Rate systems at any prevalence by weighting negatives, with a bootstrap over source bags and seeds.

Shapes: M scans of a test  R rounds  K classes  S seeds  F folds
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.metrics.uncertainty.bootstrap import percentile_interval
from model.metrics.uncertainty.intervals import Interval
from tests.bench.experiment.compositions import CLASSES, NO_ITEM, Compositions, IntArray, Sources, kinds_of_bags

NUM_ROUNDS = 2000
MARGIN = 0.01
"""A growth of the gain in mean AP below this is none."""
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Learned:
    """The mean AP of one system, trained at one ratio."""

    by_seed: tuple[float, ...]
    """Over folds and classes."""
    rounds_R: FloatArray

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return float(np.mean(self.by_seed))


@dataclass(frozen=True, slots=True)
class Contrast:
    """A sum of mean APs with signs, and its interval."""

    value: float
    interval: Interval

    def __str__(self) -> str:
        return f"{self.value:+.4f} ({self.interval.low:+.4f} to {self.interval.high:+.4f})"


def contrast(learned: Mapping[tuple[str, int], Learned], signs: Mapping[tuple[str, int], int]) -> Contrast:
    """Return the sum of the mean APs of (system, ratio) with their signs, from paired rounds."""
    value = sum(sign * learned[of].mean for of, sign in signs.items())
    interval = percentile_interval(np.sum([sign * learned[of].rounds_R for of, sign in signs.items()], axis=0))
    assert interval is not None
    return Contrast(value, interval)


def growth(system: str, baseline: str, rare: int = 100, common: int = 10) -> dict[tuple[str, int], int]:
    """Return the signs of what the gain over a baseline has more where positives are rare."""
    return {(system, rare): 1, (baseline, rare): -1, (system, common): -1, (baseline, common): 1}


def judge(primary: Contrast) -> str:
    """Return the verdict by the rule that was written before the run."""
    if primary.interval.low > 0:
        return "grows"
    return "does not grow at this scale" if primary.interval.high < MARGIN else "undecided"


def draw_bags(plan: Compositions, rows: IntArray, sources: Sources, num_rounds: int, seed: int) -> FloatArray:
    """Return how often each scan of a test counts in each round (R, M): the product of its two bags' counts.

    Bags are drawn with replacement among those of the same kind (of each class, and without items). The first round
    counts every scan once.

    Source:
        A. B. Owen, "The pigeonhole bootstrap" (2007): factors that are crossed are drawn each by itself.
    """
    random, kind_G = np.random.default_rng(seed), kinds_of_bags(sources)
    first_M, second_M = sources.bag_N[plan.first_M[rows]], sources.bag_N[plan.second_M[rows]]
    counts_RG = np.zeros((num_rounds, len(kind_G)))
    tested = np.union1d(first_M, second_M)
    for kind in np.unique(kind_G[tested]):
        bags = tested[kind_G[tested] == kind]
        drawn_RG = random.integers(0, len(bags), (num_rounds, len(bags)))
        counts_RG[:, bags] = [np.bincount(drawn_G, minlength=len(bags)) for drawn_G in drawn_RG]
    counts_RG[0] = 1
    return counts_RG[:, first_M] * counts_RG[:, second_M]


def at_prevalence(counts_RM: FloatArray, class_M: IntArray, ratio: float) -> FloatArray:
    """Return weights (R, M) with which each class weighs 1 in each round, and negatives `ratio` times all classes."""
    weights_RM = np.zeros_like(counts_RM)
    for number in (NO_ITEM, *range(len(CLASSES))):
        of_class_M = class_M == number
        share = ratio * len(CLASSES) if number == NO_ITEM else 1.0
        counts = counts_RM[:, of_class_M]
        weights_RM[:, of_class_M] = share * counts / counts.sum(axis=1, keepdims=True)
    return weights_RM


def weighted_average_precision(
    scores_M: npt.NDArray[np.floating], is_positive_M: npt.NDArray[np.bool_], weights_RM: FloatArray
) -> FloatArray:
    """Return the non-interpolated average precision of each row of weights (R,); tied scores share a rank."""
    is_above_MP = (scores_M[:, None] >= scores_M[is_positive_M]).astype(np.float64)
    of_RP = weights_RM[:, is_positive_M]
    true_RP, all_RP = of_RP @ is_above_MP[is_positive_M], weights_RM @ is_above_MP
    # A positive that weighs nothing counts for nothing, whatever its precision.
    precision_RP = true_RP / np.where(all_RP > 0, all_RP, 1)
    return np.asarray((of_RP * precision_RP).sum(axis=1) / of_RP.sum(axis=1))


def rate(logits_SMK: npt.NDArray[np.floating], class_M: IntArray, weights_RM: FloatArray) -> FloatArray:
    """Return the mean AP over classes of each seed and round (S, R)."""
    return _mean_over_classes(logits_SMK, class_M, [weights_RM] * len(CLASSES))


def rate_among_items(
    logits_SMK: npt.NDArray[np.floating], class_M: IntArray, counts_RM: FloatArray, ratio: float
) -> FloatArray:
    """Return the mean AP (S, R) where the negatives of a class are the items of the others, at the same prevalence.

    What tells scans with an item from those without, other than the item, is of no use here.
    """
    weights = []
    for number in range(len(CLASSES)):
        kind_M = np.where((class_M == number) | (class_M == NO_ITEM), class_M, len(CLASSES))
        weights_RM = np.zeros_like(counts_RM)
        for kind, share in ((number, 1.0), (len(CLASSES), ratio * len(CLASSES))):
            counts = counts_RM[:, kind_M == kind]
            weights_RM[:, kind_M == kind] = share * counts / counts.sum(axis=1, keepdims=True)
        weights.append(weights_RM)
    return _mean_over_classes(logits_SMK, class_M, weights)


def _mean_over_classes(
    logits_SMK: npt.NDArray[np.floating], class_M: IntArray, weights: Sequence[FloatArray]
) -> FloatArray:
    rated = [
        [
            weighted_average_precision(logits_MK[:, number], class_M == number, weights_RM)
            for number, weights_RM in enumerate(weights)
        ]
        for logits_MK in logits_SMK
    ]
    return np.asarray(np.mean(rated, axis=1))


def pool_folds(rated_FSR: FloatArray, seed: int) -> Learned:
    """Return what a system learned, from the mean AP of each fold, seed and round; round 0 counts every scan once.

    Args:
        rated_FSR: of `rate`, with the same rounds for all systems.
        seed: of the drawing of seeds in each round, the same for all systems: their runs share the order of scans.
    """
    rated_SR = rated_FSR.mean(axis=0)
    random = np.random.default_rng(seed)
    drawn_RS = random.integers(0, len(rated_SR), (rated_SR.shape[1] - 1, len(rated_SR)))
    rounds_R = np.take_along_axis(rated_SR[:, 1:].T, drawn_RS, axis=1).mean(axis=1)
    return Learned(tuple(map(float, rated_SR[:, 0])), rounds_R)
