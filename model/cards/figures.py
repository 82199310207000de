"""Write the figures of a metrics.json, with their intervals, as Markdown and as the hub's model index."""

from collections.abc import Iterator, Mapping
from typing import Any

from model.metrics.uncertainty.intervals import MIN_UNITS
from model.reports.metrics_json import parse_interval
from model.reports.text.numbers import (
    format_interval,
    format_number,
    format_percent,
    format_percent_interval,
    format_rate,
    format_ratio,
)
from shards.cards.card_file import format_table

RATE = "10"
"""False alarms per 1,000 bags at which cards give the recall."""
Metrics = Mapping[str, Any]


def state_rating(metrics: Metrics) -> str:
    """Return what was rated, and what is caught at the budget."""
    counts = f"{metrics['num_scans']:,} scans of split `{metrics['split']}`, dataset `{metrics['dataset_digest'][:12]}`"
    generated = {True: ", generated", False: ", real", None: ""}[(metrics.get("dataset") or {}).get("is_generated")]
    text = f"Rated on {counts}{generated}."
    headline = metrics.get("headline")
    if headline is None or headline["recall"] is None:
        return text
    interval = parse_interval(headline["recall_interval"])
    note = f" (95 % interval {format_percent_interval(interval)})" if interval else ""
    return (
        f"{text} At {headline['at_false_alarms_per_1000']} false alarms per 1,000 clean bags it catches "
        f"{format_percent(headline['recall'])}{note} of the bags with an item: {headline['num_caught']:,} of "
        f"{headline['num_with_item']:,}; {headline['num_false']:,} of {headline['num_clean']:,} clean bags alarm."
    )


def figures_table(metrics: Metrics) -> str:
    """Return a row a class and the mean: average precision, ROC AUC, recall and pointing, each with its interval."""
    rows = [_row(name, of) for name, of in metrics["classes"].items()]
    mean = metrics["mean"]
    rows.append(
        [
            "mean",
            "",
            _ratio(mean["average_precision"]["non_interpolated"], mean, "average_precision"),
            _ratio(mean["roc_auc"], mean, "roc_auc"),
            "",
            _percent(mean["pointing_accuracy"], mean, "pointing_accuracy"),
        ]
    )
    recall = f"recall at {RATE} per 1,000"
    header = ["class", "positives", "average precision", "ROC AUC", recall, "pointing"]
    return format_table(header, rows) + "\n\nIn brackets: 95 % intervals, a bag as one observation."


def list_limits(metrics: Metrics) -> Iterator[str]:
    """Yield what to know before trusting the figures."""
    if metrics.get("is_training_data"):
        yield "The model was trained on these scans: the figures say nothing of new ones."
    if metrics["num_missing"] or metrics["num_quarantined"]:
        yield (
            f"{metrics['num_missing']:,} scans have no prediction and {metrics['num_quarantined']:,} could not be "
            f"scored: the figures leave them out."
        )
    if crossing := metrics.get("coverage", {}).get("num_crossing"):
        yield f"{crossing:,} scans are in another split too: if the model was trained on that, figures are too high."
    few = [name for name, of in metrics["classes"].items() if of["num_positive"] < MIN_UNITS]
    if few:
        yield f"Too few scans to rate {', '.join(few)}."
    below = [name for name, of in metrics["classes"].items() if of["roc_auc"] is not None and of["roc_auc"] < 0.5]
    if below:
        yield f"Worse than chance on these scans: {', '.join(below)}."
    yield "Thresholds were found on the scans that they are rated on: on others, expect more false alarms or misses."


def model_index(model_id: str, metrics: Metrics) -> list[dict[str, Any]]:
    """Return `model-index` of the hub's front matter."""
    mean = metrics["mean"]
    values = {
        "mean average precision": mean["average_precision"]["non_interpolated"],
        "mean ROC AUC": mean["roc_auc"],
        "pointing accuracy": mean["pointing_accuracy"],
        **{
            f"average precision, {name}": of["average_precision"]["non_interpolated"]
            for name, of in metrics["classes"].items()
        },
    }
    name = (metrics.get("dataset") or {}).get("name") or metrics["dataset_digest"][:12]
    result = {
        "task": {"type": "image-classification"},
        "dataset": {"name": name, "type": name, "split": metrics["split"], "revision": metrics["dataset_digest"]},
        "metrics": [
            {"type": what.split(",")[0].replace(" ", "_"), "name": what, "value": value}
            for what, value in values.items()
            if value is not None
        ],
    }
    return [{"name": model_id, "results": [result]}]


def _row(name: str, of: Metrics) -> list[str]:
    point = of["at_false_alarms_per_1000"].get(RATE) or {}
    recalls = (of["intervals"] or {}).get("recall_at_false_alarms_per_1000") or {}
    recall = format_percent(point.get("recall"))
    interval = parse_interval(recalls.get(RATE))
    return [
        name,
        f"{of['num_positive']:,}",
        _ratio(of["average_precision"]["non_interpolated"], of, "average_precision"),
        _ratio(of["roc_auc"], of, "roc_auc"),
        f"{recall} [{format_percent_interval(interval)}]" if interval else recall,
        _percent(of["pointing_accuracy"], of, "pointing_accuracy"),
    ]


def _ratio(value: float | None, of: Metrics, name: str) -> str:
    interval = parse_interval((of["intervals"] or {}).get(name))
    return f"{format_ratio(value)} [{format_interval(interval)}]" if interval else format_ratio(value)


def _percent(value: float | None, of: Metrics, name: str) -> str:
    interval = parse_interval((of["intervals"] or {}).get(name))
    return f"{format_percent(value)} [{format_percent_interval(interval)}]" if interval else format_percent(value)


def thresholds_table(metrics: Metrics) -> str | None:
    """Return the thresholds of each budget of false alarms, all classes together; None for a report without."""
    if not metrics.get("alarms"):
        return None
    rows = []
    for rate, plans in metrics["alarms"].items():
        plan = plans["joint"]
        scores = [at["score"] if at else None for at in plan["thresholds"].values()]
        shown = ["never" if score is None else format_number(score) for score in scores]
        caught = format_percent(plan["recall"])
        rows.append([rate, format_rate(plan["false_alarms_per_1000"]), caught, *shown])
    header = ["budget per 1,000", "false alarms per 1,000", "caught", *metrics["classes"]]
    return format_table(header, rows)
