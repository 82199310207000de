"""How much of a figure is luck? Intervals from resampling scans, those with the same bytes together."""

# N scans  K classes  G groups of scans with the same bytes  R rounds  T distinct scores of positives, highest first
# P positives  M negatives  F figures  S scans that can be judged  J classes that are judged

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model.metrics import ABSENT, PRESENT
from shards.cores import count_cores

IntArray = npt.NDArray[np.integer[Any]]

NUM_ROUNDS = 1000
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a figure lies in the middle 95 % of the rounds (percentile method)."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class RankedGroups:
    """One class sorted once: each round then only weighs it anew.

    Only what lies at or above a positive's score matters, so the negatives are kept as the order of their
    groups and the places where a positive's score would stand among them.
    """

    positive_group_P: IntArray
    """Groups of the positives, highest score first."""
    positive_ends_T: IntArray
    """How many positives score at least each threshold."""
    negative_group_M: IntArray
    """Groups of the negatives, highest score first."""
    negative_starts_T: IntArray
    """How many negatives score more than each threshold."""
    negative_ends_T: IntArray
    """How many negatives score at least each threshold."""


@dataclass(frozen=True, slots=True)
class JudgedGroups:
    """Scans on which one class either did or did not do well."""

    group_S: IntArray
    is_hit_S: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Resampled:
    """What every round gave; NaN where a figure is undefined, as in a round without positives."""

    average_precision_RK: npt.NDArray[np.float64]
    roc_auc_RK: npt.NDArray[np.float64]
    recall_RKF: npt.NDArray[np.float64]
    """At each of the false-alarm rates."""
    hit_rate_RJ: npt.NDArray[np.float64]
    """Of each of the classes that were judged."""

    def mean_average_precision_R(self, classes: slice = slice(None)) -> npt.NDArray[np.float64]:
        """Return the mean over those of `classes` that have positives in a round."""
        return _mean_of_defined(self.average_precision_RK[:, classes])

    def mean_hit_rate_R(self) -> npt.NDArray[np.float64]:
        """Return the mean over the classes that could be judged in a round."""
        return _mean_of_defined(self.hit_rate_RJ)


def rank_groups(scores_N: npt.NDArray[Any], labels_N: IntArray, groups_N: IntArray) -> RankedGroups:
    """Return one class sorted for resampling.

    Args:
        scores_N: finite.
        labels_N: 1 present, 0 absent; scans with another label are left out.
        groups_N: whole numbers from 0; scans of one group are drawn together.
    """
    positive_N, negative_N = np.flatnonzero(labels_N == PRESENT), np.flatnonzero(labels_N == ABSENT)
    positive_N = positive_N[np.argsort(-scores_N[positive_N], kind="stable")]
    thresholds_T = np.unique(scores_N[positive_N])[::-1]
    negatives_M = np.sort(scores_N[negative_N])
    positives_P = scores_N[positive_N][::-1]
    starts_T = len(negatives_M) - np.searchsorted(negatives_M, thresholds_T, side="right")
    ends_T = len(negatives_M) - np.searchsorted(negatives_M, thresholds_T, side="left")
    return RankedGroups(
        positive_group_P=groups_N[positive_N].astype(np.int64),
        positive_ends_T=len(positives_P) - np.searchsorted(positives_P, thresholds_T, side="left"),
        negative_group_M=_order_between(scores_N, negative_N, thresholds_T, groups_N),
        negative_starts_T=starts_T,
        negative_ends_T=ends_T,
    )


def resample(
    classes: Sequence[RankedGroups],
    num_groups: int,
    false_alarm_rates: Sequence[float],
    num_rounds: int = NUM_ROUNDS,
    seed: int = 0,
    judged: Sequence[JudgedGroups] = (),
) -> Resampled:
    """Return every figure in `num_rounds` rounds; each draws G of the G groups with replacement.

    A group counts as often as it was drawn, in all classes alike: differences and means keep their
    correlations. Equal arguments give equal numbers, whatever the number of threads.

    Source:
        Efron, "Bootstrap Methods: Another Look at the Jackknife" (1979); groups are drawn whole because
        copies of one image are one observation (Davison and Hinkley, "Bootstrap Methods", Section 3.8).
    """
    shape = (num_rounds, len(classes))
    out = Resampled(
        np.empty(shape),
        np.empty(shape),
        np.empty((*shape, len(false_alarm_rates))),
        np.empty((num_rounds, len(judged))),
    )
    rates_F = np.asarray(false_alarm_rates, np.float64)

    def run_round(r: int) -> None:
        weights_G = draw_weights(num_groups, r, seed)
        for k, ranked in enumerate(classes):
            average_precision, auc, recall_F = weigh(ranked, weights_G, rates_F)
            out.average_precision_RK[r, k], out.roc_auc_RK[r, k], out.recall_RKF[r, k] = (
                average_precision,
                auc,
                recall_F,
            )
        for j, scans in enumerate(judged):
            out.hit_rate_RJ[r, j] = hit_rate(scans, weights_G)

    # NumPy lets go of the interpreter's lock while it draws, gathers and sums: threads fill the cores.
    with ThreadPoolExecutor(count_cores()) as pool:
        for _ in pool.map(run_round, range(num_rounds)):
            pass
    return out


