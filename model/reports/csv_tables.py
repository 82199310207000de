"""Write the figures of an evaluation as CSV tables: a row a class, breakdown or threshold."""

import csv
import functools
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as pa_csv

from model.evaluation.scan_table import ERROR_FIELDS

ANY_ITEM, MEAN = "any item", "mean"
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""Keys and class names come from the corpus: a file named `=cmd|…` must not run in whoever opens the table."""


def make_tables(document: Mapping[str, Any]) -> dict[str, str]:
    """Return every table of a metrics.json by file name; an undefined figure is an empty cell."""
    return {
        "classes.csv": _write(_class_rows(document)),
        "alarms.csv": _write(_alarm_rows(document)),
        "operating_points.csv": _write(_operating_rows(document)),
        "strata.csv": _write(_breakdown_rows(document)),
    }


def _class_rows(document: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    detection = document.get("detection") or {"classes": {}, "mean": {}}
    found = detection["classes"] | {MEAN: detection["mean"]}
    for name, of in [*_ranked(document), (MEAN, document["mean"])]:
        low, high = _bounds(of, "average_precision")
        pointing_low, pointing_high = _bounds(of, "pointing_accuracy")
        calibration = of.get("calibration", {})
        yield {
            "class": name,
            "num_positive": of.get("num_positive"),
            "num_negative": of.get("num_negative"),
            "num_unknown": of.get("num_unknown"),
            "prevalence": of["prevalence"],
            **{f"average_precision_{kind}": value for kind, value in of["average_precision"].items()},
            "average_precision_low": low,
            "average_precision_high": high,
            "roc_auc": of["roc_auc"],
            **of.get("figures", {}),
            "pointing_accuracy": of.get("pointing_accuracy"),
            "pointing_accuracy_low": pointing_low,
            "pointing_accuracy_high": pointing_high,
            "pointing_num_evaluable": of.get("pointing", {}).get("num_evaluable"),
            **{figure: found.get(name, {}).get(figure) for figure in ("ap50", "ap50_95")},
            "expected_calibration_error": calibration.get("expected_calibration_error"),
            "brier": calibration.get("brier"),
            "reference_brier": calibration.get("reference_brier"),
        }


def _bounds(figures: Mapping[str, Any], name: str) -> tuple[float | None, float | None]:
    interval = (figures["intervals"] or {}).get(name) or {}
    return interval.get("low"), interval.get("high")


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


def _breakdown_rows(document: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    for name, of in document["classes"].items():
        kinds = {kind: parts for kind, parts in of["strata"].items() if kind != "by_metadata"}
        kinds |= {f"metadata.{column}": parts for column, parts in of["strata"]["by_metadata"].items()}
        for kind, breakdowns in kinds.items():
            for breakdown in breakdowns:
                figures = {
                    field: value
                    for field, value in breakdown.items()
                    if field != "name" and not field.endswith("_interval")
                }
                low, high = _bounds({"intervals": breakdown}, "recall_interval")
                low_rate, high_rate = _bounds({"intervals": breakdown}, "false_alarms_interval")
                yield {
                    "class": name,
                    "kind": kind,
                    "stratum": breakdown["name"],
                    **figures,
                    "recall_low": low,
                    "recall_high": high,
                    "false_alarms_low": low_rate,
                    "false_alarms_high": high_rate,
                }


def _ranked(document: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [*document["classes"].items(), (ANY_ITEM, document["any_item"])]


def errors_table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return `errors.csv`: a row for each miss and each false alarm, of `model.evaluation.scan_table.list_errors`."""
    return _write(rows, ERROR_FIELDS)


def neutralise(cell: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula: text that begins like one gets an apostrophe in front."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_STARTS) else cell


def neutralise_strings(table: pa.Table) -> pa.Table:
    """Return a table whose cells of text are those of `neutralise`."""
    for at, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            cells = table.column(at)
            starts = [pc.starts_with(cells, start) for start in FORMULA_STARTS]
            safe = pc.if_else(functools.reduce(pc.or_, starts), pc.binary_join_element_wise("'", cells, ""), cells)
            table = table.set_column(at, field, safe)
    return table


def csv_bytes(table: pa.Table) -> bytes:
    """Return a table as CSV, its text neutralised."""
    out = io.BytesIO()
    pa_csv.write_csv(neutralise_strings(table), out)
    return out.getvalue()


def _write(rows: Iterable[Mapping[str, Any]], fields: Sequence[str] = ()) -> str:
    """Return a table; `fields` name the columns of one that may have no rows."""
    listed = [{name: neutralise(cell) for name, cell in row.items()} for row in rows]
    out = io.StringIO()
    if listed or fields:
        writer = csv.DictWriter(out, fields or list(listed[0]), restval="", lineterminator="\n")
        writer.writeheader()
        # csv writes None as an empty cell and a float with all its digits.
        writer.writerows(listed)
    return out.getvalue()
