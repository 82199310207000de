"""Read the history of a split: earlier reports and this one, by the time of their scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model.metrics.uncertainty.intervals import Interval
from model.reports.metrics_json import parse_interval, read_metrics

CAUGHT_RATE = "10"
"""False alarms per 1,000 bags at which the recall is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One report."""

    model_id: str
    scored_at: str | None
    """ISO 8601, UTC; None if `run.json` of the scores does not say."""
    average_precision: dict[str, float | None]
    """By class."""
    mean: float | None
    interval: Interval | None
    """Of the mean."""
    caught: float | None
    """Recall of the alarm for any item at CAUGHT_RATE false alarms per 1,000 bags."""


def read_history(report_urls: Sequence[str], current: Mapping[str, Any]) -> tuple[Entry, ...]:
    """Return an entry for each report and one for the current one, oldest scores first; none if no report is named.

    If a report does not say when it was scored, the order is that of `report_urls`, the current one last.

    Args:
        report_urls: folders with a metrics.json.
        current: metrics.json of the report that is being made.

    Raises:
        ValueError: a report is absent, damaged, or of another dataset or split.
    """
    if not report_urls:
        return ()
    entries = tuple(_make_entry(document) for document in [*(_read(url, current) for url in report_urls), current])
    times = [entry.scored_at for entry in entries]
    return entries if None in times else tuple(sorted(entries, key=lambda entry: entry.scored_at or ""))


def _read(report_url: str, current: Mapping[str, Any]) -> Mapping[str, Any]:
    document = read_metrics(report_url)
    for field in ("dataset_digest", "split"):
        expected, found = current[field], document.get(field)
        if found != expected:
            raise ValueError(f"{field} of an earlier report must be {expected!r}, got {found!r} ({report_url})")
    return document


def _make_entry(document: Mapping[str, Any]) -> Entry:
    mean = document["mean"]
    # Another program may have written it, with the required fields only.
    interval = (mean.get("intervals") or {}).get("average_precision")
    caught = document.get("any_item", {}).get("at_false_alarms_per_1000", {}).get(CAUGHT_RATE)
    return Entry(
        model_id=str(document["model_id"]),
        scored_at=document.get("scored_at"),
        average_precision={
            name: figures["average_precision"]["non_interpolated"] for name, figures in document["classes"].items()
        },
        mean=mean["average_precision"]["non_interpolated"],
        interval=parse_interval(interval),
        caught=caught["recall"] if caught else None,
    )
