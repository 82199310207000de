"""Find thresholds for all classes together that keep one budget of false alarms, counted in bags."""

# N scans  G bags  K classes  M clean bags  P bags with an item

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt

from model.metrics.bags import NEVER, AlarmPlan, Bags, any_reaches, apply_thresholds
from shards.format.classes import ABSENT, PRESENT

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

MAX_REFINED = 12
"""With more classes, thresholds are not improved one by one: it takes the square of their number."""
NUM_PASSES = 4


def plan_any_item(bags: Bags, per_1000: float) -> AlarmPlan:
    """Return one threshold for all classes, the lowest that keeps the budget."""
    highest_G = bags.logits_GK.max(axis=1)
    clean_M = highest_G[bags.is_clean_G]
    threshold = _above(np.sort(highest_G), _allow(clean_M, _floor(per_1000, len(clean_M))))
    return apply_thresholds(bags, np.where(bags.can_alarm_K, threshold, NEVER))


def sort_scores(logits_GK: npt.NDArray[np.floating[Any]]) -> list[FloatArray]:
    """Return the scores of each class, lowest first; computed once for several budgets."""
    return [np.sort(logits_G).astype(np.float64) for logits_G in logits_GK.T]


def plan_jointly(bags: Bags, per_1000: float, values: list[FloatArray] | None = None) -> AlarmPlan:
    """Return thresholds that catch many bags with at most `per_1000` of 1,000 clean bags alarmed, by any class.

    The better of two starts (one threshold; each class as far down as its own ratio of catches to false alarms stays
    above a common value) is improved by setting each class to the best of its thresholds
    given the others, then by trading false alarms between two classes. Exact optimality is not claimed: the problem is
    a knapsack. A class without a scored bag that holds it has no threshold.

    Args:
        bags: to find them on.
        per_1000: the budget.
        values: of `sort_scores`, if already computed.
    """
    search = _Search(bags, per_1000, values or sort_scores(bags.logits_GK))
    plans = [search.start_any_item(), search.start_by_ratio()]
    is_refined = bags.logits_GK.shape[1] <= MAX_REFINED
    if is_refined:
        plans = [search.refit_all(thresholds_K) for thresholds_K in plans]
    best = max(plans, key=lambda t: (search.num_caught(t), -search.num_false(t)))
    if is_refined:
        best = search.exchange(best)
    plan = apply_thresholds(bags, search.only_trained(best))
    assert plan.num_false <= search.budget
    return plan


def plan_each_class(
    logits_NK: npt.NDArray[np.floating[Any]],
    labels_NK: npt.NDArray[np.integer[Any]],
    per_1000: float,
    values: list[FloatArray] | None = None,
) -> FloatArray:
    """Return a threshold for each class that gives it alone the budget, of the scans without it."""
    thresholds = []
    for logits_N, labels_N, sorted_N in zip(logits_NK.T, labels_NK.T, values or sort_scores(logits_NK), strict=True):
        negatives_M, positives_P = logits_N[labels_N == ABSENT], logits_N[labels_N == PRESENT]
        limit = _allow(negatives_M, _floor(per_1000, len(negatives_M)))
        thresholds.append(_lowest_catch(sorted_N, positives_P, limit) if len(positives_P) else NEVER)
    return np.array(thresholds)