def draw_weights(num_groups: int, round_index: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Return how often each group is drawn in a round; the same for the same round, whatever came before."""
    random = np.random.default_rng([seed, round_index])
    # 64-bit numbers are counted and gathered as they are; narrower ones would be widened first, six times slower.
    drawn = np.bincount(random.integers(0, max(num_groups, 1), num_groups), minlength=num_groups)
    # One byte a group keeps a million of them in the processor's cache; a group is drawn 255 times never.
    return drawn.astype(np.uint8)


def weigh(
    ranked: RankedGroups, weights_G: npt.NDArray[np.uint8], rates_F: npt.NDArray[np.float64]
) -> tuple[float, float, npt.NDArray[np.float64]]:
    """Return average precision, ROC AUC and the recall at each false-alarm rate where groups count `weights_G`.

    The definitions are those of `model.metrics` and `model.operating` over rows repeated as often as their
    weight; NaN where a figure is undefined.
    """
    true_T = _running_sum(weights_G, ranked.positive_group_P)[ranked.positive_ends_T]
    running_M = _running_sum(weights_G, ranked.negative_group_M)
    false_T, false_above_T, num_negative = (
        running_M[ranked.negative_ends_T],
        running_M[ranked.negative_starts_T],
        running_M[-1],
    )
    num_positive = int(true_T[-1]) if len(true_T) else 0
    if not num_positive:
        return np.nan, np.nan, np.full(len(rates_F), np.nan)
    gained_T = np.diff(true_T, prepend=0)
    alarms_T = np.maximum(true_T + false_T, 1)
    average_precision = float(gained_T @ (true_T / alarms_T)) / num_positive
    if not num_negative:
        return average_precision, np.nan, np.full(len(rates_F), np.nan)
    # A positive beats the negatives below it and half of those that tie with it.
    beaten_twice_T = 2 * int(num_negative) - false_T.astype(np.int64) - false_above_T
    auc = float(gained_T @ beaten_twice_T) / (2 * num_positive * int(num_negative))
    within_F = np.searchsorted(false_T.astype(np.int64) * 1000, rates_F * int(num_negative), side="right")
    return average_precision, auc, np.concatenate([[0], true_T])[within_F] / num_positive


def hit_rate(judged: JudgedGroups, weights_G: npt.NDArray[np.uint8]) -> float:
    """Return the share of hits where groups count `weights_G`; NaN where no scan was drawn."""
    weights_S = weights_G[judged.group_S]
    num_drawn = int(weights_S.sum())
    return int(weights_S[judged.is_hit_S].sum()) / num_drawn if num_drawn else np.nan


def interval(values_R: npt.NDArray[np.float64]) -> Interval | None:
    """Return the middle 95 % of the rounds in which a figure was defined; None where it never was."""
    defined_R = values_R[np.isfinite(values_R)]
    if not len(defined_R):
        return None
    low, high = np.quantile(defined_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def _order_between(
    scores_N: npt.NDArray[Any], negative_N: IntArray, thresholds_T: npt.NDArray[Any], groups_N: IntArray
) -> IntArray:
    # Negatives between two thresholds need no order among themselves: kept by group, they are read in the
    # order of memory.
    lowest_first = thresholds_T[::-1]
    left = np.searchsorted(lowest_first, scores_N[negative_N], side="left")
    right = np.searchsorted(lowest_first, scores_N[negative_N], side="right")
    order = np.argsort(-(left + right), kind="stable")
    return groups_N[negative_N][order].astype(np.int64)


def _running_sum(weights_G: npt.NDArray[np.uint8], groups: IntArray) -> npt.NDArray[np.int32]:
    total = np.zeros(len(groups) + 1, np.int32)
    np.cumsum(weights_G.take(groups, mode="clip"), dtype=np.int32, out=total[1:])
    return total


def _mean_of_defined(values_RK: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    defined_RK = np.isfinite(values_RK)
    num_R = defined_RK.sum(axis=1)
    total_R = np.where(defined_RK, values_RK, 0).sum(axis=1)
    mean_R: npt.NDArray[np.float64] = np.where(num_R > 0, total_R / np.maximum(num_R, 1), np.nan)
    return mean_R
