"""Resample scans by the bootstrap, the scans of a group (a bag) together."""

# N scans  K scores  G groups of scans  R rounds  T distinct scores of positives, highest first
# P positives  M negatives  Q cuts between them  F false-alarm rates
# C rounds that are computed at once

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model.metrics.uncertainty.intervals import LEVEL, Interval
from shards.format.classes import ABSENT, PRESENT
from shards.host import count_cores

IntArray = npt.NDArray[np.integer[Any]]

NUM_ROUNDS = 1000
BLOCK_BYTES = 2**21
"""Weights of the rounds that are computed at once: they fit into the processor's cache, and for few scans there are
enough rounds that the calls of NumPy cost little."""


@dataclass(frozen=True, slots=True)
class RankedGroups:
    """The scans of one score, sorted once; each round only changes their weights.

    Only the ranks of positives among negatives matter, so the negatives are kept as their groups in order and the
    places of the positives' scores among them.
    """

    positive_group_P: IntArray
    """Groups of the positives, highest score first."""
    positive_ends_T: IntArray
    """How many positives score at least each threshold."""
    negative_group_M: IntArray
    """Groups of the negatives, highest score first."""
    negative_cuts_Q: IntArray
    """Numbers of negatives above, or at and above, a threshold: each number once, 0 first, M last."""
    start_of_T: IntArray
    """Index of the cut that counts the negatives above each threshold."""
    end_of_T: IntArray
    """Index of the cut that counts the negatives at and above it."""


@dataclass(frozen=True, slots=True)
class ScoreRounds:
    """Figures of one score in every round; NaN where a figure is undefined, as in a round without positives."""

    average_precision_R: npt.NDArray[np.float64]
    roc_auc_R: npt.NDArray[np.float64]
    recall_RF: npt.NDArray[np.float64]
    """At each of the false-alarm rates."""


