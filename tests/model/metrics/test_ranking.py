"""Ranking figures agree with brute force and scikit-learn, ties and edge cases included."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, top_k_accuracy_score

from model.metrics import ranking as metrics

FEW_SCORES = st.sampled_from([-2.0, -0.5, 0.0, 0.5, 0.75, 3.0])
"""So few values that most examples have ties, between positives, negatives and both."""
ROWS = st.lists(st.tuples(FEW_SCORES | st.floats(-30, 30, width=32), st.sampled_from([0, 1])), min_size=1, max_size=40)


def curve_of(scores, labels):
    return metrics.trace_curve(metrics.rank(np.asarray(scores, np.float64), np.asarray(labels, np.int8)))


def split_rows(rows):
    return [score for score, _ in rows], [label for _, label in rows]


def precision_recall_points(scores, labels):
    """Every threshold in turn, counted scan by scan: (precision, hits) from the highest score down."""
    points = []
    for threshold in sorted(set(scores), reverse=True):
        alarms = [label for score, label in zip(scores, labels, strict=True) if score >= threshold]
        points.append((sum(alarms) / len(alarms), sum(alarms)))
    return points


def brute_force_average_precision(scores, labels):
    precisions = []
    for own_score, own_label in zip(scores, labels, strict=True):
        if own_label == 1:
            as_high = [label for score, label in zip(scores, labels, strict=True) if score >= own_score]
            precisions.append(sum(as_high) / len(as_high))
    return sum(precisions) / len(precisions)


def brute_force_voc_all_points(scores, labels):
    """VOCap.m: sentinels at both ends, precision made monotone from the right, area where recall changes."""
    points = precision_recall_points(scores, labels)
    recall = [0.0, *[hits / sum(labels) for _, hits in points], 1.0]
    precision = [0.0, *[value for value, _ in points], 0.0]
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    return sum((recall[i] - recall[i - 1]) * precision[i] for i in range(1, len(recall)))


def brute_force_voc2007(scores, labels):
    """VOCevalcls.m of 2007: for t = 0:0.1:1, the highest precision where recall >= t, 0 where there is none."""
    points = precision_recall_points(scores, labels)
    total = 0.0
    for tenth in range(11):
        reaching = [value for value, hits in points if 10 * hits >= tenth * sum(labels)]
        total += max(reaching, default=0.0) / 11
    return total


@given(ROWS)
def test_each_average_precision_is_its_brute_force_transcription(rows):
    scores, labels = split_rows(rows)
    curve = curve_of(scores, labels)
    if not sum(labels):
        assert [definition(curve) for definition in metrics.AVERAGE_PRECISIONS.values()] == [None, None, None]
        return
    assert metrics.average_precision(curve) == pytest.approx(brute_force_average_precision(scores, labels), abs=1e-12)
    assert metrics.average_precision_voc_all_points(curve) == pytest.approx(
        brute_force_voc_all_points(scores, labels), abs=1e-12
    )
    assert metrics.average_precision_voc2007(curve) == pytest.approx(brute_force_voc2007(scores, labels), abs=1e-12)


@given(ROWS)
def test_average_precision_and_auc_are_scikit_learns(rows):
    scores, labels = split_rows(rows)
    if not sum(labels):
        return
    ranking = metrics.rank(np.asarray(scores), np.asarray(labels))
    ours = metrics.average_precision(metrics.trace_curve(ranking))
    assert ours == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    if sum(labels) < len(labels):
        assert metrics.roc_auc(ranking) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(rows, random):
    shuffled = list(rows)
    random.shuffle(shuffled)
    first, second = curve_of(*split_rows(rows)), curve_of(*split_rows(shuffled))
    for definition in metrics.AVERAGE_PRECISIONS.values():
        assert definition(first) == definition(second)


@given(ROWS)
def test_interpolation_never_lowers_average_precision(rows):
    scores, labels = split_rows(rows)
    if sum(labels):
        curve = curve_of(scores, labels)
        lower, upper = metrics.average_precision(curve), metrics.average_precision_voc_all_points(curve)
        assert lower is not None
        assert upper is not None
        assert upper >= lower - 1e-15


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_scores_with_many_ties_agree_with_scikit_learn_to_1e_12(dtype):
    random = np.random.default_rng(5)
    labels = (random.random(60_000) < 0.01).astype(np.int8)
    scores = (random.normal(size=60_000) + 2 * labels).round(2).astype(dtype)
    ranking = metrics.rank(scores, labels)
    ours = metrics.average_precision(metrics.trace_curve(ranking))
    assert ours == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    assert metrics.roc_auc(ranking) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_scans_with_an_unknown_label_count_nowhere():
    known = metrics.rank(np.array([3.0, 2.0, 1.0]), np.array([1, 0, 1]))
    with_unknown = metrics.rank(np.array([9.0, 3.0, 2.0, 1.0, 0.0]), np.array([-1, 1, 0, 1, -1]))
    assert with_unknown.num_unknown == 2
    assert with_unknown.prevalence == known.prevalence == 2 / 3
    assert metrics.roc_auc(with_unknown) == metrics.roc_auc(known) == 0.5
    assert metrics.average_precision(metrics.trace_curve(with_unknown)) == pytest.approx((1 + 2 / 3) / 2)


def test_when_every_scan_is_positive_precision_is_perfect_and_auc_undefined():
    ranking = metrics.rank(np.array([0.1, 0.2, 0.2]), np.array([1, 1, 1]))
    curve = metrics.trace_curve(ranking)
    assert [definition(curve) for definition in metrics.AVERAGE_PRECISIONS.values()] == [1.0, 1.0, 1.0]
    assert metrics.roc_auc(ranking) is None


def test_without_any_known_label_prevalence_is_undefined():
    ranking = metrics.rank(np.array([0.1, 0.2]), np.array([-1, -1]))
    assert ranking.prevalence is None
    assert metrics.roc_auc(ranking) is None


def test_one_score_for_all_scans_gives_the_prevalence_and_an_auc_of_a_half():
    ranking = metrics.rank(np.zeros(10), np.array([1] * 3 + [0] * 7))
    assert metrics.average_precision(metrics.trace_curve(ranking)) == pytest.approx(0.3)
    assert metrics.roc_auc(ranking) == 0.5


def test_three_of_ten_positives_reach_a_recall_of_three_tenths():
    # In floating point 3 * 0.1 > 3 / 10, which would drop this point from the sum.
    scores = [9.0] * 3 + [5.0] * 7 + [7.0] * 90
    labels = [1] * 10 + [0] * 90
    assert metrics.average_precision_voc2007(curve_of(scores, labels)) == pytest.approx((4 * 1.0 + 7 * 0.1) / 11)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_refused(bad):
    with pytest.raises(ValueError, match=r"scores must be finite, got .*\(row 1\)"):
        metrics.rank(np.array([0.0, bad]), np.array([0, 1]))


def test_a_label_of_another_number_is_refused():
    with pytest.raises(ValueError, match=r"labels must be 1, 0 or -1 \(unknown\), got \[0, 2\]"):
        metrics.rank(np.array([0.0, 1.0]), np.array([0, 2]))


def test_scores_and_labels_of_different_length_are_refused():
    with pytest.raises(ValueError, match=r"must be of one length, got shapes \(2,\) and \(3,\)"):
        metrics.rank(np.zeros(2), np.zeros(3, np.int8))


def test_the_mean_leaves_out_classes_without_a_value():
    assert metrics.mean_of_defined([0.5, None, 1.0]) == 0.75
    assert metrics.mean_of_defined([None]) is None


def test_a_million_scans_take_a_fraction_of_a_second_a_class():
    random = np.random.default_rng(1)
    labels = (random.random(1_059_231) < 0.004).astype(np.int8)
    scores = (random.normal(size=1_059_231) + 2 * labels).astype(np.float32)
    start = time.perf_counter()
    ranking = metrics.rank(scores, labels)
    curve = metrics.trace_curve(ranking)
    assert None not in (metrics.average_precision(curve), metrics.roc_auc(ranking))
    # 0.06 s alone on one core; the bound leaves room for a machine that runs other tests as well.
    assert time.perf_counter() - start < 2.0


@given(seed=st.integers(0, 2**31), k=st.integers(1, 6))
def test_top_k_accuracy_is_scikit_learns(seed, k):
    random = np.random.default_rng(seed)
    logits_NK, true_N = random.normal(size=(9, 7)), random.integers(0, 7, 9)
    expected = top_k_accuracy_score(true_N, logits_NK, k=k, labels=range(7))
    assert metrics.top_k_accuracy(logits_NK, true_N, k) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("labels", [[], [(1, 0), (0, 0)], [(1, 0), (1, 1)], [(1, 0), (0, -1)], [(1, 0), (1, -1)]])
def test_scans_have_no_true_class_unless_each_has_exactly_one(labels):
    assert metrics.true_classes(np.array(labels, np.int8).reshape(-1, 2)) is None
    true_N = metrics.true_classes(np.array([(1, 0), (0, 1)], np.int8))
    assert true_N is not None and true_N.tolist() == [0, 1]
    assert metrics.true_classes(np.array([[1], [1]], np.int8)) is None, "one class alone has no top-k accuracy"