class _Search:
    """The clean bags that can matter, the bags with an item, and moves over thresholds that keep the budget."""

    def __init__(self, bags: Bags, per_1000: float, values: list[FloatArray]) -> None:
        # Column order: classes are compared one by one.
        clean_MK = np.asfortranarray(bags.logits_GK[bags.is_clean_G])
        self.items_PK = np.asfortranarray(bags.logits_GK[bags.has_item_G])
        self.held_PK = bags.present_GK[bags.has_item_G]
        self.can_alarm_K = bags.can_alarm_K
        self.budget = _floor(per_1000, len(clean_MK))
        # A class that alarms on more than the budget's clean bags breaks it alone: lower scores need not be looked at.
        self.limits_K = np.array([_allow(scores_M, self.budget) for scores_M in clean_MK.T])
        self.clean_MK = np.asfortranarray(clean_MK[any_reaches(clean_MK, self.limits_K)])
        self.values = values
        self.free_K = np.array([_above(self.values[k], _allow(clean_MK[:, k], 0)) for k in range(clean_MK.shape[1])])
        """Thresholds above all clean bags, which cost nothing."""

    def num_false(self, thresholds_K: FloatArray) -> int:
        return int(np.count_nonzero(any_reaches(self.clean_MK, thresholds_K)))

    def num_caught(self, thresholds_K: FloatArray) -> int:
        return int(np.count_nonzero(any_reaches(self.items_PK, thresholds_K)))

    def only_trained(self, thresholds_K: FloatArray) -> FloatArray:
        return np.where(self.can_alarm_K, thresholds_K, NEVER)

    def start_any_item(self) -> FloatArray:
        limit = _allow(self.clean_MK.max(axis=1, initial=-np.inf), self.budget)
        found: FloatArray = np.minimum(np.array([_above(values, limit) for values in self.values]), self.free_K)
        return found

    def start_by_ratio(self) -> FloatArray:
        steps = [
            _hull(np.sort(self.items_PK[self.held_PK[:, k], k])[::-1], np.sort(self.clean_MK[:, k]))
            for k in range(len(self.free_K))
        ]
        ratios = np.unique([ratio for hull in steps for _, ratio in hull])[::-1]

        def at(number: int) -> FloatArray:
            thresholds_K = self.free_K.copy()
            for k, hull in enumerate(steps):
                reached = [score for score, ratio in hull if number and ratio >= ratios[number - 1]]
                if reached:
                    thresholds_K[k] = min(thresholds_K[k], _below(self.values[k], reached[-1]))
            return thresholds_K

        low, high = 0, len(ratios)
        while low < high:  # the last number whose thresholds keep the budget; they fall as it grows
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.num_false(at(middle)) <= self.budget else (low, middle - 1)
        return at(low)

    def refit(self, thresholds_K: FloatArray, k: int) -> FloatArray:
        """Return the thresholds with the best one of class `k`, given the others."""
        others_K = thresholds_K.copy()
        others_K[k] = NEVER
        quiet_M = ~any_reaches(self.clean_MK, others_K)
        spare = self.budget - int(np.count_nonzero(~quiet_M))
        limit = max(_allow(self.clean_MK[quiet_M, k], spare), self.limits_K[k])
        missed_P = ~any_reaches(self.items_PK, others_K)
        found = _lowest_catch(self.values[k], self.items_PK[missed_P, k], limit)
        others_K[k] = min(found, self.free_K[k])
        return others_K

    def refit_all(self, thresholds_K: FloatArray) -> FloatArray:
        caught = -1
        for _ in range(NUM_PASSES):
            for k in range(len(thresholds_K)):
                thresholds_K = self.refit(thresholds_K, k)
            before, caught = caught, self.num_caught(thresholds_K)
            if caught == before:
                break
        return thresholds_K

    def exchange(self, thresholds_K: FloatArray) -> FloatArray:
        """Take false alarms from one class and give them to another, as long as that catches more bags."""
        best, num_classes = self.num_caught(thresholds_K), len(thresholds_K)
        for _ in range(NUM_PASSES):
            before = best
            for giver in range(num_classes):
                for part in (1, self.budget // 30, self.budget // 6):
                    raised_K = self._raise(thresholds_K, giver, part)
                    for taker in range(num_classes):
                        if taker != giver:
                            found_K = self.refit(self.refit(raised_K, taker), giver)
                            if (caught := self.num_caught(found_K)) > best:
                                best, thresholds_K = caught, found_K
            if best == before:
                break
        return thresholds_K

    def _raise(self, thresholds_K: FloatArray, k: int, part: int) -> FloatArray:
        others_K = thresholds_K.copy()
        others_K[k] = NEVER
        own_M = np.sort(self.clean_MK[~any_reaches(self.clean_MK, others_K), k])
        own_M = own_M[own_M >= thresholds_K[k]]
        if len(own_M):
            others_K[k] = _above(self.values[k], own_M[min(max(part, 1), len(own_M)) - 1])
        else:
            others_K[k] = thresholds_K[k]
        return others_K


def _floor(per_1000: float, num_clean: int) -> int:
    # In floating point 0.1 * 30 is slightly above 3, and 0.3 * 10 / 3 below 1.
    return int(np.floor(per_1000 * num_clean / 1000 + 1e-9))


def _allow(scores_M: npt.NDArray[np.floating[Any]], budget: int) -> float:
    """Return the highest score that must not alarm if `budget` of the scores may; -inf if all may."""
    if budget >= len(scores_M):
        return -np.inf
    return float(np.partition(scores_M, len(scores_M) - budget - 1)[len(scores_M) - budget - 1])


def _above(values: npt.NDArray[np.floating[Any]], score: float) -> float:
    """Return the middle between a score and the next higher one of the sorted `values`."""
    at = int(np.searchsorted(values, score, side="right"))
    return _between(score, float(values[at])) if at < len(values) else float(np.nextafter(score, np.inf))


def _below(values: npt.NDArray[np.floating[Any]], score: float) -> float:
    """Return the middle between a score and the next lower one of the sorted `values`."""
    at = int(np.searchsorted(values, score, side="left"))
    return _between(float(values[at - 1]), score) if at else score


def _between(low: float, high: float) -> float:
    if low == -np.inf:
        return high
    middle = low + (high - low) / 2
    return middle if low < middle else high


def _lowest_catch(
    values: npt.NDArray[np.floating[Any]], positives_P: npt.NDArray[np.floating[Any]], limit: float
) -> float:
    """Return a threshold above `limit` that catches all positives there, as high as it can be."""
    above = positives_P[positives_P > limit]
    return _below(values, float(above.min())) if len(above) else _above(values, limit)


def _hull(positives_P: FloatArray, negatives_M: FloatArray) -> list[tuple[float, float]]:
    """Return the corners of the concave hull of catches over false alarms: score, and catches per false alarm.

    Args:
        positives_P: highest first.
        negatives_M: lowest first.
    """
    corners: list[tuple[float, float, float]] = [(np.inf, 0.0, 0.0)]
    scores_T, counts_T = np.unique(-positives_P, return_counts=True)
    false_T = len(negatives_M) - np.searchsorted(negatives_M, -scores_T, side="left")
    for score, false, true in zip(-scores_T, false_T, np.cumsum(counts_T), strict=True):
        while len(corners) > 1 and _slope(corners[-1], (score, false, true)) >= _slope(corners[-2], corners[-1]):
            corners.pop()
        corners.append((float(score), float(false), float(true)))
    return [(after[0], _slope(before, after)) for before, after in itertools.pairwise(corners)]


def _slope(before: tuple[float, float, float], after: tuple[float, float, float]) -> float:
    false = after[1] - before[1]
    return (after[2] - before[2]) / false if false else np.inf
