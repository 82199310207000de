"""Evaluate predictions: compute every figure of a report as one nested value."""

# N scans  K classes

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model.evaluation.alarm_plans import (
    AlarmPlans,
    AlarmThresholds,
    BagCounts,
    bags_of,
    choose_thresholds,
    count_bags,
    plan_alarms,
)
from model.evaluation.breakdowns import ClassBreakdowns, Mistakes, count_mistakes, find_bands, rate_breakdowns
from model.evaluation.detection import DetectionFigures, rate_detections
from model.evaluation.pointing import PointingFigures, rate_pointing
from model.evaluation.scans.completeness import Completeness, DatasetFacts, describe_dataset
from model.evaluation.scans.scored_scans import ScoredScans, join_predictions
from model.evaluation.top_k import TopKAccuracy, rate_top_k
from model.evaluation.uncertainty import RankIntervals, Rated, Uncertainty, find_intervals
from model.metrics import ranking as metrics
from model.metrics.calibration import CalibrationFigures, rate_calibration
from model.metrics.class_figures import CLASS_FIGURES
from model.metrics.operating_points import OperatingFigures, Sweep, any_item, rate_operation, sigmoid, sweep
from model.metrics.ranking import Curve, Ranking
from model.metrics.uncertainty import bootstrap
from model.metrics.uncertainty.intervals import Interval
from shards.format.classes import PRESENT, UNKNOWN
from shards.format.dataset import Dataset
from shards.predictions.run import Predictions
from shards.predictions.trained_on import find_trained_share, is_training_data

