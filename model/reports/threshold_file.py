"""Write and read thresholds.json: thresholds with the promises that were tested of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from model.evaluation.alarm_plans import bags_of
from model.evaluation.scored_scans import ScoredScans
from model.metrics.guarantees import Guarantee
from model.metrics.joint_thresholds import NEVER, apply_thresholds
from model.metrics.operating_points import sigmoid
from shards import storage
from shards.format.json_document import parse_document, read_existing

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


def rate_thresholds(scans: ScoredScans, given: Mapping[str, Any], dataset_digest: str) -> dict[str, Any]:
    """Return what thresholds.json does on scans: its origin, and counts of bags as a budget of the report has them."""
    points = [given["thresholds"].get(name) for name in scans.classes]
    thresholds_K = np.array([NEVER if at is None else at["threshold"] for at in points], np.float64)
    plan = apply_thresholds(bags_of(scans), thresholds_K)
    origin = {name: given[name] for name in ("dataset_digest", "split", "confidence", "rule", "promises")}
    is_same = (given["dataset_digest"], given["split"]) == (dataset_digest, scans.split)
    counts = ("num_clean", "num_false", "num_with_item", "num_caught", "recall", "false_alarms_per_1000")
    rated = {name: getattr(plan, name) for name in counts}
    return {"found_on_these_scans": is_same, "origin": origin, "thresholds": dict(given["thresholds"]), **rated}


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
