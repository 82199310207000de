"""Find the thresholds of a report: what they catch with a budget of false alarms, over all classes together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.evaluation.scans.bags import number_bags
from model.evaluation.scans.scored_scans import UNSCORED, ScoredScans
from model.metrics.bags import NEVER, AlarmPlan, Bags, apply_thresholds, make_bags
from model.metrics.joint_thresholds import plan_any_item, plan_each_class, plan_jointly, sort_scores
from model.metrics.operating_points import FALSE_ALARM_RATES, OperatingFigures
from model.metrics.uncertainty.intervals import MIN_UNITS, Interval, recall_interval

ALARM_RATE = 10
"""False alarms per 1,000 clean bags at which a report counts what is caught and lists misses and false alarms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmPlans:
    """Three rules for one budget; `joint` catches the most."""

    joint: AlarmPlan
    """A threshold a class, found together."""
    any_item: AlarmPlan
    """One threshold for all classes."""
    per_class: AlarmPlan
    """Each class has the budget for itself: all together may have several times as many false alarms."""
    joint_interval: Interval | None
    """Of the recall of `joint`; None if bags are too few, or no intervals were asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmThresholds:
    """The thresholds at which a report lists misses and false alarms."""

    rule: str
    """`given`; `joint`: those of the headline; `per_class`: where no bag is clean, ALARM_RATE for each class alone."""
    logits_K: npt.NDArray[np.float64]
    """A logit of at least this raises an alarm; NEVER for a class without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BagCounts:
    """Bags that were rated."""

    num: int
    num_with_item: int
    num_clean: int

    @property
    def num_unknown(self) -> int:
        """Bags without a known item, of which a label is unknown."""
        return self.num - self.num_with_item - self.num_clean


def count_bags(bags: Bags) -> BagCounts:
    """Return how many bags there are."""
    return BagCounts(
        num=len(bags.is_clean_G),
        num_with_item=int(np.count_nonzero(bags.has_item_G)),
        num_clean=int(np.count_nonzero(bags.is_clean_G)),
    )


def bags_of(scans: ScoredScans) -> Bags:
    """Return the bags of scans; the logit of a class without a score is -inf."""
    unscored_NK = scans.logits_NK == UNSCORED
    logits_NK = np.where(unscored_NK, -np.inf, scans.logits_NK) if unscored_NK.any() else scans.logits_NK
    return make_bags(logits_NK, scans.labels_NK, number_bags(scans))


def plan_alarms(scans: ScoredScans, bags: Bags, has_intervals: bool = True) -> dict[int, AlarmPlans]:
    """Return the rules for each budget that reports name; none if no bag is clean.

    Args:
        scans: of one split.
        bags: of these scans.
        has_intervals: whether to compute intervals.
    """
    if not bags.is_clean_G.any():
        return {}
    labels_NK = np.stack([scans.column(k)[1] for k in range(len(scans.classes))], axis=1)
    values, values_of_scans = sort_scores(bags.logits_GK), sort_scores(scans.logits_NK)
    plans = {}
    for rate in FALSE_ALARM_RATES:
        joint = plan_jointly(bags, rate, values)
        plans[rate] = AlarmPlans(
            joint=joint,
            any_item=plan_any_item(bags, rate),
            per_class=apply_thresholds(bags, plan_each_class(scans.logits_NK, labels_NK, rate, values_of_scans)),
            joint_interval=_find_interval(bags, joint, rate) if has_intervals else None,
        )
    return plans


def choose_thresholds(
    given_K: npt.NDArray[np.float64] | None, plans: dict[int, AlarmPlans], operations: Sequence[OperatingFigures]
) -> AlarmThresholds:
    """Return the thresholds at which misses and false alarms are listed.

    Args:
        given_K: logits, NEVER for a class without one; None if none were given.
        plans: of `plan_alarms`.
        operations: of each class.
    """
    if given_K is not None:
        return AlarmThresholds(rule="given", logits_K=given_K)
    if ALARM_RATE in plans:
        return AlarmThresholds(rule="joint", logits_K=plans[ALARM_RATE].joint.thresholds_K)
    points = [of.at_false_alarms.get(ALARM_RATE) for of in operations]
    logits = [NEVER if point is None or point.threshold is None else point.threshold for point in points]
    return AlarmThresholds(rule="per_class", logits_K=np.array(logits, np.float64))


def _find_interval(bags: Bags, plan: AlarmPlan, rate: float) -> Interval | None:
    """Return the interval of a plan's recall: its thresholds are one on the largest excess over them of any class."""
    has_threshold_K = plan.thresholds_K != NEVER
    if min(plan.num_with_item, plan.num_clean) < MIN_UNITS or not has_threshold_K.any():
        return None
    excess_G = (bags.logits_GK[:, has_threshold_K] - plan.thresholds_K[has_threshold_K]).max(axis=1)
    sides = np.sort(excess_G[bags.has_item_G]), np.sort(excess_G[bags.is_clean_G])
    found = recall_interval(*sides, rate / 1000, plan.num_with_item, plan.num_clean)
    assert plan.recall is not None
    return Interval(min(found.low, plan.recall), max(found.high, plan.recall))
