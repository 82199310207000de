"""Is the new model better? Two models over the same scans: paired differences, and the scans that changed sides."""

# N scans both models scored  K classes both know, then "any item"  R bootstrap rounds

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from model.evaluation.scored_scans import ScoredScans
from model.metrics import bootstrap
from model.metrics import ranking as metrics
from model.metrics.intervals import Interval, percentile_interval
from model.metrics.operating_points import OperatingPoint, any_item, at_false_alarms
from model.metrics.ranking import ABSENT, PRESENT

SIDES_RATE = 10
"""False alarms per 1,000 bags that each model's own threshold allows, when scans are said to change sides."""
NUM_KEYS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A figure of the new model beside that of the baseline, over the scans that both scored."""

    new: float | None
    baseline: float | None
    interval: Interval | None
    """Of new - baseline; None where undefined or no bootstrap was asked for."""

    @property
    def value(self) -> float | None:
        """New - baseline."""
        return None if self.new is None or self.baseline is None else self.new - self.baseline

    @property
    def verdict(self) -> str:
        """`better` or `worse` where the interval leaves 0 out, else `open`."""
        if self.interval is None:
            return "open"
        return "better" if self.interval.low > 0 else "worse" if self.interval.high < 0 else "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedSides:
    """Scans of one class on which the alarms of the two models differ, each at its own threshold."""

    num_newly_caught: int
    num_newly_missed: int
    num_newly_alarmed: int
    """Scans without the item that only the new model alarms for."""
    num_newly_quiet: int
    newly_missed_keys: tuple[str, ...]
    """The first few, those whose logit fell most first."""
    newly_alarmed_keys: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassComparison:
    """One class under both models."""

    average_precision: Difference
    roc_auc: Difference
    recall: Difference
    """At SIDES_RATE false alarms per 1,000 bags."""
    sides: ChangedSides | None
    """None where either model has no threshold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A model beside a baseline."""

    model_id: str
    baseline_id: str
    num_scans: int
    """Scans that both models scored: only these are compared."""
    num_only_new: int
    num_only_baseline: int
    left_out_classes: tuple[str, ...]
    """Classes that only one of the models knows."""
    mean_average_precision: Difference
    classes: dict[str, ClassComparison]
    any_item: ClassComparison


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


def compare_models(
    new: ScoredScans, baseline: ScoredScans, model_id: str, baseline_id: str, num_rounds: int = bootstrap.NUM_ROUNDS
) -> Comparison:
    """Return how two models differ on one split.

    Every round weighs the same scans for both models, so that what is hard for both cancels out.

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
    pairs = _pair_classes(new, baseline, names, np.flatnonzero(common_N), rows_there)
    rated = [(_rate(pair.new_N, pair.labels_N), _rate(pair.baseline_N, pair.labels_N)) for pair in pairs]
    _, groups_N = np.unique(new.groups_N[common_N], return_inverse=True)
    resampled = _resample(pairs, groups_N, num_rounds) if num_rounds else None
    keys = np.asarray(new.keys_N.filter(common_N).to_numpy(zero_copy_only=False))
    compared = [_compare_class(k, pairs[k], *rated[k], resampled, keys) for k in range(len(pairs))]
    return Comparison(
        model_id=model_id,
        baseline_id=baseline_id,
        num_scans=len(rows_there),
        num_only_new=len(new.keys_N) - len(rows_there),
        num_only_baseline=len(baseline.keys_N) - len(rows_there),
        left_out_classes=tuple(sorted(set(new.classes) ^ set(baseline.classes))),
        mean_average_precision=_compare_means(rated[:-1], resampled),
        classes=dict(zip(names, compared[:-1], strict=True)),
        any_item=compared[-1],
    )


def _pair_classes(
    new: ScoredScans,
    baseline: ScoredScans,
    names: list[str],
    rows_here: npt.NDArray[np.int64],
    rows_there: npt.NDArray[np.int64],
) -> list[_Pair]:
    here = np.array([new.classes.index(name) for name in names])
    there = np.array([baseline.classes.index(name) for name in names])
    labels_NK = new.labels_NK[np.ix_(rows_here, here)]
    new_NK, baseline_NK = new.logits_NK[np.ix_(rows_here, here)], baseline.logits_NK[np.ix_(rows_there, there)]
    pairs = [_Pair(labels_NK[:, k], new_NK[:, k], baseline_NK[:, k]) for k in range(len(names))]
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


