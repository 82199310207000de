"""How good are the predictions? Every figure of a report, as one nested value."""

# N scans  K classes  R bootstrap rounds

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from model.evaluation.breakdowns import ClassBreakdowns, Mistakes, count_mistakes, rate_breakdowns
from model.evaluation.completeness import Completeness
from model.evaluation.pointing import PointingFigures, find_pointing_hits, rate_pointing
from model.evaluation.scored_scans import ScoredScans, join_predictions
from model.evaluation.top_k import TopKAccuracy, rate_top_k
from model.metrics import bootstrap
from model.metrics import ranking as metrics
from model.metrics.bootstrap import GroupedHits
from model.metrics.calibration import CalibrationFigures, rate_calibration
from model.metrics.intervals import Interval, percentile_interval
from model.metrics.operating_points import (
    FALSE_ALARM_RATES,
    OperatingFigures,
    OperatingPoint,
    Sweep,
    any_item,
    rate_operation,
    sigmoid,
    sweep,
)
from model.metrics.ranking import PRESENT, UNKNOWN, Curve, Ranking
from shards.format.dataset import Dataset
from shards.predictions.run import Predictions

MISTAKE_RATE = 10
"""False alarms per 1,000 bags at which misses are looked into."""
MAX_CLASSES_IN_FULL = 40
"""Up to so many classes a report shows whatever it has of each: a table of 40 columns fills a wide screen, and nobody
looks through more charts. Corpora of X-ray scans have 5 to 15 classes, ILSVRC2012 has 1,000."""
NUM_EXTREME_CLASSES = 10
"""Of more classes, so many of the weakest and of the best are shown one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankFigures:
    """How good one score is at telling scans apart."""

    ranking: Ranking
    curve: Curve
    average_precision: dict[str, float | None]
    """By the names of `metrics.AVERAGE_PRECISIONS`."""
    roc_auc: float | None
    operation: OperatingFigures
    calibration: CalibrationFigures


@dataclass(frozen=True, slots=True, kw_only=True)
class RankIntervals:
    """How far the figures of one score could be off by luck; None where a figure is undefined."""

    average_precision: Interval | None
    roc_auc: Interval | None
    recall_at_false_alarms: dict[int, Interval | None]
    pointing_accuracy: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFigures:
    """How good the predictions of one class are."""

    rank: RankFigures
    pointing: PointingFigures
    breakdowns: ClassBreakdowns | None
    """None for the alarm for any item: it has no box."""
    level_average_precision: tuple[float | None, ...]
    """Of each level alone, the finest first; empty where the model has one level only."""
    intervals: RankIntervals | None
    """None when no bootstrap was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanFigures:
    """Means over the classes for which a figure is defined: a class without positives has none."""

    average_precision: dict[str, float | None]
    roc_auc: float | None
    pointing_accuracy: float | None
    prevalence: float | None
    """What a random ranking would reach as its mean average precision: the mean over classes with positives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapFigures:
    """How the intervals were made, and that of the mean, which no class has."""

    num_rounds: int
    num_groups: int
    """Scans that differ: those with the same bytes are drawn together."""
    mean_average_precision: Interval | None
    mean_pointing_accuracy: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """How good one model's predictions of one split of one dataset are."""

    model_id: str
    dataset_digest: str
    split: str
    run: dict[str, Any]
    """`run.json` of the predictions: versions, decoder, timings."""
    completeness: Completeness
    classes: dict[str, ClassFigures]
    mean: MeanFigures
    top_k_accuracy: dict[int, TopKAccuracy] | None
    """By the number of guesses, how often a scan's class is among so many highest scores; None unless every scan has
    exactly one class."""
    any_item: ClassFigures
    """The alarm that a guard hears: the bag holds something, whichever class it is; no boxes are looked at."""
    mistakes: Mistakes
    """At the thresholds that allow each class MISTAKE_RATE false alarms per 1,000 bags."""
    sweep: Sweep
    """Every class, then `any_item`, at the same thresholds."""
    bootstrap: BootstrapFigures | None

    @property
    def is_in_full(self) -> bool:
        """Whether the classes are few enough to show all of each; see `say_what_is_left_out`."""
        return len(self.classes) <= MAX_CLASSES_IN_FULL

    @property
    def shown_classes(self) -> tuple[str, ...]:
        """Classes to look at one by one: all, in the model's order, or the weakest and the best, weakest first."""
        if self.is_in_full:
            return tuple(self.classes)
        figures = {name: of.rank.average_precision["non_interpolated"] for name, of in self.classes.items()}
        rated = {name: figure for name, figure in figures.items() if figure is not None}
        ranked = sorted(rated, key=lambda name: rated[name])
        return tuple(ranked[:NUM_EXTREME_CLASSES] + ranked[NUM_EXTREME_CLASSES:][-NUM_EXTREME_CLASSES:])


def evaluate(
    predictions: Predictions, dataset: Dataset, split: str, num_rounds: int = bootstrap.NUM_ROUNDS
) -> Evaluation:
    """Return every figure of a split.

    Args:
        predictions: of one model.
        dataset: that was scored.
        split: its scans are rated.
        num_rounds: of the bootstrap; 0 for no intervals.

    Raises:
        ValueError: the predictions do not match the dataset; see `model.evaluation.scored_scans.join`.
    """
    return evaluate_scans(join_predictions(predictions, dataset, split), predictions, dataset, num_rounds)


