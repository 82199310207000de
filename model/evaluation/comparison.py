"""Compare two models on the same scans: paired differences, and scans whose alarm changed."""

# N scans that both models scored  K classes that both have  R bootstrap rounds

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from model.evaluation.scored_scans import UNSCORED, ScoredScans
from model.metrics import bootstrap
from model.metrics import ranking as metrics
from model.metrics.bootstrap import ScoreRounds, percentile_interval
from model.metrics.intervals import Interval
from model.metrics.operating_points import OperatingPoint, any_item, at_false_alarms
from model.metrics.ranking import ABSENT, PRESENT, UNKNOWN

SIDES_RATE = 10
"""False alarms per 1,000 bags at each model's own threshold, where changed alarms are counted."""
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
        """`better` or `worse` if the interval excludes 0, else `open`."""
        if self.interval is None:
            return "open"
        return "better" if self.interval.low > 0 else "worse" if self.interval.high < 0 else "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedSides:
    """Scans on which the alarms of the two models differ, each at its own threshold."""

    num_newly_caught: int
    num_newly_missed: int
    num_newly_alarmed: int
    """Scans without the item that only the new model alarms for."""
    num_newly_quiet: int
    newly_missed_keys: tuple[str, ...]
    """The first few, the largest fall of the logit first."""
    newly_alarmed_keys: tuple[str, ...]


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


_Rounds = tuple[ScoreRounds, ScoreRounds] | None
"""Bootstrap rounds of the new model and of the baseline; None if no bootstrap was asked for."""


def compare_models(
    new: ScoredScans, baseline: ScoredScans, model_id: str, baseline_id: str, num_rounds: int = bootstrap.NUM_ROUNDS
) -> Comparison:
    """Return how two models differ on one split.

    Every bootstrap round weights the scans alike for both models, so that what is hard for both cancels out.

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
    rounds = _resample(pairs, groups_N, num_rounds)
    keys = np.asarray(new.keys_N.filter(common_N).to_numpy(zero_copy_only=False))
    *classes, any_compared = [_compare_score(pair, of, keys) for pair, of in zip(pairs, rounds, strict=True)]
    return Comparison(
        model_id=model_id,
        baseline_id=baseline_id,
        num_scans=len(rows_there),
        num_only_new=len(new.keys_N) - len(rows_there),
        num_only_baseline=len(baseline.keys_N) - len(rows_there),
        left_out_classes=tuple(sorted(set(new.classes) ^ set(baseline.classes))),
        mean_average_precision=_compare_means([of.average_precision for of in classes], rounds[:-1]),
        classes=dict(zip(names, classes, strict=True)),
        any_item=any_compared,
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


def _resample(pairs: list[_Pair], groups_N: npt.NDArray[Any], num_rounds: int) -> list[_Rounds]:
    """Return the rounds of each pair, of both models with the same weights."""
    if not num_rounds:
        return [None] * len(pairs)
    ranked = [
        bootstrap.rank_groups(scores_N, pair.labels_N, groups_N)
        for pair in pairs
        for scores_N in (pair.new_N, pair.baseline_N)
    ]
    scores = bootstrap.resample(ranked, int(groups_N.max()) + 1, (SIDES_RATE,), num_rounds).scores
    return list(zip(scores[::2], scores[1::2], strict=True))


def _compare_score(pair: _Pair, rounds: _Rounds, keys: npt.NDArray[Any]) -> ClassComparison:
    def compare(
        new_value: float | None,
        baseline_value: float | None,
        values_of: Callable[[ScoreRounds], npt.NDArray[np.float64]],
    ) -> Difference:
        interval = percentile_interval(values_of(rounds[0]) - values_of(rounds[1])) if rounds else None
        return Difference(new=new_value, baseline=baseline_value, interval=interval)

    new, baseline = _rate(pair.new_N, pair.labels_N), _rate(pair.baseline_N, pair.labels_N)
    return ClassComparison(
        average_precision=compare(new.average_precision, baseline.average_precision, lambda of: of.average_precision_R),
        roc_auc=compare(new.roc_auc, baseline.roc_auc, lambda of: of.roc_auc_R),
        recall=compare(new.recall, baseline.recall, lambda of: of.recall_RF[:, 0]),
        sides=_find_changed_sides(pair, new.point, baseline.point, keys),
    )


def _compare_means(classes: list[Difference], rounds: list[_Rounds]) -> Difference:
    both = [of for of in rounds if of]
    means_R = [bootstrap.mean_rounds([of[model].average_precision_R for of in both]) for model in (0, 1) if both]
    return Difference(
        new=metrics.mean_of_defined([of.new for of in classes]),
        baseline=metrics.mean_of_defined([of.baseline for of in classes]),
        interval=percentile_interval(means_R[0] - means_R[1]) if both else None,
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
