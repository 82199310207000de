"""Compute operating points: recall, precision and false alarms at a threshold, and thresholds for a target."""

# N scans  K classes  T distinct scores of positives, highest first

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model.metrics.ranking import Curve, Ranking
from shards.format.classes import ABSENT, PRESENT, UNKNOWN

FALSE_ALARM_RATES = (1, 5, 10, 50)
"""False alarms per 1,000 bags at which reports give the recall."""
RECALLS = (0.5, 0.8, 0.9, 0.95, 0.99)
"""Recalls at which reports give the false alarms."""
NUM_SWEEP_STEPS = 200


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """True and false alarms at one threshold, for one class."""

    threshold: float | None
    """A logit of at least this raises an alarm; None: nothing does."""
    num_true: int
    """Bags with the item that raise an alarm."""
    num_false: int
    """Bags without the item that raise one."""
    num_positive: int
    num_negative: int

    @property
    def score(self) -> float | None:
        """The threshold on the scale of scores, sigmoid(logit)."""
        return None if self.threshold is None else float(sigmoid(np.float64(self.threshold)))

    @property
    def recall(self) -> float | None:
        """Share of the bags with the item that raise an alarm."""
        return self.num_true / self.num_positive if self.num_positive else None

    @property
    def precision(self) -> float | None:
        """Share of the alarms that are right; None without alarms. It depends on the prevalence."""
        alarms = self.num_true + self.num_false
        return self.num_true / alarms if alarms else None

    @property
    def false_alarms_per_1000(self) -> float | None:
        """Alarms per 1,000 bags without the item: unlike precision, it does not depend on the prevalence."""
        return 1000 * self.num_false / self.num_negative if self.num_negative else None

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 if nothing is found."""
        return 2 * self.num_true / max(self.num_true + self.num_false + self.num_positive, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingFigures:
    """The operating points of one class that reports name."""

    at_false_alarms: dict[int, OperatingPoint]
    """By false alarms per 1,000 bags; empty for a class without positives or without negatives."""
    at_recall: dict[float, OperatingPoint]
    """By recall; empty for a class without positives."""
    best_f1: OperatingPoint | None
    """Where the harmonic mean of precision and recall is highest (F-max)."""


@dataclass(frozen=True, slots=True)
class AlarmCounts:
    """True and false alarms of one score at each threshold of a sweep."""

    num_true_T: npt.NDArray[np.integer[Any]]
    num_false_T: npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class Sweep:
    """Alarm counts at common thresholds, lowest first; at the first one every item raises an alarm."""

    thresholds_T: npt.NDArray[np.float64]
    classes: tuple[AlarmCounts, ...]
    any_item: AlarmCounts


def rate_operation(curve: Curve) -> OperatingFigures:
    """Return the operating points that reports name."""
    if not curve.num_positive:
        return OperatingFigures(at_false_alarms={}, at_recall={}, best_f1=None)
    rates = FALSE_ALARM_RATES if curve.num_negative else ()
    return OperatingFigures(
        at_false_alarms={rate: at_false_alarms(curve, rate) for rate in rates},
        at_recall={recall: at_recall(curve, recall) for recall in RECALLS},
        best_f1=best_f1(curve),
    )


def at_false_alarms(curve: Curve, per_1000: float) -> OperatingPoint:
    """Return the lowest threshold that stays within `per_1000` false alarms per 1,000 bags without the item."""
    allowed = curve.num_false_T * 1000 <= per_1000 * curve.num_negative
    return _point(curve, int(np.count_nonzero(allowed)) - 1)


def at_recall(curve: Curve, recall: float) -> OperatingPoint:
    """Return the highest threshold that finds at least the share `recall` of the positives."""
    # In floating point 0.95 * 20 is slightly above 19.
    needed = np.ceil(recall * curve.num_positive - 1e-9)
    return _point(curve, int(np.searchsorted(curve.num_true_T, needed, side="left")))


def best_f1(curve: Curve) -> OperatingPoint:
    """Return the point of the highest F1 (F-max), the highest threshold if several reach it."""
    f1_T = 2 * curve.num_true_T / (curve.num_true_T + curve.num_false_T + curve.num_positive)
    return _point(curve, int(np.argmax(f1_T)))


def sweep(classes: Sequence[Ranking], any_item: Ranking) -> Sweep:
    """Return the alarm counts of all classes and of the alarm for any item, at quantiles of the positives' scores."""
    scores = np.concatenate([ranking.positives_P for ranking in (*classes, any_item)]).astype(np.float64)
    shares = np.linspace(0, 1, NUM_SWEEP_STEPS + 1)
    thresholds_T = np.unique(np.quantile(scores, shares, method="inverted_cdf")) if len(scores) else np.zeros(0)
    counts = [AlarmCounts(of.num_true(thresholds_T), of.num_false(thresholds_T)) for of in (*classes, any_item)]
    return Sweep(thresholds_T, tuple(counts[:-1]), counts[-1])


def any_item(
    logits_NK: npt.NDArray[np.floating[Any]], labels_NK: npt.NDArray[np.integer[Any]]
) -> tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.int8]]:
    """Return score and label of the alarm for any item: the highest logit, and whether any class is present."""
    return logits_NK.max(axis=1), any_item_labels(labels_NK)


def any_item_labels(labels_NK: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int8]:
    """Return whether any class is present; unknown for a bag with an unknown label and no class known to be present."""
    present_N, unknown_N = (labels_NK == PRESENT).any(axis=1), (labels_NK == UNKNOWN).any(axis=1)
    return np.where(present_N, PRESENT, np.where(unknown_N, UNKNOWN, ABSENT)).astype(np.int8)


def sigmoid(logits: npt.NDArray[np.floating[Any]] | np.floating[Any]) -> npt.NDArray[np.float64]:
    """Return scores in [0, 1] as float64, without overflow."""
    wide = np.asarray(logits, np.float64)
    small = np.exp(-np.abs(wide))
    scores: npt.NDArray[np.float64] = np.where(wide >= 0, 1 / (1 + small), small / (1 + small))
    return scores


def _point(curve: Curve, t: int) -> OperatingPoint:
    sizes = (curve.num_positive, curve.num_negative)
    if t < 0:
        return OperatingPoint(None, 0, 0, *sizes)
    return OperatingPoint(float(curve.thresholds_T[t]), int(curve.num_true_T[t]), int(curve.num_false_T[t]), *sizes)
