"""Estimate recall and precision of nights without labels, from bags whose labels were known and one assumption."""

# G bags  K classes  S scores: the classes and last any item

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from model.metrics.calibration import PlattScaling, fit_platt
from model.metrics.operating_points import any_item_labels
from model.metrics.ranking import Ranking
from model.monitoring.observations import ANY_ITEM
from shards.format.classes import ABSENT, PRESENT, UNKNOWN

FloatArray = npt.NDArray[np.float64]

ASSUMPTIONS = {
    "if_calibrated": "A score means the same probability of an item as on the labelled bags. What is scanned may have "
    "changed; how many of the bags with a score hold an item has not.",
    "if_label_shift": "Bags with the item score as on the labelled bags, and so do bags without it: only the share of "
    "bags with the item has changed. The recall is then that of the labelled bags.",
}
MIN_BAGS = 20
"""Labelled bags with the item, and without it, below which nothing is estimated."""
MAX_Z = 3.0
"""Standard deviations by which the calibration may miss the labels of bags that it was not fitted on."""
MIN_SPREAD = 0.1
"""Recall less false alarms on the labelled bags, below which alarms say too little about the share of items."""
_HIGHEST = 40.0
"""Logits beyond are those of scores that are 0 or 1 in float64."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """Bags with known labels, of one model."""

    logits_GK: FloatArray
    labels_GK: npt.NDArray[np.int8]


def read_labelled(scans: pa.Table, classes: Sequence[str]) -> Labelled:
    """Return the bags of the `scans.parquet` of a report.

    Args:
        scans: its columns `key`, `group`, `label` and `score`.
        classes: of the predictions.
    """
    scans = scans.combine_chunks()
    bag_N = pc.coalesce(
        pc.binary_join_element_wise("bag", scans["group"], " "),
        pc.binary_join_element_wise("scan", scans["key"], " "),
    )
    bags_N = bag_N.combine_chunks().dictionary_encode().indices.to_numpy()
    order_N = np.argsort(bags_N, kind="stable")
    starts_G = np.flatnonzero(np.diff(bags_N[order_N], prepend=-1))
    labels, scores = (scans[name].combine_chunks() for name in ("label", "score"))
    label_KN = [pc.fill_null(pc.struct_field(labels, name), UNKNOWN).to_numpy() for name in classes]
    # Without a score nothing alarms, as in `estimate`.
    score_KN = [pc.fill_null(pc.struct_field(scores, name), 0.0).to_numpy() for name in classes]
    label_NK, score_NK = (np.stack(columns, axis=1)[order_N] for columns in (label_KN, score_KN))
    with np.errstate(divide="ignore"):
        logit_NK = np.clip(np.log(score_NK) - np.log1p(-score_NK), -_HIGHEST, _HIGHEST)
    present_GK = np.maximum.reduceat(label_NK == PRESENT, starts_G, axis=0)
    unknown_GK = np.maximum.reduceat(label_NK == UNKNOWN, starts_G, axis=0)
    labels_GK = np.where(present_GK, PRESENT, np.where(unknown_GK, UNKNOWN, ABSENT)).astype(np.int8)
    return Labelled(np.maximum.reduceat(logit_NK, starts_G, axis=0), labels_GK)


def calibrate(labelled: Labelled, classes: Sequence[str], thresholds_K: FloatArray) -> dict[str, dict[str, Any]]:
    """Return what estimates need, by class and for any item, as JSON has it; `refused` says why there are none.

    Args:
        labelled: bags that the model was not trained on.
        classes: of its scores.
        thresholds_K: logits at which alarms are raised; infinity: never.
    """
    margins_GS = _margins(labelled.logits_GK, thresholds_K)
    labels_GS = np.column_stack([labelled.labels_GK, any_item_labels(labelled.labels_GK)])
    pairs = zip([*classes, ANY_ITEM], margins_GS.T, labels_GS.T, strict=True)
    return {
        name: _calibrate(margin_G[label_G != UNKNOWN], label_G[label_G != UNKNOWN]) for name, margin_G, label_G in pairs
    }


def estimate(
    logits_GK: FloatArray, thresholds_K: FloatArray, calibration: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return recall, precision and prevalence of a night, by class and for any item, under each assumption.

    null where the labelled bags do not allow it, or the night has no alarms to be precise.

    Source:
        Calibrated scores: the expected confusion matrix (confidence-based performance estimation). Label shift: Lipton,
        Wang and Smola, "Detecting and Correcting for Label Shift with Black Box Predictors" (ICML 2018), two classes.
    """
    known_G = np.isfinite(logits_GK).any(axis=1)
    margins_GS = _margins(np.where(np.isnan(logits_GK), -_HIGHEST, logits_GK)[known_G], thresholds_K)
    return {
        name: _estimate(margin_G, of) for (name, of), margin_G in zip(calibration.items(), margins_GS.T, strict=True)
    }