def evaluate_scans(scans: ScoredScans, predictions: Predictions, dataset: Dataset, num_rounds: int) -> Evaluation:
    """Return every figure of scans that `join` made of these predictions and this dataset; see `evaluate`."""
    columns = [(scans.logits_NK[:, k], scans.labels_NK[:, k]) for k in range(len(scans.classes))]
    columns.append(any_item(scans.logits_NK, scans.labels_NK))
    ranks = [_rate_ranks(*column) for column in columns]
    resampled = _resample(scans, columns, num_rounds) if num_rounds else None
    figures = [
        ClassFigures(
            rank=rank,
            pointing=rate_pointing(scans, k),
            breakdowns=rate_breakdowns(scans, k, _point(rank)) if k < len(scans.classes) else None,
            level_average_precision=_rate_levels(scans, k) if k < len(scans.classes) else (),
            intervals=_find_intervals(resampled, k) if resampled is not None else None,
        )
        for k, rank in enumerate(ranks)
    ]
    return Evaluation(
        model_id=predictions.model_id,
        dataset_digest=dataset.manifest.digest,
        split=scans.split,
        run=predictions.run,
        completeness=scans.completeness,
        classes=dict(zip(scans.classes, figures[:-1], strict=True)),
        mean=_average(figures[:-1]),
        top_k_accuracy=rate_top_k(scans, num_rounds),
        any_item=figures[-1],
        mistakes=count_mistakes(
            scans, [_point(rank) for rank in ranks[:-1]], by_pair=len(scans.classes) <= MAX_CLASSES_IN_FULL
        ),
        sweep=sweep([rank.ranking for rank in ranks]),
        bootstrap=_sum_up(resampled, scans) if resampled is not None else None,
    )


def _rate_ranks(scores_N: npt.NDArray[Any], labels_N: npt.NDArray[Any]) -> RankFigures:
    ranking = metrics.rank(scores_N, labels_N)
    curve = metrics.trace_curve(ranking)
    known_N = labels_N != UNKNOWN
    return RankFigures(
        ranking=ranking,
        curve=curve,
        average_precision={name: figure(curve) for name, figure in metrics.AVERAGE_PRECISIONS.items()},
        roc_auc=metrics.roc_auc(ranking),
        operation=rate_operation(curve),
        calibration=rate_calibration(sigmoid(scores_N[known_N]), labels_N[known_N] == PRESENT),
    )


def _resample(
    scans: ScoredScans, columns: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]], num_rounds: int
) -> bootstrap.Resampled:
    classes = [bootstrap.rank_groups(scores_N, labels_N, scans.groups_N) for scores_N, labels_N in columns]
    judgements = [find_pointing_hits(scans, k) for k in range(len(scans.classes))]
    judged = [GroupedHits(scans.groups_N[of.row_S], of.is_hit_S) for of in judgements]
    return bootstrap.resample(classes, scans.num_groups, FALSE_ALARM_RATES, num_rounds, judged=judged)


def _find_intervals(resampled: bootstrap.Resampled, k: int) -> RankIntervals:
    num_judged = resampled.hit_rate_RJ.shape[1]  # any item comes after them: no heatmap is of no class
    return RankIntervals(
        average_precision=percentile_interval(resampled.average_precision_RK[:, k]),
        roc_auc=percentile_interval(resampled.roc_auc_RK[:, k]),
        recall_at_false_alarms={
            rate: percentile_interval(resampled.recall_RKF[:, k, f]) for f, rate in enumerate(FALSE_ALARM_RATES)
        },
        pointing_accuracy=percentile_interval(resampled.hit_rate_RJ[:, k]) if k < num_judged else None,
    )


def _sum_up(resampled: bootstrap.Resampled, scans: ScoredScans) -> BootstrapFigures:
    without_any_item = slice(0, len(scans.classes))
    return BootstrapFigures(
        num_rounds=len(resampled.average_precision_RK),
        num_groups=scans.num_groups,
        mean_average_precision=percentile_interval(resampled.mean_average_precision_R(without_any_item)),
        mean_pointing_accuracy=percentile_interval(resampled.mean_hit_rate_R()),
    )


def _point(rank: RankFigures) -> OperatingPoint | None:
    return rank.operation.at_false_alarms.get(MISTAKE_RATE)


def _rate_levels(scans: ScoredScans, k: int) -> tuple[float | None, ...]:
    if len(scans.level_logits_LNK) < 2:
        return ()
    rankings = [metrics.rank(level_NK[:, k], scans.labels_NK[:, k]) for level_NK in scans.level_logits_LNK]
    return tuple(metrics.average_precision(metrics.trace_curve(ranking)) for ranking in rankings)


def _average(classes: list[ClassFigures]) -> MeanFigures:
    with_positives = [figures for figures in classes if figures.rank.ranking.num_positive]
    ranks = [figures.rank for figures in with_positives]
    return MeanFigures(
        average_precision={
            name: metrics.mean_of_defined([rank.average_precision[name] for rank in ranks])
            for name in metrics.AVERAGE_PRECISIONS
        },
        roc_auc=metrics.mean_of_defined([rank.roc_auc for rank in ranks]),
        pointing_accuracy=metrics.mean_of_defined([figures.pointing.accuracy for figures in with_positives]),
        prevalence=metrics.mean_of_defined([rank.ranking.prevalence for rank in ranks]),
    )
