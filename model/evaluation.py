"""How good are the predictions? Every figure of a report, as one nested value and as the text of metrics.json."""

# N scans  K classes

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from model import metrics
from model.metrics import PRESENT, Curve, Ranking
from model.pointing import points_hit
from model.scored_scans import Coverage, ScoredScans, join
from shards.dataset import Dataset
from shards.predictions import Predictions

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PointingFigures:
    """How often the heatmap's highest pixel lies in a box of the class."""

    num_evaluable: int
    """Scans that hold the class and have at least one box of it."""
    num_hits: int

    @property
    def accuracy(self) -> float | None:
        """#hits / (#hits + #misses); None where no scan can be judged."""
        return self.num_hits / self.num_evaluable if self.num_evaluable else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFigures:
    """How good the predictions of one class are."""

    ranking: Ranking
    curve: Curve
    average_precision: dict[str, float | None]
    """By the names of `metrics.AVERAGE_PRECISIONS`."""
    roc_auc: float | None
    pointing: PointingFigures


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanFigures:
    """Means over the classes for which a figure is defined: a class without positives has none."""

    average_precision: dict[str, float | None]
    roc_auc: float | None
    pointing_accuracy: float | None
    prevalence: float | None
    """What a random ranking would reach as its mean average precision: the mean over classes with positives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """How good one model's predictions of one split of one dataset are."""

    model_id: str
    dataset_digest: str
    split: str
    run: dict[str, Any]
    """`run.json` of the predictions: versions, decoder, timings."""
    coverage: Coverage
    classes: dict[str, ClassFigures]
    mean: MeanFigures


def evaluate(predictions: Predictions, dataset: Dataset, split: str) -> Evaluation:
    """Return every figure of a split.

    Raises:
        ValueError: the predictions do not match the dataset; see `model.scored_scans.join`.
    """
    scans = join(predictions, dataset, split)
    classes = {name: _rate_class(scans, k) for k, name in enumerate(scans.classes)}
    return Evaluation(
        model_id=predictions.model_id,
        dataset_digest=dataset.manifest.digest,
        split=split,
        run=predictions.run,
        coverage=scans.coverage,
        classes=classes,
        mean=_average(list(classes.values())),
    )


def metrics_document(evaluation: Evaluation) -> dict[str, Any]:
    """Return what metrics.json holds: plain numbers, None where a value is undefined."""
    coverage = evaluation.coverage
    return {
        "format": FORMAT_VERSION,
        "model_id": evaluation.model_id,
        "dataset_digest": evaluation.dataset_digest,
        "split": evaluation.split,
        "num_samples": coverage.num_samples,
        "num_scans": coverage.num_scans,
        "num_missing": coverage.num_missing,
        "num_quarantined": coverage.num_quarantined,
        "quarantined_by_reason": coverage.quarantined_by_reason,
        "classes": {name: _class_document(figures) for name, figures in evaluation.classes.items()},
        "mean": {
            "roc_auc": evaluation.mean.roc_auc,
            "pointing_accuracy": evaluation.mean.pointing_accuracy,
            "prevalence": evaluation.mean.prevalence,
            "average_precision": evaluation.mean.average_precision,
        },
    }


def metrics_json(evaluation: Evaluation) -> bytes:
    """Return the text of metrics.json: equal evaluations give equal bytes."""
    return (json.dumps(metrics_document(evaluation), indent=1, allow_nan=False) + "\n").encode()


def _rate_class(scans: ScoredScans, k: int) -> ClassFigures:
    ranking = metrics.rank(scans.logits_NK[:, k], scans.labels_NK[:, k])
    curve = metrics.trace_curve(ranking)
    return ClassFigures(
        ranking=ranking,
        curve=curve,
        average_precision={name: figure(curve) for name, figure in metrics.AVERAGE_PRECISIONS.items()},
        roc_auc=metrics.roc_auc(ranking),
        pointing=_rate_pointing(scans, k),
    )


def _rate_pointing(scans: ScoredScans, k: int) -> PointingFigures:
    present_N = scans.labels_NK[:, k] == PRESENT
    of_class_B = (scans.box_class_B == k) & present_N[scans.box_scan_B]
    hits_N = points_hit(scans.peaks_NK2[:, k], scans.box_scan_B[of_class_B], scans.box_edges_B4[of_class_B])
    num_evaluable = len(np.unique(scans.box_scan_B[of_class_B]))
    return PointingFigures(num_evaluable=num_evaluable, num_hits=int(hits_N.sum()))


def _average(classes: list[ClassFigures]) -> MeanFigures:
    with_positives = [figures for figures in classes if figures.ranking.num_positive]
    return MeanFigures(
        average_precision={
            name: metrics.mean_of_defined([figures.average_precision[name] for figures in with_positives])
            for name in metrics.AVERAGE_PRECISIONS
        },
        roc_auc=metrics.mean_of_defined([figures.roc_auc for figures in with_positives]),
        pointing_accuracy=metrics.mean_of_defined([figures.pointing.accuracy for figures in with_positives]),
        prevalence=metrics.mean_of_defined([figures.ranking.prevalence for figures in with_positives]),
    )


def _class_document(figures: ClassFigures) -> dict[str, Any]:
    return {
        "num_positive": figures.ranking.num_positive,
        "num_unknown": figures.ranking.num_unknown,
        "prevalence": figures.ranking.prevalence,
        "roc_auc": figures.roc_auc,
        "pointing_accuracy": figures.pointing.accuracy,
        "pointing": {"num_evaluable": figures.pointing.num_evaluable, "num_hits": figures.pointing.num_hits},
        "average_precision": figures.average_precision,
    }
