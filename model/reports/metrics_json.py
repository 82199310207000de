"""Write an evaluation as metrics.json, and read it; null where a figure is undefined."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

import numpy as np

from model.evaluation.alarm_plans import ALARM_RATE, AlarmPlans
from model.evaluation.breakdowns import ClassBreakdowns
from model.evaluation.comparison import SIDES_RATE, ClassComparison, Comparison, Difference
from model.evaluation.evaluate import ClassFigures, Evaluation, RankFigures
from model.evaluation.pointing import TOLERANCES_PX
from model.evaluation.subsets import SubsetFigures
from model.evaluation.top_k import TopKAccuracy
from model.evaluation.uncertainty import RankIntervals
from model.metrics.bags import NEVER, AlarmPlan
from model.metrics.calibration import CalibrationFigures
from model.metrics.operating_points import AlarmCounts, OperatingPoint, sigmoid
from model.metrics.uncertainty.intervals import LEVEL, Interval
from model.reports.text.caveats import describe_omissions
from shards import storage
from shards.format.json_document import check_format, parse_object, read_existing
from shards.predictions.run import scored_at

FORMAT_VERSION = 2
READ_VERSIONS = (1, 2)
"""Format 1 had an interval as a list of two numbers; `parse_interval` reads both. It lacks
`dataset` and the intervals and false alarms of breakdowns."""
METRICS_NAME = "metrics.json"


def metrics_json(document: Mapping[str, Any], files: Iterable[str] = ()) -> bytes:
    """Return the text of metrics.json; equal arguments give equal bytes.

    Args:
        document: of `metrics_document`.
        files: names of the report's other files.
    """
    return (json.dumps({**document, "files": sorted(files)}, indent=1, allow_nan=False) + "\n").encode()


def metrics_document(
    evaluation: Evaluation,
    comparisons: Sequence[Comparison] = (),
    subsets: Mapping[str, SubsetFigures] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return the document of metrics.json, without the names of the report's files."""
    completeness = evaluation.completeness
    return {
        "format": FORMAT_VERSION,
        "model_id": evaluation.model_id,
        "dataset_digest": evaluation.dataset_digest,
        "dataset": asdict(evaluation.dataset),
        "split": evaluation.split,
        **_select(evaluation, "is_training_data", "trained_share"),
        "scored_at": scored_at(evaluation.run),
        **_select(completeness, "num_samples", "num_scans", "num_missing", "num_quarantined", "quarantined_by_reason"),
        "bags": asdict(evaluation.bags),
        **({"by": "group", "fusion": evaluation.fusion} if evaluation.fusion else {}),
        "coverage": {
            **_select(completeness, "num_listed", "num_refused", "num_copies", "num_crossing", "num_cut_bags"),
            "missing_keys": list(completeness.missing_keys),
            "crossing_keys": list(completeness.crossing_keys),
        },
        "classes": {name: _class_document(figures) for name, figures in evaluation.classes.items()},
        "mean": _mean_document(evaluation),
        "single_label": None if evaluation.top_k_accuracy is None else _top_k_document(evaluation.top_k_accuracy),
        "any_item": _rank_document(evaluation.any_item.rank, evaluation.any_item.intervals),
        "bootstrap": _select(evaluation.bootstrap, "num_rounds", "num_groups") | {"level": LEVEL}
        if evaluation.bootstrap
        else None,
        "mistakes": {
            "rule": evaluation.alarm_thresholds.rule,
            "at_false_alarms_per_1000": None if evaluation.alarm_thresholds.rule == "given" else ALARM_RATE,
            "num_missed": evaluation.mistakes.num_missed_K.tolist(),
            "num_missed_with_false_alarm": evaluation.mistakes.num_confused_KK.tolist(),
        },
        "subsets": {name: _subset_document(subset) for name, subset in subsets.items()},
        "comparisons": [_comparison(comparison) for comparison in comparisons],
        "operating_points": operating_points_document(evaluation),
        "alarms": {str(rate): _plans_document(plans, evaluation) for rate, plans in evaluation.alarm_plans.items()},
        "headline": _headline(evaluation),
        "files": [],
        **({"detection": evaluation.detection.to_json()} if evaluation.detection else {}),
        **({} if evaluation.is_in_full else {"left_out": describe_omissions(evaluation)}),
    }


