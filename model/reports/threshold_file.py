"""Write and read thresholds.json: thresholds with the promises that were tested of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from model.evaluation.alarm_plans import bags_of
from model.evaluation.scans.scored_scans import ScoredScans
from model.metrics.bags import NEVER, apply_thresholds
from model.metrics.guarantees import FALSE_ALARMS, Guarantee
from model.metrics.operating_points import sigmoid
from model.metrics.uncertainty.intervals import MIN_UNITS, proportion_interval
from shards import storage
from shards.format.json_document import DamagedDocumentError, parse_document, parse_object, read_existing

FORMAT_VERSION = 1


def thresholds_document(
    guarantee: Guarantee, classes: Sequence[str], confidence: float, identity: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the document of thresholds.json; a class has null where nothing is promised of it.

    Args:
        guarantee: what was found.
        classes: of the predictions, in order.
        confidence: of all promises together.
        identity: model_id, dataset_digest and split of the scans, and their numbers.
    """
    found = zip(classes, guarantee.thresholds_K.tolist(), strict=True)
    return {
        "format": FORMAT_VERSION,
        **identity,
        "confidence": confidence,
        "rule": guarantee.rule,
        "thresholds": {
            name: None if at == NEVER else {"threshold": at, "score": float(sigmoid(np.float64(at)))}
            for name, at in found
        },
        "promises": [asdict(promise) for promise in guarantee.promises],
    }


def given_thresholds(given: Mapping[str, Any], classes: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return the thresholds (logits) of thresholds.json for classes; NEVER for a class without one."""
    points = [given["thresholds"].get(name) for name in classes]
    return np.array([NEVER if at is None else at["threshold"] for at in points], np.float64)


def rate_thresholds(
    scans: ScoredScans, given: Mapping[str, Any], dataset_digest: str, has_intervals: bool = True
) -> dict[str, Any]:
    """Return what thresholds.json does on scans: its origin, counts of bags as a budget of the report has them, and
    false alarms, misses and the promise of each class and of all together.
    """
    thresholds_K = given_thresholds(given, scans.classes)
    bags = bags_of(scans)
    plan = apply_thresholds(bags, thresholds_K)
    alarm_GK = np.asarray(bags.logits_GK >= thresholds_K)
    promises = {promise["subject"]: promise for promise in given["promises"]}
    rows = {
        name: _rate(alarm_GK[bags.is_clean_G, k], ~alarm_GK[bags.present_GK[:, k], k], has_intervals)
        for k, name in enumerate(scans.classes)
    }
    alarm_G = np.asarray(alarm_GK.any(axis=1))
    rated_any = _rate(alarm_G[bags.is_clean_G], ~alarm_G[bags.has_item_G], has_intervals)
    origin = {name: given[name] for name in ("dataset_digest", "split", "confidence", "rule", "promises")}
    is_same = (given["dataset_digest"], given["split"]) == (dataset_digest, scans.split)
    counts = ("num_clean", "num_false", "num_with_item", "num_caught", "recall", "false_alarms_per_1000")
    rated = {name: getattr(plan, name) for name in counts}
    return {
        "found_on_these_scans": is_same,
        "origin": origin,
        "thresholds": dict(given["thresholds"]),
        **rated,
        "classes": {name: row | {"promise": _verdict(promises.get(name), row, "misses")} for name, row in rows.items()},
        "any_item": rated_any | {"promise": _verdict(promises.get(FALSE_ALARMS), rated_any, "false_alarms")},
    }


def _rate(
    is_false_M: npt.NDArray[np.bool_], is_missed_P: npt.NDArray[np.bool_], has_intervals: bool
) -> dict[str, dict[str, Any]]:
    """Return shares of clean bags that alarm, and of bags with an item that do not."""
    rated = {}
    for name, is_wrong_G in (("false_alarms", is_false_M), ("misses", is_missed_P)):
        num, wrong = len(is_wrong_G), int(np.count_nonzero(is_wrong_G))
        interval = proportion_interval(wrong / num, num) if has_intervals and num >= MIN_UNITS else None
        rated[name] = {
            "num_bags": num,
            "num_wrong": wrong,
            "rate": wrong / num if num else None,
            "interval": asdict(interval) if interval else None,
        }
    return rated


def _verdict(
    promise: Mapping[str, Any] | None, row: Mapping[str, Mapping[str, Any]], subject: str
) -> dict[str, Any] | None:
    """Return limit and verdict of a promise: kept, above (its limit, but within the interval), broken; None if open."""
    if promise is None:
        return None
    rate, interval = row[subject]["rate"], row[subject]["interval"]
    verdict = None
    if promise["num_wrong"] is None:
        verdict = "not_promised"
    elif rate is not None:
        is_beyond = interval is not None and interval["low"] > promise["max_rate"]
        verdict = "kept" if rate <= promise["max_rate"] else "broken" if is_beyond else "above"
    return {"of": subject, "max_rate": promise["max_rate"], "num_needed": promise["num_needed"], "verdict": verdict}


def check_output(url: str, model_id: str) -> None:
    """Refuse to overwrite anything but a thresholds.json of the same model.

    Raises:
        ValueError: there is a file of another program, or another model's.
    """
    if not storage.exists(url):
        return
    try:
        found = parse_object(storage.read_bytes(url), "thresholds", url)
    except DamagedDocumentError:
        found = {}
    if not {"model_id", "thresholds", "promises"} <= found.keys():
        raise ValueError(
            f"output must be a new file or thresholds of `sixray calibrate`, got another program's ({url}); name "
            f"another file"
        )
    if found["model_id"] != model_id:
        raise ValueError(
            f"output must be a new file or thresholds of the model {model_id}, got those of {found['model_id']} "
            f"({url}); name another file, or remove that one"
        )


def write_thresholds(url: str, document: Mapping[str, Any]) -> None:
    """Write thresholds.json; equal documents give equal bytes."""
    storage.write_bytes(url, (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())


def read_thresholds(url: str, model_id: str) -> dict[str, Any]:
    """Return a thresholds.json of this model.

    Raises:
        ValueError: there is none, it is damaged or of another format, or it is another model's.
    """
    text = read_existing(url, f"thresholds must be a file, got none ({url}); `sixray calibrate` writes one")
    document = parse_document(text, FORMAT_VERSION, "thresholds", url)
    if document.get("model_id") != model_id:
        raise ValueError(
            f"thresholds must be of the model {model_id}, got those of {document.get('model_id')} ({url}); "
            f"calibrate these predictions first"
        )
    return document
