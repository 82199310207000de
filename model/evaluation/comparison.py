"""Compare two models on the same scans: paired differences, and scans whose alarm changed."""

# N scans that both models scored  K classes that both have  R bootstrap rounds

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from model.evaluation.changed_sides import ChangedSides, find_changed_sides
from model.evaluation.scans.scored_scans import UNSCORED, ScoredScans
from model.metrics import ranking as metrics
from model.metrics.operating_points import OperatingPoint, any_item, at_false_alarms
from model.metrics.uncertainty import bootstrap
from model.metrics.uncertainty.differences import Estimate, MeanEstimate, correct_differences
from model.metrics.uncertainty.influence import find_influences
from model.metrics.uncertainty.intervals import MIN_UNITS, Interval
from shards.format.classes import PRESENT, UNKNOWN

SIDES_RATE = 10
"""False alarms per 1,000 bags at each model's own threshold, where changed alarms are counted."""

DecideBy = Literal["mean_average_precision", "recall_at_false_alarms"]
"""The figure that decides a comparison; the second is the recall of the alarm for any item at SIDES_RATE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A figure of the new model beside that of the baseline, over the scans that both scored."""

    new: float | None
    baseline: float | None
    interval: Interval | None
    """Of new - baseline, at a level that allows for the number of classes and baselines; None where undefined, with
    fewer than 5 positives, or if no intervals were asked for."""
    p_value: float | None = None
    """Of no difference, corrected alike."""

    @property
    def value(self) -> float | None:
        """New - baseline."""
        return None if self.new is None or self.baseline is None else self.new - self.baseline

    @property
    def verdict(self) -> str:
        """`better` or `worse` if the interval excludes 0, else `open`."""
        if self.interval is None:
            return "open"
        return "better" if self.interval.low > 0 else "worse" if self.interval.high < 0 else "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassComparison:
    """One class under both models."""

    average_precision: Difference
    roc_auc: Difference
    recall: Difference
    """At SIDES_RATE false alarms per 1,000 bags."""
    sides: ChangedSides | None
    """None if either model has no threshold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A model beside a baseline."""

    model_id: str
    baseline_id: str
    num_scans: int
    """Scans that both models scored and are compared."""
    num_only_new: int
    num_only_baseline: int
    left_out_classes: tuple[str, ...]
    """Classes that only one of the models has."""
    mean_average_precision: Difference
    classes: dict[str, ClassComparison]
    any_item: ClassComparison
    decide_by: DecideBy = "mean_average_precision"

    @property
    def deciding(self) -> Difference:
        """The figure that decides which model is better."""
        return self.mean_average_precision if self.decide_by == "mean_average_precision" else self.any_item.recall

    @property
    def class_verdicts(self) -> dict[str, str]:
        """`better`, `worse` or `open` for each class, by the same figure."""
        by_precision = self.decide_by == "mean_average_precision"
        return {
            name: (of.average_precision if by_precision else of.recall).verdict for name, of in self.classes.items()
        }


@dataclass(frozen=True, slots=True)
class _Pair:
    """Labels and both models' logits of one class."""

    labels_N: npt.NDArray[np.int8]
    new_N: npt.NDArray[np.floating[Any]]
    baseline_N: npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class _Rated:
    average_precision: float | None
    roc_auc: float | None
    point: OperatingPoint | None

    @property
    def recall(self) -> float | None:
        return self.point.recall if self.point else None


@dataclass(frozen=True, slots=True)
class _Compared:
    """One class, before the correction for the number of classes."""

    new: _Rated
    baseline: _Rated
    average_precision: Estimate | None
    roc_auc: Estimate | None
    recall: Estimate | None
    sides: ChangedSides | None