def mean_rounds(rounds: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """Return, for each round, the mean over the classes whose figure is defined in it; NaN if none is."""
    values_RK = np.stack(rounds, axis=1)
    defined_RK = np.isfinite(values_RK)
    num_R = defined_RK.sum(axis=1)
    total_R = np.where(defined_RK, values_RK, 0).sum(axis=1)
    mean_R: npt.NDArray[np.float64] = np.where(num_R > 0, total_R / np.maximum(num_R, 1), np.nan)
    return mean_R


def percentile_interval(values_R: npt.NDArray[np.float64]) -> Interval | None:
    """Return the middle 95 % of the rounds in which a figure was defined; None if it never was.

    Too narrow for few positives (0.45 to 0.97 in simulations): for figures over many scans and their differences.
    """
    defined_R = values_R[np.isfinite(values_R)]
    if not len(defined_R):
        return None
    low, high = np.quantile(defined_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def rank_groups(scores_N: npt.NDArray[Any], labels_N: IntArray, groups_N: IntArray) -> RankedGroups:
    """Return the scans of one score, sorted for resampling.

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
    cuts_Q = np.unique(np.concatenate([[0, len(negatives_M)], starts_T, ends_T]))
    return RankedGroups(
        positive_group_P=groups_N[positive_N].astype(np.int64),
        positive_ends_T=len(positives_P) - np.searchsorted(positives_P, thresholds_T, side="left"),
        negative_group_M=_order_between(scores_N, negative_N, thresholds_T, groups_N),
        negative_cuts_Q=cuts_Q,
        start_of_T=np.searchsorted(cuts_Q, starts_T),
        end_of_T=np.searchsorted(cuts_Q, ends_T),
    )


def resample(
    scores: Sequence[RankedGroups],
    num_groups: int,
    false_alarm_rates: Sequence[float],
    num_rounds: int = NUM_ROUNDS,
    seed: int = 0,
) -> tuple[ScoreRounds, ...]:
    """Return every figure in `num_rounds` rounds; each draws G of the G groups with replacement.

    A group counts as often as it was drawn, alike for all scores: differences and means keep their correlations. Equal
    arguments give equal numbers, whatever the number of threads.

    Source:
        Efron, "Bootstrap Methods: Another Look at the Jackknife" (1979); groups are drawn whole because
        copies of one image are one observation (Davison and Hinkley, "Bootstrap Methods", Section 3.8).
    """
    average_precision_RK, auc_RK = np.empty((num_rounds, len(scores))), np.empty((num_rounds, len(scores)))
    recall_RKF = np.empty((num_rounds, len(scores), len(false_alarm_rates)))
    rates_F = np.asarray(false_alarm_rates, np.float64)

    def run_block(block: slice) -> None:
        weights_CG = np.stack([draw_weights(num_groups, r, seed) for r in range(block.start, block.stop)])
        for k, ranked in enumerate(scores):
            figures = reweight(ranked, weights_CG, rates_F)
            average_precision_RK[block, k], auc_RK[block, k], recall_RKF[block, k] = figures

    # NumPy releases the interpreter's lock while it draws, gathers and sums, so threads fill the cores.
    with ThreadPoolExecutor(count_cores()) as pool:
        for _ in pool.map(run_block, _cut_blocks(num_rounds, num_groups)):
            pass
    return tuple(ScoreRounds(average_precision_RK[:, k], auc_RK[:, k], recall_RKF[:, k]) for k in range(len(scores)))


def _cut_blocks(num_rounds: int, num_groups: int) -> list[slice]:
    even = -(-num_rounds // (4 * count_cores()))  # several blocks a thread: none waits long for the last
    size = max(min(BLOCK_BYTES // max(num_groups, 1), even), 1)
    return [slice(start, min(start + size, num_rounds)) for start in range(0, num_rounds, size)]


def draw_weights(num_groups: int, round_index: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Return how often each group is drawn in a round; it depends on seed and round only."""
    random = np.random.default_rng([seed, round_index])
    # 64-bit numbers: bincount widens narrower ones first, six times slower.
    drawn = np.bincount(random.integers(0, max(num_groups, 1), num_groups), minlength=num_groups)
    # One byte a group keeps a million of them in the processor's cache; no group is drawn 255 times.
    return drawn.astype(np.uint8)


def reweight(
    ranked: RankedGroups, weights_CG: npt.NDArray[np.uint8], rates_F: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return average precision (C,), ROC AUC (C,) and recalls (C, F) where groups count `weights_CG`, round by round.

    Definitions: `model.metrics.ranking` and `model.metrics.operating_points` over rows repeated as often as their
    weight; NaN where a figure is undefined.
    """
    true_CQ = _count_before(weights_CG, ranked.positive_group_P, np.concatenate([[0], ranked.positive_ends_T]))
    false_CQ = _count_before(weights_CG, ranked.negative_group_M, ranked.negative_cuts_Q)
    true_CT, false_CT, false_above_CT = true_CQ[:, 1:], false_CQ[:, ranked.end_of_T], false_CQ[:, ranked.start_of_T]
    # A divisor that is NaN leaves the figure undefined where nothing was drawn to compute it from.
    positive_C = np.where(true_CQ[:, -1], true_CQ[:, -1], np.nan)
    negative_C = np.where(false_CQ[:, -1], false_CQ[:, -1], np.nan)
    gained_CT = np.diff(true_CQ, axis=1)
    precision_CT = true_CT / np.maximum(true_CT + false_CT, 1)
    gains_C = np.matmul(gained_CT[:, None, :].astype(np.float64), precision_CT[:, :, None])[:, 0, 0]
    # A positive beats the negatives below it and half of those that tie with it.
    beaten_twice_CT = 2 * false_CQ[:, -1:] - false_CT - false_above_CT
    auc_C = (gained_CT * beaten_twice_CT).sum(axis=1) / (2 * positive_C * negative_C)
    allowed_CF = rates_F * false_CQ[:, -1:]
    within_CF = (false_CT[:, None, :] * 1000 <= allowed_CF[:, :, None]).sum(axis=2)
    recall_CF = np.take_along_axis(true_CQ, within_CF, axis=1) / np.where(false_CQ[:, -1], positive_C, np.nan)[:, None]
    return gains_C / positive_C, auc_C, recall_CF


def _order_between(
    scores_N: npt.NDArray[Any], negative_N: IntArray, thresholds_T: npt.NDArray[Any], groups_N: IntArray
) -> IntArray:
    # Negatives between two thresholds need no order among themselves: by group, they are read in the order of memory.
    lowest_first = thresholds_T[::-1]
    left = np.searchsorted(lowest_first, scores_N[negative_N], side="left")
    right = np.searchsorted(lowest_first, scores_N[negative_N], side="right")
    order = np.argsort(-(left + right), kind="stable")
    return groups_N[negative_N][order].astype(np.int64)


def _count_before(weights_CG: npt.NDArray[np.uint8], groups: IntArray, cuts_Q: IntArray) -> npt.NDArray[np.int64]:
    """Return (C, Q): how many rows were drawn before each cut; the first cut is 0, the last one all rows."""
    drawn = np.empty((len(weights_CG), len(groups)), np.uint8)
    for drawn_row, weights_G in zip(drawn, weights_CG, strict=True):
        # Round by round, so that the weights, 1 byte a group, stay in the cache.
        weights_G.take(groups, mode="clip", out=drawn_row)
    counts_CQ = np.zeros((len(weights_CG), len(cuts_Q)), np.int64)
    between = np.add.reduceat(drawn, cuts_Q[:-1], axis=1, dtype=np.int32)
    np.cumsum(between, axis=1, out=counts_CQ[:, 1:])
    return counts_CQ