def _headline(evaluation: Evaluation) -> dict[str, Any] | None:
    """Return what the report says first: what is caught with a budget of ALARM_RATE, over all classes together."""
    if (plans := evaluation.alarm_plans.get(ALARM_RATE)) is None:
        return None
    return {
        "at_false_alarms_per_1000": ALARM_RATE,
        **_plan(plans.joint, evaluation),
        "recall_interval": _interval(plans.joint_interval),
    }


def _plans_document(plans: AlarmPlans, evaluation: Evaluation) -> dict[str, Any]:
    return {rule: _plan(getattr(plans, rule), evaluation) for rule in ("joint", "any_item", "per_class")}


def _plan(plan: AlarmPlan, evaluation: Evaluation) -> dict[str, Any]:
    thresholds = zip(evaluation.classes, plan.thresholds_K.tolist(), strict=True)
    return {
        "thresholds": {
            name: None if at == NEVER else {"threshold": at, "score": float(sigmoid(np.float64(at)))}
            for name, at in thresholds
        },
        **_select(plan, "num_clean", "num_false", "num_with_item", "num_caught", "recall", "false_alarms_per_1000"),
    }


def read_metrics(report_url: str) -> dict[str, Any]:
    """Return the metrics.json of a report; ValueError if there is none or it has another format."""
    url = storage.join_url(report_url, METRICS_NAME)
    text = read_existing(
        url, f"report must have a {METRICS_NAME}, got none ({report_url}); `sixray evaluate` writes one"
    )
    document = parse_object(text, METRICS_NAME, url)
    if document.get("format") not in READ_VERSIONS:
        check_format(document, FORMAT_VERSION, METRICS_NAME, url)
    return document


def parse_interval(value: Mapping[str, float] | Sequence[float] | None) -> Interval | None:
    """Return an interval of a metrics.json of any format."""
    if value is None:
        return None
    low, high = (value["low"], value["high"]) if isinstance(value, Mapping) else value
    return Interval(low, high)


def operating_points_document(evaluation: Evaluation) -> dict[str, Any]:
    """Return the true and false alarms at common thresholds, lowest first; of many classes only those for any item."""
    swept = evaluation.sweep
    counts = zip(evaluation.classes, swept.classes, strict=True) if evaluation.is_in_full else ()
    return {
        "thresholds": swept.thresholds_T.tolist(),
        "scores": sigmoid(swept.thresholds_T).tolist(),
        "classes": {name: _counts(of) for name, of in counts},
        "any_item": _counts(swept.any_item),
    }


def _counts(counts: AlarmCounts) -> dict[str, Any]:
    return {"num_true": counts.num_true_T.tolist(), "num_false": counts.num_false_T.tolist()}


def _mean_document(evaluation: Evaluation) -> dict[str, Any]:
    mean, resampled = evaluation.mean, evaluation.bootstrap
    return {
        **_select(mean, "roc_auc", "pointing_accuracy", "prevalence", "average_precision"),
        "intervals": {
            "average_precision": _interval(resampled.mean_average_precision),
            "roc_auc": _interval(resampled.mean_roc_auc),
            "pointing_accuracy": _interval(resampled.mean_pointing_accuracy),
        }
        if resampled
        else None,
    }


def _top_k_document(accuracies: Mapping[int, TopKAccuracy]) -> dict[str, Any]:
    named = {f"top{number}_accuracy": of for number, of in accuracies.items()}
    intervals = {name: _interval(of.interval) for name, of in named.items()}
    return {name: of.value for name, of in named.items()} | {
        "intervals": intervals if any(intervals.values()) else None
    }


def _subset_document(subset: SubsetFigures) -> dict[str, Any]:
    return {
        "num_listed": subset.num_listed,
        "num_not_rated": subset.num_not_rated,
        "num_scans": subset.num_listed - subset.num_not_rated,
        "classes": {name: _class_document(figures) for name, figures in subset.evaluation.classes.items()},
        "mean": _mean_document(subset.evaluation),
        "any_item": _rank_document(subset.evaluation.any_item.rank, None),
    }