def compare_models(
    new: ScoredScans,
    baseline: ScoredScans,
    model_id: str,
    baseline_id: str,
    num_rounds: int = bootstrap.NUM_ROUNDS,
    num_baselines: int = 1,
    decide_by: DecideBy = "mean_average_precision",
) -> Comparison:
    """Return how two models differ on one split; what is hard for both cancels out.

    Args:
        new: scans of the model.
        baseline: scans of the other model.
        model_id: of the model.
        baseline_id: of the other.
        num_rounds: of the bootstrap of recalls; 0 for no intervals at all.
        num_baselines: that the model is compared with; the intervals allow for it.
        decide_by: the figure that says which model is better.

    Raises:
        ValueError: the two have no scan or no class in common.
    """
    names = [name for name in new.classes if name in baseline.classes]
    row_of_new = pc.index_in(new.keys_N, value_set=baseline.keys_N)
    common_N = pc.is_valid(row_of_new).to_numpy(zero_copy_only=False)
    if not names or not common_N.any():
        raise ValueError(
            f"models must have scans and classes in common, got {list(new.classes)} on {len(new.keys_N)} scans and "
            f"{list(baseline.classes)} on {len(baseline.keys_N)}, {int(common_N.sum())} of them the same "
            f"({model_id}, {baseline_id})"
        )
    rows_there = row_of_new.drop_null().to_numpy()
    pairs = _pair_scores(new, baseline, names, np.flatnonzero(common_N), rows_there)
    _, groups_N = np.unique(new.groups_N[common_N], return_inverse=True)
    recall_variances = _resample_recalls(pairs, groups_N, num_rounds)
    keys = np.asarray(new.keys_N.filter(common_N).to_numpy(zero_copy_only=False))
    mean = MeanEstimate(int(groups_N.max()) + 1)
    compared = [
        _compare_score(pair, groups_N, keys, variance, mean)
        for pair, variance in zip(pairs[:-1], recall_variances[:-1], strict=True)
    ]
    any_compared = _compare_score(pairs[-1], groups_N, keys, recall_variances[-1], None)
    (any_item_comparison,) = _correct([any_compared], num_baselines)
    return Comparison(
        model_id=model_id,
        baseline_id=baseline_id,
        num_scans=len(rows_there),
        num_only_new=len(new.keys_N) - len(rows_there),
        num_only_baseline=len(baseline.keys_N) - len(rows_there),
        left_out_classes=tuple(sorted(set(new.classes) ^ set(baseline.classes))),
        mean_average_precision=_compare_means(compared, mean, num_baselines),
        classes=dict(zip(names, _correct(compared, num_baselines), strict=True)),
        any_item=any_item_comparison,
        decide_by=decide_by,
    )


def _pair_scores(
    new: ScoredScans,
    baseline: ScoredScans,
    names: list[str],
    rows_here: npt.NDArray[np.int64],
    rows_there: npt.NDArray[np.int64],
) -> list[_Pair]:
    """Return the pair of each class, and last that of any item."""
    here = np.array([new.classes.index(name) for name in names])
    there = np.array([baseline.classes.index(name) for name in names])
    labels_NK = new.labels_NK[np.ix_(rows_here, here)]
    new_NK, baseline_NK = new.logits_NK[np.ix_(rows_here, here)], baseline.logits_NK[np.ix_(rows_there, there)]
    unscored_NK = (new_NK == UNSCORED) | (baseline_NK == UNSCORED)
    rated_NK = np.where(unscored_NK, np.int8(UNKNOWN), labels_NK)
    pairs = [_Pair(rated_NK[:, k], new_NK[:, k], baseline_NK[:, k]) for k in range(len(names))]
    any_new_N, any_labels_N = any_item(new_NK, labels_NK)
    return [*pairs, _Pair(any_labels_N, any_new_N, any_item(baseline_NK, labels_NK)[0])]


def _rate(scores_N: npt.NDArray[np.floating[Any]], labels_N: npt.NDArray[np.int8]) -> _Rated:
    ranking = metrics.rank(scores_N, labels_N)
    curve = metrics.trace_curve(ranking)
    defined = curve.num_positive and curve.num_negative
    return _Rated(
        metrics.average_precision(curve),
        metrics.roc_auc(ranking),
        at_false_alarms(curve, SIDES_RATE) if defined else None,
    )


