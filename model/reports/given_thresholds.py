"""Describe what given thresholds do on the scans of a report: the rows of a table of the page."""

from collections.abc import Mapping
from typing import Any

from model.metrics.intervals import Interval
from model.reports.numbers import NO_BREAK, format_count

VERDICTS = {
    "kept": "holds",
    "above": "above the limit, by no more than chance allows",
    "broken": "broken",
    "not_promised": "nothing promised",
    None: "no bag to tell",
}
"""Whether a promise of given thresholds holds on the scans of a report."""


def list_given_thresholds(given: Mapping[str, Any], any_item: str) -> list[dict[str, Any]]:
    """Return the rows of the table of given thresholds: every class, then any item."""
    return [
        {
            "name": name,
            "point": given["thresholds"].get(name),
            "promise": _state_promise(of["promise"], given["origin"]["confidence"]),
            "verdict": VERDICTS[of["promise"]["verdict"]] if of["promise"] else "–",
            **{
                side: {**of[side], "interval": _per_1000_or_share(of[side]["interval"], side)}
                for side in ("false_alarms", "misses")
            },
        }
        for name, of in [*given["classes"].items(), (any_item, given["any_item"])]
    ]


def _per_1000_or_share(interval: Mapping[str, float] | None, side: str) -> Interval | None:
    factor = 1000 if side == "false_alarms" else 1
    return Interval(factor * interval["low"], factor * interval["high"]) if interval else None


def _state_promise(promise: Mapping[str, Any] | None, confidence: float) -> str:
    """Return limit and confidence of a promise of thresholds.json; a dash for none."""
    if promise is None:
        return "–"
    if promise["of"] == "false_alarms":
        limit = f"at most {1000 * promise['max_rate']:g} false alarms per 1,000"
    else:
        limit = f"at most {100 * promise['max_rate']:g}{NO_BREAK}% missed"
    if promise["verdict"] == "not_promised":
        return f"none: {limit} takes {format_count(promise['num_needed'])} bags or more"
    return f"{limit}, confidence {confidence:g}"
