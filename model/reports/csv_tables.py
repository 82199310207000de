"""Which tables can a spreadsheet read? The figures of an evaluation as CSV, one row a class, stratum or threshold."""

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

from model.evaluation.evaluate import Evaluation
from model.reports.metrics_json import metrics_document

ANY_ITEM, MEAN = "any item", "mean"


def make_tables(evaluation: Evaluation) -> dict[str, str]:
    """Return every table by file name; an undefined figure is an empty cell. Equal evaluations give equal texts."""
    document = metrics_document(evaluation)
    return {
        "classes.csv": _write(_class_rows(document)),
        "alarms.csv": _write(_alarm_rows(document)),
        "operating_points.csv": _write(_operating_rows(document)),
        "strata.csv": _write(_stratum_rows(document)),
    }


def _class_rows(document: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    for name, of in _ranked(document):
        low_high, pointed = _bounds(of, "average_precision"), _bounds(of, "pointing_accuracy")
        pointing = of.get("pointing", {})
        yield {
            "class": name,
            "num_positive": of["num_positive"],
            "num_negative": of["num_negative"],
            "num_unknown": of["num_unknown"],
            "prevalence": of["prevalence"],
            **{f"average_precision_{kind}": value for kind, value in of["average_precision"].items()},
            "average_precision_low": low_high[0],
            "average_precision_high": low_high[1],
            "roc_auc": of["roc_auc"],
            "pointing_accuracy": of.get("pointing_accuracy"),
            "pointing_accuracy_low": pointed[0],
            "pointing_accuracy_high": pointed[1],
            "pointing_num_evaluable": pointing.get("num_evaluable"),
            "expected_calibration_error": of["calibration"]["expected_calibration_error"],
            "brier": of["calibration"]["brier"],
        }
    mean = document["mean"]
    low_high, pointed = _bounds(mean, "average_precision"), _bounds(mean, "pointing_accuracy")
    yield {
        "class": MEAN,
        "prevalence": mean["prevalence"],
        **{f"average_precision_{kind}": value for kind, value in mean["average_precision"].items()},
        "average_precision_low": low_high[0],
        "average_precision_high": low_high[1],
        "roc_auc": mean["roc_auc"],
        "pointing_accuracy": mean["pointing_accuracy"],
        "pointing_accuracy_low": pointed[0],
        "pointing_accuracy_high": pointed[1],
    }


def _bounds(figures: Mapping[str, Any], name: str) -> tuple[float | None, float | None]:
    low, high = (figures["intervals"] or {}).get(name) or (None, None)
    return low, high


def _alarm_rows(document: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    for name, of in _ranked(document):
        points = [("false_alarms_per_1000", aim, point) for aim, point in of["at_false_alarms_per_1000"].items()]
        points += [("recall", aim, point) for aim, point in of["at_recall"].items()]
        points += [("best_f1", "", of["best_f1"])] if of["best_f1"] else []
        for kind, aim, point in points:
            yield {"class": name, "set_by": kind, "aim": aim, **point}


def _operating_rows(document: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    points = document["operating_points"]
    for name, counts in [*points["classes"].items(), (ANY_ITEM, points["any_item"])]:
        for t, threshold in enumerate(points["thresholds"]):
            yield {
                "class": name,
                "threshold": threshold,
                "score": points["scores"][t],
                "num_true": counts["num_true"][t],
                "num_false": counts["num_false"][t],
            }


def _stratum_rows(document: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    for name, of in document["classes"].items():
        for kind, strata in of["strata"].items():
            for stratum in strata:
                yield {"class": name, "kind": kind, "stratum": stratum["name"]} | {
                    field: value for field, value in stratum.items() if field != "name"
                }


def _ranked(document: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [*document["classes"].items(), (ANY_ITEM, document["any_item"])]


def _write(rows: Iterable[dict[str, Any]]) -> str:
    listed = list(rows)
    out = io.StringIO()
    if listed:
        writer = csv.DictWriter(out, list(listed[0]), restval="", lineterminator="\n")
        writer.writeheader()
        # csv writes None as an empty cell and a float with all its digits.
        writer.writerows(listed)
    return out.getvalue()
