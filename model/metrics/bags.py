"""Gather scans into bags, and count which bags thresholds alarm on."""

# N scans  G bags  K classes

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from shards.format.classes import ABSENT, PRESENT, UNKNOWN

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

Fusion = Literal["max", "mean", "noisy-or"]
"""How the scores of a bag's scans become one: the highest; the mean of the logits; the probability that any scan holds
the class, if scores are probabilities and independent."""

NEVER = np.inf
"""Threshold of a class that raises no alarm."""


@dataclass(frozen=True, slots=True)
class Bags:
    """The highest logit of each class over the scans of each bag, and what the bag holds."""

    logits_GK: npt.NDArray[np.floating[Any]]
    """-inf for a class without a score."""
    present_GK: BoolArray
    """A scan of the bag holds the class."""
    is_clean_G: BoolArray
    """Every class is known to be absent from every scan. A bag that is neither clean nor has an item is unknown: it
    counts for nothing."""

    @property
    def can_alarm_K(self) -> BoolArray:
        """Whether a bag that holds the class has a score of it: without one there is nothing to find a threshold by."""
        return np.asarray((self.present_GK & (self.logits_GK > -np.inf)).any(axis=0))

    @property
    def has_item_G(self) -> BoolArray:
        """Whether the bag holds any class."""
        return np.asarray(self.present_GK.any(axis=1))


@dataclass(frozen=True, slots=True)
class AlarmPlan:
    """A threshold for each class, and what they do on the bags they were found on."""

    thresholds_K: FloatArray
    """Logits; one of at least this raises an alarm; NEVER for a class without one."""
    num_clean: int
    num_false: int
    """Clean bags with an alarm, of whatever class."""
    num_with_item: int
    num_caught: int
    """Bags with an item that have an alarm, of whatever class."""

    @property
    def recall(self) -> float | None:
        """Share of the bags with an item that are caught."""
        return self.num_caught / self.num_with_item if self.num_with_item else None

    @property
    def false_alarms_per_1000(self) -> float | None:
        """Alarmed clean bags in 1,000."""
        return 1000 * self.num_false / self.num_clean if self.num_clean else None


def fuse_logits(
    logits_NK: npt.NDArray[np.floating[Any]], bags_N: npt.NDArray[np.integer[Any]], fusion: Fusion
) -> npt.NDArray[np.floating[Any]]:
    """Return the logits of bags (G, K), in the order of their numbers; float64, but the dtype of the scans for `max`.

    Args:
        logits_NK: of scans; -inf where there is no score, which counts for nothing; a bag without any has -inf.
        bags_N: the number of the bag of each scan.
        fusion: the rule.

    Source:
        Noisy or: J. Pearl, "Probabilistic Reasoning in Intelligent Systems" (1988), Section 4.3.2.
    """
    order_N, starts_G = _sort_by_bag(bags_N)
    sorted_NK = logits_NK[order_N]
    if fusion == "max":
        return np.asarray(np.maximum.reduceat(sorted_NK, starts_G, axis=0))
    sorted_NK = sorted_NK.astype(np.float64)
    if fusion == "mean":
        has_score_NK = sorted_NK > -np.inf
        counts_GK = np.add.reduceat(has_score_NK.astype(np.int64), starts_G, axis=0)
        sums_GK = np.add.reduceat(np.where(has_score_NK, sorted_NK, 0.0), starts_G, axis=0)
        return np.asarray(np.divide(sums_GK, counts_GK, out=np.full(sums_GK.shape, -np.inf), where=counts_GK > 0))
    fused_GK = sorted_NK[starts_G]
    sizes_G = np.diff(starts_G, append=len(bags_N))
    for place in range(1, int(sizes_G.max(initial=0))):
        more_G = np.flatnonzero(sizes_G > place)
        one, other = fused_GK[more_G], sorted_NK[starts_G[more_G] + place]
        # Odds o of the one and p of the other give o + p + o p: exact where 1 less a probability would round to 0 or 1.
        fused_GK[more_G] = np.logaddexp(np.logaddexp(one, other), one + other)
    return fused_GK


def fuse_labels(labels_NK: npt.NDArray[np.integer[Any]], bags_N: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int8]:
    """Return the labels of bags (G, K): present if any scan holds the class, else unknown if any is unknown."""
    order_N, starts_G = _sort_by_bag(bags_N)
    sorted_NK = labels_NK[order_N]
    is_present_GK = np.logical_or.reduceat(sorted_NK == PRESENT, starts_G, axis=0)
    is_unknown_GK = np.logical_or.reduceat(sorted_NK == UNKNOWN, starts_G, axis=0)
    return np.where(is_present_GK, PRESENT, np.where(is_unknown_GK, UNKNOWN, ABSENT)).astype(np.int8)


def _sort_by_bag(bags_N: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the scans by the number of their bag, and the place of the first of each bag."""
    order_N = np.argsort(bags_N, kind="stable")
    return order_N, np.flatnonzero(np.diff(bags_N[order_N], prepend=-1))


def make_bags(
    logits_NK: npt.NDArray[np.floating[Any]], labels_NK: npt.NDArray[np.integer[Any]], bags_N: npt.NDArray[Any]
) -> Bags:
    """Return the bags of scans; `bags_N` has a number for each scan, equal within a bag."""
    present_NK, clean_N = labels_NK == PRESENT, (labels_NK == ABSENT).all(axis=1)
    order_N, starts_G = _sort_by_bag(bags_N)
    if len(starts_G) == len(bags_N):
        return Bags(logits_NK, present_NK, clean_N)
    return Bags(
        np.maximum.reduceat(logits_NK[order_N], starts_G, axis=0),
        np.logical_or.reduceat(present_NK[order_N], starts_G, axis=0),
        np.logical_and.reduceat(clean_N[order_N], starts_G),
    )


def apply_thresholds(bags: Bags, thresholds_K: FloatArray) -> AlarmPlan:
    """Return what thresholds do on bags."""
    alarm_G = any_reaches(bags.logits_GK, thresholds_K)
    clean_G, item_G = bags.is_clean_G, bags.has_item_G
    counts = (clean_G, clean_G & alarm_G, item_G, item_G & alarm_G)
    return AlarmPlan(thresholds_K, *(int(np.count_nonzero(of)) for of in counts))


def any_reaches(logits_NK: npt.NDArray[np.floating[Any]], thresholds_K: FloatArray) -> BoolArray:
    """Return which rows reach the threshold of any class."""
    # Class by class: a matrix of comparisons takes three times as long.
    reached_N = np.zeros(len(logits_NK), bool)
    for k in np.flatnonzero(thresholds_K < NEVER):
        reached_N |= logits_NK[:, k] >= np.float64(thresholds_K[k])
    return reached_N
