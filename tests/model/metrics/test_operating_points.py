"""Operating points agree with counts scan by scan."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.metrics import operating_points
from model.metrics import ranking as metrics

ROWS = st.lists(
    st.tuples(st.sampled_from([-2.0, -0.5, 0.0, 0.5, 3.0]) | st.floats(-9, 9, width=32), st.sampled_from([0, 1])),
    min_size=1,
    max_size=40,
)


def ranking_of(rows):
    return metrics.rank(np.array([score for score, _ in rows]), np.array([label for _, label in rows]))


def count(rows, threshold):
    alarms = [label for score, label in rows if threshold is not None and score >= threshold]
    return sum(alarms), len(alarms) - sum(alarms)


def all_thresholds(rows):
    return [None, *sorted({score for score, _ in rows}, reverse=True)]


@given(ROWS, st.sampled_from([0, 1, 5, 50, 333, 1000]))
def test_recall_at_a_false_alarm_rate_is_the_best_that_any_threshold_gives(rows, rate):
    ranking = ranking_of(rows)
    if not ranking.num_positive or not ranking.num_negative:
        return
    point = operating_points.at_false_alarms(metrics.trace_curve(ranking), rate)
    assert (point.num_true, point.num_false) == count(rows, point.threshold)
    within = [
        hits
        for hits, false in (count(rows, t) for t in all_thresholds(rows))
        if 1000 * false <= rate * ranking.num_negative
    ]
    assert point.num_true == max(within)


@given(ROWS, st.sampled_from([0.1, 0.5, 0.9, 1.0]))
def test_false_alarms_at_a_recall_are_the_fewest_that_any_threshold_gives(rows, recall):
    ranking = ranking_of(rows)
    if not ranking.num_positive:
        return
    point = operating_points.at_recall(metrics.trace_curve(ranking), recall)
    assert (point.num_true, point.num_false) == count(rows, point.threshold)
    counts = [count(rows, threshold) for threshold in all_thresholds(rows)]
    assert point.num_false == min(false for hits, false in counts if hits / ranking.num_positive >= recall - 1e-9)


@given(ROWS)
def test_no_threshold_has_a_higher_f1_than_the_best(rows):
    ranking = ranking_of(rows)
    if not ranking.num_positive:
        return
    best = operating_points.best_f1(metrics.trace_curve(ranking))
    for threshold in all_thresholds(rows):
        hits, false = count(rows, threshold)
        assert best.f1 >= 2 * hits / (hits + false + ranking.num_positive) - 1e-12


@given(st.lists(ROWS, min_size=1, max_size=3))
def test_a_sweep_counts_every_class_at_every_threshold(classes):
    rankings = [ranking_of(rows) for rows in classes]
    swept = operating_points.sweep(rankings[:-1], rankings[-1])
    assert (np.diff(swept.thresholds_T) > 0).all()
    for of, rows in zip([*swept.classes, swept.any_item], classes, strict=True):
        for t, threshold in enumerate(swept.thresholds_T):
            assert (of.num_true_T[t], of.num_false_T[t]) == count(rows, threshold)


def test_a_sweep_of_many_scores_stays_small_and_begins_where_every_item_is_found():
    random = np.random.default_rng(0)
    ranking = metrics.rank(random.normal(size=5000), (random.random(5000) < 0.3).astype(int))
    swept = operating_points.sweep([], ranking)
    assert len(swept.thresholds_T) == operating_points.NUM_SWEEP_STEPS + 1
    assert swept.any_item.num_true_T[0] == ranking.num_positive


def test_an_operating_point_has_recall_precision_and_false_alarms():
    point = operating_points.OperatingPoint(0.0, num_true=8, num_false=2, num_positive=10, num_negative=400)
    assert (point.score, point.recall, point.precision, point.false_alarms_per_1000) == (0.5, 0.8, 0.8, 5.0)
    assert point.f1 == pytest.approx(0.8)


def test_when_no_threshold_is_quiet_enough_no_alarm_is_raised():
    curve = metrics.trace_curve(ranking_of([(1.0, 1), (2.0, 0), (0.0, 0)]))
    point = operating_points.at_false_alarms(curve, 5)
    assert (point.threshold, point.score, point.recall, point.precision) == (None, None, 0.0, None)


def test_nineteen_of_twenty_are_a_recall_of_95_percent():
    curve = metrics.trace_curve(ranking_of([(float(i), 1) for i in range(20)]))
    assert operating_points.at_recall(curve, 0.95).num_true == 19


def test_a_class_without_positives_has_no_operating_points():
    figures = operating_points.rate_operation(metrics.trace_curve(ranking_of([(1.0, 0)])))
    assert (figures.at_false_alarms, figures.at_recall, figures.best_f1) == ({}, {}, None)
    assert len(operating_points.sweep([], ranking_of([(1.0, 0)])).thresholds_T) == 0


def test_a_bag_holds_something_when_any_class_is_present_and_is_unknown_when_one_may_be():
    labels = np.array([[1, 0], [0, 0], [-1, 0], [-1, 1]], np.int8)
    scores, any_labels = operating_points.any_item(np.array([[1.0, 2], [0, -1], [3, 0], [0, 0]]), labels)
    assert scores.tolist() == [2, 0, 3, 0]
    assert any_labels.tolist() == [1, 0, -1, 1]


def test_a_sigmoid_of_any_logit_is_finite_and_exact_at_zero():
    values = operating_points.sigmoid(np.array([-1e30, -800.0, 0.0, 800.0, 1e30]))
    assert values.tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]