def _resample(pairs: list[_Pair], groups_N: npt.NDArray[Any], num_rounds: int) -> bootstrap.Resampled:
    """Return rounds over the new model's classes, then the baseline's, all weighed alike."""
    ranked = [bootstrap.rank_groups(pair.new_N, pair.labels_N, groups_N) for pair in pairs]
    ranked += [bootstrap.rank_groups(pair.baseline_N, pair.labels_N, groups_N) for pair in pairs]
    return bootstrap.resample(ranked, int(groups_N.max()) + 1, (SIDES_RATE,), num_rounds)


def _compare_class(
    k: int,
    pair: _Pair,
    new: _Rated,
    baseline: _Rated,
    resampled: bootstrap.Resampled | None,
    keys: npt.NDArray[Any],
) -> ClassComparison:
    def subtract(values_RK: npt.NDArray[np.float64] | None) -> Interval | None:
        return (
            None
            if values_RK is None
            else percentile_interval(values_RK[:, k] - values_RK[:, k + values_RK.shape[1] // 2])
        )

    recalls = [rated.point.recall if rated.point else None for rated in (new, baseline)]
    return ClassComparison(
        average_precision=Difference(
            new=new.average_precision,
            baseline=baseline.average_precision,
            interval=subtract(resampled.average_precision_RK if resampled else None),
        ),
        roc_auc=Difference(
            new=new.roc_auc, baseline=baseline.roc_auc, interval=subtract(resampled.roc_auc_RK if resampled else None)
        ),
        recall=Difference(
            new=recalls[0],
            baseline=recalls[1],
            interval=subtract(resampled.recall_RKF[:, :, 0] if resampled else None),
        ),
        sides=_find_changed_sides(pair, new.point, baseline.point, keys),
    )


def _compare_means(rated: list[tuple[_Rated, _Rated]], resampled: bootstrap.Resampled | None) -> Difference:
    luck = None
    if resampled is not None:
        half = len(rated) + 1
        new_R = resampled.mean_average_precision_R(slice(0, len(rated)))
        baseline_R = resampled.mean_average_precision_R(slice(half, half + len(rated)))
        luck = percentile_interval(new_R - baseline_R)
    return Difference(
        new=metrics.mean_of_defined([new.average_precision for new, _ in rated]),
        baseline=metrics.mean_of_defined([baseline.average_precision for _, baseline in rated]),
        interval=luck,
    )


def _find_changed_sides(
    pair: _Pair, new: OperatingPoint | None, baseline: OperatingPoint | None, keys: npt.NDArray[Any]
) -> ChangedSides | None:
    if new is None or baseline is None:
        return None
    now_N, before_N = _alarms(pair.new_N, new), _alarms(pair.baseline_N, baseline)
    present_N, absent_N = pair.labels_N == PRESENT, pair.labels_N == ABSENT
    gain_N = pair.new_N.astype(np.float64) - pair.baseline_N
    missed, alarmed = np.flatnonzero(present_N & before_N & ~now_N), np.flatnonzero(absent_N & now_N & ~before_N)
    return ChangedSides(
        num_newly_caught=int((present_N & now_N & ~before_N).sum()),
        num_newly_missed=len(missed),
        num_newly_alarmed=len(alarmed),
        num_newly_quiet=int((absent_N & before_N & ~now_N).sum()),
        newly_missed_keys=tuple(keys[missed[np.argsort(gain_N[missed], kind="stable")][:NUM_KEYS]]),
        newly_alarmed_keys=tuple(keys[alarmed[np.argsort(-gain_N[alarmed], kind="stable")][:NUM_KEYS]]),
    )


def _alarms(logits_N: npt.NDArray[np.floating[Any]], point: OperatingPoint) -> npt.NDArray[np.bool_]:
    never = point.threshold is None
    return np.zeros(len(logits_N), bool) if never else logits_N >= logits_N.dtype.type(point.threshold)
