"""Compute the confidence intervals of an evaluation; scans of one group (a bag) count as one observation."""

# N scans  K classes  G groups  S evaluable scans

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model.evaluation.pointing import find_pointing_hits
from model.evaluation.scans.scored_scans import ScoredScans
from model.metrics import ranking as metrics
from model.metrics.operating_points import FALSE_ALARM_RATES, RECALLS, OperatingFigures, sigmoid
from model.metrics.ranking import Ranking
from model.metrics.uncertainty import intervals
from model.metrics.uncertainty.influence import Influences, find_influences
from model.metrics.uncertainty.intervals import MIN_UNITS, Interval, effective_number
from shards.format.classes import PRESENT, UNKNOWN

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankIntervals:
    """Confidence intervals of the figures of one score; None where a figure is undefined or scans are too few."""

    average_precision: Interval | None
    roc_auc: Interval | None
    recall_at_false_alarms: dict[int, Interval | None]
    false_alarms_at_false_alarms: dict[int, Interval | None]
    """Per 1,000 bags, at the threshold that keeps within a rate on these scans: on others it raises more or fewer."""
    false_alarms_at_recall: dict[float, Interval | None]
    """Per 1,000 bags."""
    brier: Interval | None
    pointing_accuracy: Interval | None
    num_positive_groups: int
    """Bags, and scans without a bag, that hold the class: fewer than MIN_UNITS are too few for an interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanIntervals:
    """Confidence intervals of the means over classes."""

    average_precision: Interval | None
    roc_auc: Interval | None
    pointing_accuracy: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncertainty:
    """Every interval of an evaluation."""

    num_groups: int
    classes: tuple[RankIntervals, ...]
    any_item: RankIntervals
    mean: MeanIntervals


@dataclass(frozen=True, slots=True)
class Rated:
    """A score, and what was computed from it."""

    scores_N: npt.NDArray[np.floating[Any]]
    labels_N: npt.NDArray[np.int8]
    ranking: Ranking
    operation: OperatingFigures
    average_precision: float | None
    roc_auc: float | None


def find_intervals(scans: ScoredScans, classes: Sequence[Rated], any_item: Rated) -> Uncertainty:
    """Return the intervals of the classes, of the alarm for any item and of the means."""
    precision, auc, pointing = (_Mean(scans.num_groups) for _ in range(3))
    found = []
    for k, rated in enumerate(classes):
        influences = _find_influences(scans, rated)
        if rated.average_precision is not None:
            precision.add_average_precision(
                rated.average_precision, influences, metrics.debiased_average_precision(rated.ranking)
            )
        if rated.roc_auc is not None:
            auc.add_roc_auc(rated.roc_auc, influences)
        found.append(_find_class_intervals(scans, rated, influences, _rate_pointing(scans, k, pointing)))
    return Uncertainty(
        num_groups=scans.num_groups,
        classes=tuple(found),
        any_item=_find_class_intervals(scans, any_item, _find_influences(scans, any_item), None),
        mean=MeanIntervals(
            average_precision=precision.interval(), roc_auc=auc.interval(), pointing_accuracy=pointing.interval()
        ),
    )


def share_interval(is_hit_S: npt.NDArray[np.bool_], groups_S: npt.NDArray[np.integer[Any]]) -> Interval | None:
    """Return the interval of the share of hits; None with fewer than MIN_UNITS groups."""
    sizes = np.bincount(groups_S)
    sizes = sizes[sizes > 0]
    if len(sizes) < MIN_UNITS:
        return None
    return intervals.proportion_interval(float(is_hit_S.mean()), effective_number(sizes))


def per_1000(share: Interval) -> Interval:
    """Return an interval of a share as one of a number per 1,000."""
    return Interval(1000 * share.low, 1000 * share.high)


def _find_influences(scans: ScoredScans, rated: Rated) -> Influences:
    return find_influences(rated.scores_N, rated.labels_N, scans.groups_N, scans.num_groups)


def _find_class_intervals(
    scans: ScoredScans, rated: Rated, influences: Influences, pointing: Interval | None
) -> RankIntervals:
    ranking, operation = rated.ranking, rated.operation
    positives, negatives = influences.effective_positives, influences.effective_negatives
    has_negatives = influences.num_negative_groups >= MIN_UNITS
    is_enough = influences.num_positive_groups >= MIN_UNITS
    sides = (ranking.positives_P, ranking.negatives_M)

    def recall(rate: int) -> Interval | None:
        if not (is_enough and has_negatives):
            return None
        return intervals.recall_interval(*sides, rate / 1000, positives, negatives)

    def false_alarms(share: float) -> Interval | None:
        if not (is_enough and has_negatives):
            return None
        return per_1000(intervals.false_alarm_interval(*sides, share, positives, negatives))

    return RankIntervals(
        average_precision=intervals.average_precision_interval(
            rated.average_precision, influences.average_precision_variance, positives
        )
        if is_enough and rated.average_precision is not None
        else None,
        roc_auc=intervals.roc_auc_interval(rated.roc_auc, influences.roc_auc_variance, positives, negatives)
        if is_enough and rated.roc_auc is not None
        else None,
        recall_at_false_alarms={rate: recall(rate) for rate in FALSE_ALARM_RATES},
        false_alarms_at_false_alarms={
            rate: per_1000(intervals.proportion_interval(point.num_false / point.num_negative, negatives))
            if has_negatives
            else None
            for rate, point in operation.at_false_alarms.items()
        },
        false_alarms_at_recall={share: false_alarms(share) for share in RECALLS},
        brier=_rate_brier(scans, rated) if is_enough else None,
        pointing_accuracy=pointing,
        num_positive_groups=influences.num_positive_groups,
    )


def _rate_brier(scans: ScoredScans, rated: Rated) -> Interval | None:
    known_N = rated.labels_N != UNKNOWN
    present, groups = rated.labels_N[known_N] == PRESENT, scans.groups_N[known_N]
    errors = (sigmoid(rated.scores_N[known_N]) - present) ** 2
    brier = float(errors.mean())
    # The numbers of positives and negatives are given, so each side varies around its own mean.
    side_means = np.where(present, errors[present].mean(), errors[~present].mean() if not present.all() else 0.0)
    by_group_G = np.bincount(groups, weights=errors - side_means)
    number = effective_number(np.bincount(groups[present]))
    variance = float(np.square(by_group_G).sum()) / len(errors) ** 2 * number / max(number - 1, 1)
    spread = brier * (1 - brier)
    if not spread or not variance:
        return None
    return intervals.wilson_interval(brier, spread / variance, intervals.student_quantile(number))


def _rate_pointing(scans: ScoredScans, k: int, mean: "_Mean") -> Interval | None:
    found = find_pointing_hits(scans, k)
    if not len(found.row_S):
        return None
    groups_S = scans.groups_N[found.row_S]
    mean.add_share(found.is_hit_S, groups_S)
    return share_interval(found.is_hit_S, groups_S)


class _Mean:
    """Sums the influences of classes on the mean of a figure, which keeps what they have in common."""

    def __init__(self, num_groups: int) -> None:
        self._influences_G = np.zeros(num_groups)
        self._values: list[float] = []
        self._centres: list[float] = []
        self._own: list[float] = []
        self._variances: list[float] = []
        self._degrees: list[float] = []
        self._num_units = 0

    def add_average_precision(self, value: float, of: Influences, debiased: float) -> None:
        number = intervals.average_precision_number(value, of.average_precision_variance, of.effective_positives)
        number /= 1 + 3 / of.effective_positives  # the debiased figure varies more: the ratio in simulations
        self._add(value, debiased, of.average_precision_G, number, of.effective_positives, of.num_positive_groups)

    def add_roc_auc(self, value: float, of: Influences) -> None:
        number = intervals.roc_auc_number(value, of.roc_auc_variance, of.effective_positives, of.effective_negatives)
        self._add(value, value, of.roc_auc_G, number, of.effective_positives, of.num_positive_groups)

    def add_share(self, is_hit_S: npt.NDArray[np.bool_], groups_S: npt.NDArray[np.integer[Any]]) -> None:
        sizes_G = np.bincount(groups_S, minlength=len(self._influences_G))
        share, number = float(is_hit_S.mean()), effective_number(sizes_G)
        influences_G = np.bincount(groups_S, weights=is_hit_S - share, minlength=len(sizes_G)) / len(groups_S)
        self._add(share, share, influences_G, number, number, int(np.count_nonzero(sizes_G)))

    def _add(
        self, value: float, centre: float, influences_G: FloatArray, number: float, degrees: float, num_units: int
    ) -> None:
        shrunk = (value * number + 0.5) / (number + 1)  # a perfect figure varies as well
        self._influences_G += influences_G
        self._values.append(value)
        self._centres.append(centre)
        self._own.append(float(np.square(influences_G).sum()))
        self._variances.append(shrunk * (1 - shrunk) / number)
        self._degrees.append(max(degrees, 1.0))
        self._num_units += num_units

    def interval(self) -> Interval | None:
        """Return the interval of the mean; None with fewer than MIN_UNITS positives of all classes together."""
        if self._num_units < MIN_UNITS:
            return None
        variances_K, count = np.array(self._variances), len(self._values)
        between = float(np.square(self._influences_G).sum()) - sum(self._own)  # what classes have in common
        variance = max(float(variances_K.sum()) + between, 0.1 * float(variances_K.sum())) / count**2
        degrees = float(variances_K.sum()) ** 2 / float((variances_K**2 / np.array(self._degrees)).sum())
        value, centre = float(np.mean(self._values)), float(np.clip(np.mean(self._centres), 0, 1))
        shrunk = float(np.clip(centre, 0.5 / (count + 1), 1 - 0.5 / (count + 1)))
        found = intervals.wilson_interval(centre, shrunk * (1 - shrunk) / variance, intervals.student_quantile(degrees))
        return Interval(min(found.low, value), max(found.high, value))
