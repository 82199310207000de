"""Gather scans into bags, and count which bags thresholds alarm on."""

# N scans  G bags  K classes

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shards.format.classes import ABSENT, PRESENT

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

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


def make_bags(
    logits_NK: npt.NDArray[np.floating[Any]], labels_NK: npt.NDArray[np.integer[Any]], bags_N: npt.NDArray[Any]
) -> Bags:
    """Return the bags of scans; `bags_N` has a number for each scan, equal within a bag."""
    present_NK, clean_N = labels_NK == PRESENT, (labels_NK == ABSENT).all(axis=1)
    order_N = np.argsort(bags_N, kind="stable")
    starts_G = np.flatnonzero(np.diff(bags_N[order_N], prepend=-1))
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
