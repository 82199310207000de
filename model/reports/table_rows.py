"""Prepare the rows of tables of the page: rules for alarms, given thresholds, breakdowns, facts of the scoring."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from model.evaluation.alarm_plans import ALARM_RATE
from model.evaluation.breakdowns import Breakdown
from model.evaluation.evaluate import Evaluation
from model.metrics.bags import NEVER
from model.metrics.operating_points import sigmoid
from model.metrics.uncertainty.intervals import Interval
from model.reports.text.numbers import NO_BREAK, format_count

BREAKDOWN_TITLES = {
    "by_box_size": "By size of the item, as a share of the image",
    "by_num_items": "By number of labelled items in the scan",
    "by_image_size": "By size of the image",
    "by_clutter": "By clutter: entropy of the grey values",
}
VERDICTS = {
    "kept": "holds",
    "above": "above the limit, by no more than chance allows",
    "broken": "broken",
    "not_promised": "nothing promised",
    None: "no bag to tell",
}
"""Whether a promise of given thresholds holds on the scans of a report."""


RULES = {
    "joint": "A threshold a class, found together",
    "any_item": "One threshold for all classes",
    "per_class": "Each class has the budget for itself",
}


def list_rules(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return the rows of the table of rules at ALARM_RATE; none if no bag is clean."""
    if (plans := evaluation.alarm_plans.get(ALARM_RATE)) is None:
        return []
    return [
        {
            "title": title,
            "plan": (plan := getattr(plans, rule)),
            "interval": plans.joint_interval if rule == "joint" else None,
            "scores": [None if at == NEVER else float(sigmoid(np.float64(at))) for at in plan.thresholds_K],
        }
        for rule, title in RULES.items()
    ]


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


def list_breakdowns(evaluation: Evaluation) -> list[tuple[str, dict[str, tuple[Breakdown, ...]]]]:
    """Return title and parts, by class, of every table of breakdowns."""
    found = {name: of.breakdowns for name, of in evaluation.classes.items()}
    columns = next(iter(found.values())).by_metadata
    tables = [
        *((title, {name: getattr(of, kind) for name, of in found.items()}) for kind, title in BREAKDOWN_TITLES.items()),
        *((f"By {column}", {name: of.by_metadata[column] for name, of in found.items()}) for column in columns),
    ]
    return [(title, parts) for title, parts in tables if any(parts.values())]


def list_run_facts(run: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the facts of run.json about the scoring as (name, value); nested values get dotted names."""
    shown_elsewhere = {
        "format",
        "parts",
        "classes",
        "model_id",
        "dataset_digest",
        "datasets",
        "counts",
        "split",
        "splits",
        "sha256",  # of every part: hundreds of rows
    }
    if run.get("longest_run") == run.get("timings"):
        shown_elsewhere.add("longest_run")
    if len(run.get("engines", ())) == 1:
        shown_elsewhere.add("engines")  # the fields of the run name it
    facts = [fact for name, value in run.items() if name not in shown_elsewhere for fact in _flatten(name, value)]
    # A thousand checksums, a root for each part, and counts that the section on completeness has.
    left_out = ("trained_on.checksums", "attestation.shards.", "timings.counters.")
    return [(name, value) for name, value in facts if not name.startswith(left_out)]


def _flatten(name: str, value: object) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [fact for key, inner in value.items() for fact in _flatten(f"{name}.{key}", inner)]
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return [fact for number, item in enumerate(value, 1) for fact in _flatten(f"{name}.{number}", item)]
    if isinstance(value, list):
        return [(name, ", ".join(str(item) for item in value))]
    return [(name, "–" if value is None else str(value))]


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
