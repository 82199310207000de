"""Test that estimates without labels are right where their assumption holds, and null where nothing allows them."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.monitoring.label_free import Labelled, calibrate, estimate, read_labelled

THRESHOLDS = np.array([1.0, 0.5])
CLASSES = ("Gun", "Knife")


def draw(seed, num, prevalence, quality=2.0):
    """Bags whose labels are drawn first, scores then: with another prevalence, a label shift."""
    rng = np.random.default_rng(seed)
    labels_GK = (rng.random((num, 2)) < prevalence).astype(np.int8)
    return rng.normal(-1, 1, size=(num, 2)) + quality * labels_GK, labels_GK


def rate(logits_GK, labels_GK):
    """The true recall and precision of each class and of any item."""
    alarm_GS = np.column_stack([logits_GK >= THRESHOLDS, (logits_GK >= THRESHOLDS).any(axis=1)])
    present_GS = np.column_stack([labels_GK, labels_GK.any(axis=1)]) > 0
    hit_S = (alarm_GS & present_GS).sum(axis=0)
    pairs = zip(hit_S / present_GS.sum(0), hit_S / alarm_GS.sum(0), strict=True)
    return dict(zip((*CLASSES, "any item"), pairs, strict=True))


@pytest.mark.parametrize("prevalence", [0.03, 0.1, 0.4])
def test_under_label_shift_precision_and_prevalence_are_found(prevalence):
    calibration = calibrate(Labelled(*draw(0, 20_000, 0.1)), CLASSES, THRESHOLDS)
    logits_GK, labels_GK = draw(1, 20_000, prevalence)
    found, truth = estimate(logits_GK, THRESHOLDS, calibration), rate(logits_GK, labels_GK)
    for name in CLASSES:
        estimated = found[name]["if_label_shift"]
        recall, precision = truth[name]
        assert estimated["recall"] == pytest.approx(recall, abs=0.07)  # of 600 bags with it in the smallest draw
        assert estimated["precision"] == pytest.approx(precision, abs=0.06)
        assert estimated["prevalence"] == pytest.approx(prevalence, abs=0.02)


@pytest.mark.parametrize("shift", [-1.0, 0.0, 1.0])
def test_where_scores_mean_what_they_meant_recall_and_precision_are_found(shift):
    # Scores are drawn first, labels by a fixed function of the score: with other scores, a covariate shift.
    def draw_by_score(seed, shift):
        rng = np.random.default_rng(seed)
        logits_GK = rng.normal(-1 + shift, 1.5, size=(60_000, 2))
        return logits_GK, (rng.random(logits_GK.shape) < 1 / (1 + np.exp(1 - 1.5 * logits_GK))).astype(np.int8)

    calibration = calibrate(Labelled(*draw_by_score(2, 0.0)), CLASSES, THRESHOLDS)
    assert all(calibration[name]["miscalibrated"] is None for name in CLASSES)
    logits_GK, labels_GK = draw_by_score(3, shift)
    found, truth = estimate(logits_GK, THRESHOLDS, calibration), rate(logits_GK, labels_GK)
    for name in CLASSES:
        estimated = found[name]["if_calibrated"]
        assert (estimated["recall"], estimated["precision"]) == pytest.approx(truth[name], abs=0.03)


def test_any_item_is_estimated_from_the_largest_margin_over_its_thresholds():
    calibration = calibrate(Labelled(*draw(4, 20_000, 0.1)), CLASSES, THRESHOLDS)
    logits_GK, labels_GK = draw(5, 20_000, 0.1)
    found = estimate(logits_GK, THRESHOLDS, calibration)["any item"]["if_calibrated"]
    assert (found["recall"], found["precision"]) == pytest.approx(rate(logits_GK, labels_GK)["any item"], abs=0.03)


def test_scores_that_are_no_probabilities_are_refused_by_their_misses():
    rng = np.random.default_rng(6)
    logits_GK = rng.normal(size=(20_000, 2))
    labels_GK = (np.abs(logits_GK) > 1.5).astype(np.int8)  # the lowest scores hold items too
    calibration = calibrate(Labelled(logits_GK, labels_GK), CLASSES, THRESHOLDS)
    assert "were expected to hold it" in calibration["Gun"]["miscalibrated"]
    assert estimate(logits_GK, THRESHOLDS, calibration)["Gun"]["if_calibrated"]["recall"] is None


def test_too_few_labelled_bags_and_classes_without_a_threshold_give_no_estimate():
    logits_GK, labels_GK = draw(7, 100, 0.05)
    calibration = calibrate(Labelled(logits_GK, labels_GK), CLASSES, np.array([1.0, np.inf]))
    assert calibration["Gun"]["refused"] == "it takes 20 labelled bags with and without it"
    assert calibration["Knife"]["refused"] == "it has no threshold"
    for of in estimate(logits_GK, np.array([1.0, np.inf]), calibration).values():
        assert all(value is None for assumption in of.values() for value in assumption.values())


def test_a_model_no_better_than_chance_says_nothing_of_the_share_of_items():
    calibration = calibrate(Labelled(*draw(8, 5000, 0.2, quality=0.0)), CLASSES, THRESHOLDS)
    found = estimate(draw(9, 5000, 0.2, quality=0.0)[0], THRESHOLDS, calibration)
    assert found["Gun"]["if_label_shift"]["precision"] is None


@given(seed=st.integers(0, 1000), prevalence=st.floats(0, 1))
def test_estimates_are_shares_or_null(seed, prevalence):
    calibration = calibrate(Labelled(*draw(10, 400, 0.3)), CLASSES, THRESHOLDS)
    for of in estimate(draw(seed, 30, prevalence)[0], THRESHOLDS, calibration).values():
        for figures in of.values():
            assert all(value is None or 0 <= value <= 1 for value in figures.values())


def test_a_class_without_scores_is_read_as_one_that_never_alarms():
    struct = pa.struct([("Gun", pa.float64()), ("Knife", pa.float64())])
    labels = pa.struct([("Gun", pa.int8()), ("Knife", pa.int8())])
    scans = pa.table(
        {
            "key": ["a", "b"],
            "group": pa.nulls(2, pa.string()),
            "label": pa.array([{"Gun": 1, "Knife": None}, {"Gun": 0, "Knife": None}], labels),
            "score": pa.array([{"Gun": 0.5, "Knife": None}, {"Gun": 0.25, "Knife": None}], struct),
        }
    )
    found = read_labelled(scans, ("Gun", "Knife"))
    assert found.logits_GK[:, 0].tolist() == pytest.approx([0, -np.log(3)])
    assert found.logits_GK[:, 1].max() < -30 and (found.labels_GK[:, 1] == -1).all()
