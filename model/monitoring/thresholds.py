"""Choose the thresholds of alarms that are watched, and calibrate the scores at them by a report."""

# G bags  K classes

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from model.monitoring.label_free import calibrate, read_labelled
from model.monitoring.observations import Observations
from model.reports import threshold_file
from model.reports.metrics_json import read_metrics
from shards import storage
from shards.format.parquet import read_parquet

REFERENCE_ALARMS_PER_1000 = 10
"""Alarms in the reference at the threshold that is taken if none is given."""


def choose_thresholds(
    reference: Observations, classes: Sequence[str], model_id: str, thresholds: str | None, report: str | None
) -> tuple[npt.NDArray[np.float64], str]:
    """Return the logits of alarms (K,), infinity for a class that never alarms, and in words where they are from.

    Args:
        reference: that one threshold for all classes comes from if nothing is given.
        classes: of the predictions.
        model_id: whose thresholds they must be.
        thresholds: file of `sixray calibrate`.
        report: REPORT_DIR; its headline has thresholds.
    """
    points: Mapping[str, Any] | None = None
    source = ""
    if thresholds is not None:
        points = threshold_file.read_thresholds(thresholds, model_id)["thresholds"]
        source = "thresholds of calibrate"
    elif report is not None and (headline := _read_report(report, model_id).get("headline")):
        points = headline["thresholds"]
        source = f"the report's, for {headline['at_false_alarms_per_1000']} false alarms per 1,000"
    if points is not None:
        found = [points.get(name) for name in classes]
        return np.array([np.inf if at is None else at["threshold"] for at in found], np.float64), source
    highest_G = np.sort(np.fmax.reduce(reference.logits_GK, axis=1))
    highest_G = highest_G[~np.isnan(highest_G)]
    if not len(highest_G):
        raise ValueError("reference must have scores, got none of any class")
    num_alarms = max(len(highest_G) * REFERENCE_ALARMS_PER_1000 // 1000, 1)
    source = f"one score that {REFERENCE_ALARMS_PER_1000} in 1,000 bags of the reference reach"
    return np.full(len(classes), highest_G[-num_alarms]), source


def calibrate_by_report(
    report: str, model_id: str, classes: Sequence[str], thresholds_K: npt.NDArray[np.float64]
) -> dict[str, Any]:
    """Return `label_free.calibrate` of the scans of a report.

    Raises:
        ValueError: the report is of another model, or of the model's training data.
    """
    if _read_report(report, model_id).get("is_training_data"):
        raise ValueError(
            f"report must be of scans that the model was not trained on, got its training data ({report}): their "
            f"scores are too good to estimate anything by"
        )
    scans = read_parquet(storage.join_url(report, "scans.parquet"), ["key", "group", "label", "score"])
    return calibrate(read_labelled(scans, classes), classes, thresholds_K)


def _read_report(report: str, model_id: str) -> dict[str, Any]:
    metrics = read_metrics(report)
    if metrics.get("model_id") != model_id:
        raise ValueError(f"report must be of the model {model_id}, got one of {metrics.get('model_id')} ({report})")
    return metrics