def _margins(logits_GK: FloatArray, thresholds_K: FloatArray) -> FloatArray:
    """Return how far each score lies above its threshold; of any item the highest margin: an alarm is one >= 0."""
    margins_GK = np.clip(logits_GK, -_HIGHEST, _HIGHEST) - thresholds_K
    return np.column_stack([margins_GK, margins_GK.max(axis=1)])


def _calibrate(margin_G: FloatArray, label_G: npt.NDArray[np.int8]) -> dict[str, Any]:
    present_G = label_G == PRESENT
    num_present, num_absent = int(present_G.sum()), int((~present_G).sum())
    found: dict[str, Any] = {"num_with_item": num_present, "num_without": num_absent, "refused": None}
    if not np.isfinite(margin_G).all():
        return found | {"refused": "it has no threshold"}
    if min(num_present, num_absent) < MIN_BAGS:
        return found | {"refused": f"it takes {MIN_BAGS} labelled bags with and without it"}
    alarm_G = margin_G >= 0
    found |= {
        "recall": float(alarm_G[present_G].mean()),
        "false_alarm_share": float(alarm_G[~present_G].mean()),
        "precision": float(present_G[alarm_G].mean()) if alarm_G.any() else None,
    }
    platt = _fit(margin_G, present_G)
    return found | {"slope": platt.slope, "offset": platt.offset, "miscalibrated": _find_bias(margin_G, present_G)}


def _fit(margin_G: FloatArray, present_G: npt.NDArray[np.bool_]) -> PlattScaling:
    return fit_platt(Ranking(np.sort(margin_G[present_G]), np.sort(margin_G[~present_G]), 0))


def _find_bias(margin_G: FloatArray, present_G: npt.NDArray[np.bool_]) -> str | None:
    """Return how calibrated scores miss the labels among alarms or the rest, each half fitted on the other; or None."""
    is_first_G = np.random.default_rng(0).permutation(len(margin_G)) % 2 == 0
    p_G = np.empty(len(margin_G))
    for half_G in (is_first_G, ~is_first_G):
        p_G[half_G] = _fit(margin_G[~half_G], present_G[~half_G]).apply(margin_G[half_G])
    for what, chosen_G in (("with an alarm", margin_G >= 0), ("without one", margin_G < 0)):
        expected, found = float(p_G[chosen_G].sum()), int(present_G[chosen_G].sum())
        if abs(found - expected) > MAX_Z * np.sqrt((p_G * (1 - p_G))[chosen_G].sum() + 1):
            return f"of labelled bags {what}, {expected:.1f} were expected to hold it, {found} do"
    return None


def _estimate(margin_G: FloatArray, of: Mapping[str, Any]) -> dict[str, Any]:
    nothing: dict[str, float | None] = {"recall": None, "precision": None, "prevalence": None}
    if of["refused"] or not len(margin_G):
        return dict.fromkeys(ASSUMPTIONS, nothing)
    alarm_G = margin_G >= 0
    share = float(alarm_G.mean())
    calibrated = nothing
    if of["miscalibrated"] is None:
        p_G = PlattScaling(of["slope"], of["offset"]).apply(margin_G)
        calibrated = {
            "recall": float(p_G[alarm_G].sum() / p_G.sum()),
            "precision": float(p_G[alarm_G].mean()) if share else None,
            "prevalence": float(p_G.mean()),
        }
    shifted = nothing
    if (spread := of["recall"] - of["false_alarm_share"]) >= MIN_SPREAD:
        prevalence = float(np.clip((share - of["false_alarm_share"]) / spread, 0, 1))
        precision = min(prevalence * of["recall"] / share, 1.0) if share else None
        shifted = {"recall": of["recall"], "precision": precision, "prevalence": prevalence}
    return {"if_calibrated": calibrated, "if_label_shift": shifted}