def _resample_recalls(pairs: list[_Pair], groups_N: npt.NDArray[np.int64], num_rounds: int) -> Sequence[float | None]:
    """Return the variance of each pair's difference in recall, both models resampled alike."""
    if not num_rounds:
        return [None] * len(pairs)
    ranked = [
        bootstrap.rank_groups(scores_N, pair.labels_N, groups_N)
        for pair in pairs
        for scores_N in (pair.new_N, pair.baseline_N)
    ]
    scores = bootstrap.resample(ranked, int(groups_N.max()) + 1, (SIDES_RATE,), num_rounds)
    differences = [
        new.recall_RF[:, 0] - there.recall_RF[:, 0] for new, there in zip(scores[::2], scores[1::2], strict=True)
    ]
    return [float(np.var(of_R[np.isfinite(of_R)])) if np.isfinite(of_R).any() else None for of_R in differences]


def _compare_score(
    pair: _Pair,
    groups_N: npt.NDArray[np.int64],
    keys: npt.NDArray[Any],
    recall_variance: float | None,
    mean: MeanEstimate | None,
) -> _Compared:
    new, baseline = _rate(pair.new_N, pair.labels_N), _rate(pair.baseline_N, pair.labels_N)
    sides = find_changed_sides(pair.labels_N, (pair.new_N, pair.baseline_N), (new.point, baseline.point), keys)
    if recall_variance is None:
        return _Compared(new, baseline, None, None, None, sides)
    of = find_influences(pair.new_N, pair.labels_N, groups_N, int(groups_N.max()) + 1, pair.baseline_N)

    def estimate(new_value: float | None, baseline_value: float | None, variance: float) -> Estimate | None:
        if new_value is None or baseline_value is None or of.num_positive_groups < MIN_UNITS:
            return None
        return Estimate(value=new_value - baseline_value, variance=variance, num_positive=of.effective_positives)

    # One more scan on the other side, lest no change mean certainty; a bag counts once.
    num_changed = sides.num_newly_caught + sides.num_newly_missed + 1 if sides else 1
    least = num_changed / max(int((pair.labels_N == PRESENT).sum()) * of.effective_positives, 1)
    if mean is not None and new.average_precision is not None:
        mean.add(of.average_precision_G, of.average_precision_variance, of.effective_positives)
    return _Compared(
        new,
        baseline,
        estimate(new.average_precision, baseline.average_precision, of.average_precision_variance),
        estimate(new.roc_auc, baseline.roc_auc, of.roc_auc_variance),
        estimate(new.recall, baseline.recall, max(recall_variance, least)),
        sides,
    )


def _correct(compared: Sequence[_Compared], num_baselines: int) -> list[ClassComparison]:
    """Return the comparisons of classes; each figure's intervals allow for the number of classes."""
    differences: list[list[Difference]] = []
    for figure in ("average_precision", "roc_auc", "recall"):
        tested = correct_differences([getattr(of, figure) for of in compared], num_baselines)
        differences.append(
            [
                Difference(
                    new=getattr(of.new, figure),
                    baseline=getattr(of.baseline, figure),
                    interval=test.interval,
                    p_value=test.p_value,
                )
                for of, test in zip(compared, tested, strict=True)
            ]
        )
    return [
        ClassComparison(average_precision=precision, roc_auc=auc, recall=recall, sides=of.sides)
        for precision, auc, recall, of in zip(*differences, compared, strict=True)
    ]


def _compare_means(compared: Sequence[_Compared], mean: MeanEstimate, num_baselines: int) -> Difference:
    new = metrics.mean_of_defined([of.new.average_precision for of in compared])
    baseline = metrics.mean_of_defined([of.baseline.average_precision for of in compared])
    estimate = mean.estimate(new - baseline) if new is not None and baseline is not None else None
    (tested,) = correct_differences([estimate], num_baselines)
    return Difference(new=new, baseline=baseline, interval=tested.interval, p_value=tested.p_value)