def _class_document(figures: ClassFigures) -> dict[str, Any]:
    pointing = figures.pointing
    return _rank_document(figures.rank, figures.intervals) | {
        "num_positive_unscored": figures.num_positive_unscored,
        "pointing_accuracy": pointing.accuracy,
        "pointing": {
            **_select(pointing, "num_evaluable", "num_hits"),
            "accuracy_within_px": {str(px): pointing.accuracy_within(px) for px in TOLERANCES_PX},
            **_select(pointing, "random_point", "largest_box"),
        },
        "average_precision_by_level": list(figures.level_average_precision),
        "strata": _breakdowns(figures.breakdowns),
    }


def _breakdowns(breakdowns: ClassBreakdowns) -> dict[str, Any]:
    document = asdict(breakdowns)
    by_metadata = {column: list(parts) for column, parts in document.pop("by_metadata").items()}
    return {kind: list(parts) for kind, parts in document.items()} | {"by_metadata": by_metadata}


def _rank_document(rank: RankFigures, intervals: RankIntervals | None) -> dict[str, Any]:
    operation = rank.operation
    return {
        **_select(rank.ranking, "num_positive", "num_negative", "num_unknown", "prevalence"),
        **_select(rank, "roc_auc", "average_precision", "figures"),
        "at_false_alarms_per_1000": {str(rate): _point(point) for rate, point in operation.at_false_alarms.items()},
        "at_recall": {str(recall): _point(point) for recall, point in operation.at_recall.items()},
        "best_f1": _point(operation.best_f1) if operation.best_f1 else None,
        "calibration": _calibration(rank.calibration),
        "intervals": _intervals(intervals) if intervals else None,
    }


def _point(point: OperatingPoint) -> dict[str, Any]:
    counts = ("threshold", "score", "num_true", "num_false")
    return _select(point, *counts, "recall", "precision", "false_alarms_per_1000", "f1")


def _select(value: object, *fields: str) -> dict[str, Any]:
    return {field: getattr(value, field) for field in fields}


def _calibration(figures: CalibrationFigures) -> dict[str, Any]:
    return {
        "expected_calibration_error": figures.expected_error,
        "brier": figures.brier,
        "reference_brier": figures.reference_brier,
        "bins": {
            "num_scans": figures.num_scans_B.tolist(),
            "mean_score": _null_if_nan(figures.mean_score_B.tolist()),
            "positive_share": _null_if_nan(figures.positive_share_B.tolist()),
        },
    }


def _intervals(intervals: RankIntervals) -> dict[str, Any]:
    return {
        "average_precision": _interval(intervals.average_precision),
        "roc_auc": _interval(intervals.roc_auc),
        "recall_at_false_alarms_per_1000": _intervals_by(intervals.recall_at_false_alarms),
        "false_alarms_per_1000_at_false_alarms_per_1000": _intervals_by(intervals.false_alarms_at_false_alarms),
        "false_alarms_per_1000_at_recall": _intervals_by(intervals.false_alarms_at_recall),
        "brier": _interval(intervals.brier),
        "pointing_accuracy": _interval(intervals.pointing_accuracy),
        "num_positive_groups": intervals.num_positive_groups,
    }


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return {
        "baseline_model_id": comparison.baseline_id,
        **_select(comparison, "num_scans", "num_only_new", "num_only_baseline", "decide_by"),
        "left_out_classes": list(comparison.left_out_classes),
        "verdict": comparison.deciding.verdict,
        "mean_average_precision": _difference(comparison.mean_average_precision),
        "classes": {name: _class_comparison(of) for name, of in comparison.classes.items()},
        "any_item": _class_comparison(comparison.any_item),
    }


def _class_comparison(compared: ClassComparison) -> dict[str, Any]:
    return {
        "average_precision": _difference(compared.average_precision),
        "roc_auc": _difference(compared.roc_auc),
        f"recall_at_{SIDES_RATE}_false_alarms_per_1000": _difference(compared.recall),
        "changed_sides": asdict(compared.sides) if compared.sides else None,
    }


def _difference(difference: Difference) -> dict[str, Any]:
    return {
        **_select(difference, "new", "baseline", "p_value", "verdict"),
        "difference": difference.value,
        "interval": _interval(difference.interval),
    }


def _intervals_by(found: Mapping[Any, Interval | None]) -> dict[str, dict[str, float] | None]:
    return {str(at): _interval(interval) for at, interval in found.items()}


def _interval(interval: Interval | None) -> dict[str, float] | None:
    return None if interval is None else {"low": interval.low, "high": interval.high}


def _null_if_nan(values: Iterable[float]) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values]