MAX_CLASSES_IN_FULL = 40
"""A report shows everything of each class up to this many: a table of 40 columns fills a wide screen. Corpora of X-ray
scans have 5 to 15 classes, ILSVRC2012 has 1,000."""
NUM_EXTREME_CLASSES = 10
"""With more classes, this many of the weakest and of the best are shown one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankFigures:
    """Quality of one score as a ranking of the scans."""

    ranking: Ranking
    curve: Curve
    average_precision: dict[str, float | None]
    """By the names of `metrics.AVERAGE_PRECISIONS`."""
    roc_auc: float | None
    figures: dict[str, float | None]
    """By the names of `CLASS_FIGURES`."""
    operation: OperatingFigures
    calibration: CalibrationFigures


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreFigures:
    """Quality of one score: of a class, or of the alarm for any item."""

    rank: RankFigures
    intervals: RankIntervals | None
    """None if no intervals were asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFigures(ScoreFigures):
    """Quality of the predictions of one class."""

    num_positive_unscored: int
    """Scans that hold the class and are not rated: imported predictions have no score of it for them."""
    pointing: PointingFigures
    breakdowns: ClassBreakdowns
    level_average_precision: tuple[float | None, ...]
    """Of each level alone, the finest first; empty for a model with one level."""


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
    """How the intervals were made, and those of the means."""

    num_rounds: int
    num_groups: int
    """Groups of scans that count as one observation: a bag, or scans with the same bytes."""
    mean_average_precision: Interval | None
    mean_roc_auc: Interval | None
    mean_pointing_accuracy: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Quality of one model's predictions of one split of a dataset."""

    model_id: str
    dataset_digest: str
    dataset: DatasetFacts
    split: str
    trained_share: float | None
    """Share of the scans that the model was trained on, an estimate; None if unknown."""
    run: dict[str, Any]
    """`run.json` of the predictions: versions, decoder, timings."""
    completeness: Completeness
    fusion: str | None
    """How the scores of a bag's scans became one, where bags were rated; None: each scan."""
    bags: BagCounts
    classes: dict[str, ClassFigures]
    mean: MeanFigures
    top_k_accuracy: dict[int, TopKAccuracy] | None
    """By k; None unless every scan has exactly one class."""
    any_item: ScoreFigures
    """The alarm that an operator gets: the bag holds something, of whichever class."""
    alarm_thresholds: AlarmThresholds
    """Of breakdowns, mistakes and lists of errors."""
    mistakes: Mistakes
    alarm_plans: dict[int, AlarmPlans]
    """By false alarms per 1,000 clean bags; empty if no bag is clean."""
    sweep: Sweep
    bootstrap: BootstrapFigures | None
    detection: DetectionFigures | None
    """Of the boxes that the model found; None if it gives none."""

    @property
    def is_training_data(self) -> bool | None:
        """Whether the model was trained on the split; None if unknown."""
        return is_training_data(self.trained_share)

    @property
    def is_in_full(self) -> bool:
        """Whether the classes are few enough to show everything of each; see `describe_omissions`."""
        return len(self.classes) <= MAX_CLASSES_IN_FULL

    @property
    def shown_classes(self) -> tuple[str, ...]:
        """Classes that are shown one by one: all, in the model's order, or the weakest and the best, weakest first."""
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
        ValueError: the predictions do not match the dataset; see `model.evaluation.scans.scored_scans.join`.
    """
    return evaluate_scans(join_predictions(predictions, dataset, split), predictions, dataset, num_rounds)


def evaluate_scans(
    scans: ScoredScans,
    predictions: Predictions,
    dataset: Dataset,
    num_rounds: int,
    given_K: npt.NDArray[np.float64] | None = None,
) -> Evaluation:
    """Return every figure of scans that were joined from these predictions and this dataset; see `evaluate`.

    Thresholds that are `given` (logits, NEVER for a class without one) replace those of the report's own budget where
    misses and false alarms are counted.
    """
    any_score = any_item(scans.logits_NK, scans.labels_NK)
    ranks = [_rate_ranks(*scans.column(k)) for k in range(len(scans.classes))]
    any_rank = _rate_ranks(*any_score)
    bands = find_bands(scans)
    bags = bags_of(scans)
    plans = plan_alarms(scans, bags, has_intervals=num_rounds > 0)
    alarm_thresholds = choose_thresholds(given_K, plans, [rank.operation for rank in ranks])
    uncertainty = _find_intervals(scans, any_score, ranks, any_rank) if num_rounds else None
    classes = [
        ClassFigures(
            rank=rank,
            num_positive_unscored=int(np.sum(scans.labels_NK[:, k] == PRESENT)) - rank.ranking.num_positive,
            pointing=rate_pointing(scans, k),
            breakdowns=rate_breakdowns(
                scans, k, bands, float(alarm_thresholds.logits_K[k]), has_intervals=num_rounds > 0
            ),
            level_average_precision=_rate_levels(scans, k),
            intervals=uncertainty.classes[k] if uncertainty else None,
        )
        for k, rank in enumerate(ranks)
    ]
    return Evaluation(
        model_id=predictions.model_id,
        dataset_digest=dataset.manifest.digest,
        dataset=describe_dataset(dataset, scans.split, scans.has_groups),
        split=scans.split,
        trained_share=find_trained_share(predictions.run.get("trained_on"), dataset, scans.split),
        run=predictions.run,
        completeness=scans.completeness,
        fusion=scans.fusion,
        bags=count_bags(bags),
        classes=dict(zip(scans.classes, classes, strict=True)),
        mean=_average(classes),
        top_k_accuracy=rate_top_k(scans, with_intervals=bool(num_rounds)),
        any_item=ScoreFigures(rank=any_rank, intervals=uncertainty.any_item if uncertainty else None),
        alarm_thresholds=alarm_thresholds,
        mistakes=count_mistakes(scans, alarm_thresholds.logits_K, by_pair=len(scans.classes) <= MAX_CLASSES_IN_FULL),
        alarm_plans=plans,
        sweep=sweep([rank.ranking for rank in ranks], any_rank.ranking),
        bootstrap=_summarize(uncertainty, num_rounds) if uncertainty else None,
        detection=rate_detections(scans, predictions),
    )


def _find_intervals(
    scans: ScoredScans,
    any_score: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    ranks: Sequence[RankFigures],
    any_rank: RankFigures,
) -> Uncertainty:
    columns = [*(scans.column(k) for k in range(len(scans.classes))), any_score]
    *classes, any_rated = (
        Rated(
            scores_N=scores_N,
            labels_N=labels_N,
            ranking=rank.ranking,
            operation=rank.operation,
            average_precision=rank.average_precision["non_interpolated"],
            roc_auc=rank.roc_auc,
        )
        for (scores_N, labels_N), rank in zip(columns, [*ranks, any_rank], strict=True)
    )
    return find_intervals(scans, classes, any_rated)


def _rate_ranks(scores_N: npt.NDArray[Any], labels_N: npt.NDArray[Any]) -> RankFigures:
    ranking = metrics.rank(scores_N, labels_N)
    curve = metrics.trace_curve(ranking)
    known_N = labels_N != UNKNOWN
    return RankFigures(
        ranking=ranking,
        curve=curve,
        average_precision={name: figure(curve) for name, figure in metrics.AVERAGE_PRECISIONS.items()},
        roc_auc=metrics.roc_auc(ranking),
        figures={name: figure.compute(curve) for name, figure in CLASS_FIGURES.items()},
        operation=rate_operation(curve),
        calibration=rate_calibration(sigmoid(scores_N[known_N]), labels_N[known_N] == PRESENT),
    )


def _summarize(uncertainty: Uncertainty, num_rounds: int) -> BootstrapFigures:
    return BootstrapFigures(
        num_rounds=num_rounds,
        num_groups=uncertainty.num_groups,
        mean_average_precision=uncertainty.mean.average_precision,
        mean_roc_auc=uncertainty.mean.roc_auc,
        mean_pointing_accuracy=uncertainty.mean.pointing_accuracy,
    )


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
