"""Bootstrap rounds equal real resamples, and copies of one image count as one."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from model.metrics import operating_points
from model.metrics import ranking as metrics
from model.metrics.uncertainty import bootstrap
from model.metrics.uncertainty.bootstrap import percentile_interval

ROWS = st.lists(
    st.tuples(
        st.sampled_from([-2.0, -0.5, 0.0, 0.5, 3.0]) | st.floats(-9, 9, width=32),
        st.sampled_from([-1, 0, 1]),
        st.integers(0, 5),
    ),
    min_size=1,
    max_size=40,
)
RATES = np.array([0.0, 5.0, 300.0])


def columns(rows):
    scores, labels, groups = (np.array(column) for column in zip(*rows, strict=True))
    return scores.astype(np.float64), labels.astype(np.int8), groups


def random_scans(num_scans=2000, seed=1, separation=1.5):
    random = np.random.default_rng(seed)
    labels = (random.random(num_scans) < 0.1).astype(np.int8)
    return random.normal(size=num_scans) + separation * labels, labels


@given(ROWS, st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_a_weighed_figure_is_that_of_rows_repeated_as_often_as_their_group_was_drawn(rows, weights):
    scores, labels, groups = columns(rows)
    weights_G = np.array(weights, np.uint8)
    ranked = bootstrap.rank_groups(scores, labels, groups)
    average_precision, auc, recall_F = (values_C[0] for values_C in bootstrap.reweight(ranked, weights_G[None], RATES))
    repeated = np.repeat(np.arange(len(rows)), weights_G[groups])
    ranking = metrics.rank(scores[repeated], labels[repeated])
    curve = metrics.trace_curve(ranking)
    if not ranking.num_positive:
        assert np.isnan(average_precision)
        return
    assert average_precision == pytest.approx(metrics.average_precision(curve), abs=1e-12)
    if not ranking.num_negative:
        assert np.isnan(auc)
        return
    assert auc == pytest.approx(metrics.roc_auc(ranking), abs=1e-12)
    expected = [operating_points.at_false_alarms(curve, rate).recall for rate in RATES]
    assert recall_F.tolist() == pytest.approx(expected, abs=1e-12)


def test_a_weighed_figure_is_scikit_learns_with_sample_weights():
    scores, labels = random_scans()
    scores = scores.round(1)
    weights_G = bootstrap.draw_weights(len(scores), 7)
    ranked = bootstrap.rank_groups(scores, labels, np.arange(len(scores)))
    average_precision, auc, _ = (values_C[0] for values_C in bootstrap.reweight(ranked, weights_G[None], RATES))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert average_precision == pytest.approx(
            average_precision_score(labels, scores, sample_weight=weights_G), abs=1e-12
        )
        assert auc == pytest.approx(roc_auc_score(labels, scores, sample_weight=weights_G), abs=1e-12)


def test_a_round_draws_as_many_groups_as_there_are_and_is_the_same_each_time():
    first = bootstrap.draw_weights(10_000, 3)
    assert first.sum() == 10_000
    assert (first == bootstrap.draw_weights(10_000, 3)).all()
    assert (first != bootstrap.draw_weights(10_000, 4)).any()
    # Drawn with replacement, a share of 1/e is left out.
    assert np.mean(first == 0) == pytest.approx(np.exp(-1), abs=0.02)


def test_the_number_of_threads_changes_nothing(monkeypatch):
    scores, labels = random_scans(500)
    ranked = bootstrap.rank_groups(scores, labels, np.arange(500))
    results = []
    for cores in (1, 4):
        monkeypatch.setattr(bootstrap, "count_cores", lambda cores=cores: cores)
        results.append(bootstrap.resample([ranked], 500, (5,), num_rounds=20)[0].average_precision_R)
    assert (results[0] == results[1]).all()


def test_the_number_of_rounds_at_once_changes_nothing(monkeypatch):
    scores, labels = random_scans(500)
    ranked = bootstrap.rank_groups(scores.round(1), labels, np.arange(500))
    results = []
    for block_bytes in (1, 500 * 7, 2**21):
        monkeypatch.setattr(bootstrap, "BLOCK_BYTES", block_bytes)
        results.append(bootstrap.resample([ranked], 500, (5, 50), num_rounds=20)[0])
    for other in results[1:]:
        assert (results[0].average_precision_R == other.average_precision_R).all()
        assert (results[0].roc_auc_R == other.roc_auc_R).all()
        assert (results[0].recall_RF == other.recall_RF).all()


def test_without_false_alarm_rates_there_are_no_recalls():
    scores, labels = random_scans(100)
    ranked = bootstrap.rank_groups(scores, labels, np.arange(100))
    assert bootstrap.resample([ranked], 100, (), num_rounds=3)[0].recall_RF.shape == (3, 0)


def test_an_interval_holds_the_figure_and_is_as_wide_as_fresh_samples_vary():
    figures, widths = [], []
    for seed in range(400):
        scores, labels = random_scans(1000, seed=seed)
        ranking = metrics.rank(scores, labels)
        figures.append(metrics.roc_auc(ranking) or 0.0)
        if seed < 5:
            ranked = bootstrap.rank_groups(scores, labels, np.arange(1000))
            found = percentile_interval(bootstrap.resample([ranked], 1000, (5,), num_rounds=300)[0].roc_auc_R)
            assert found is not None
            assert found.low < figures[-1] < found.high
            widths.append(found.high - found.low)
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.std(figures), rel=0.15)


def test_four_copies_of_every_scan_are_no_more_evidence_than_one():
    scores, labels = random_scans(600)
    copies, copied_labels = np.tile(scores, 4), np.tile(labels, 4)
    widths = []
    for groups, num_groups in ((np.tile(np.arange(600), 4), 600), (np.arange(2400), 2400)):
        ranked = bootstrap.rank_groups(copies, copied_labels, groups)
        found = percentile_interval(bootstrap.resample([ranked], num_groups, (5,), 300)[0].average_precision_R)
        assert found is not None
        widths.append(found.high - found.low)
    assert widths[0] == pytest.approx(2 * widths[1], rel=0.25)


def test_the_mean_of_a_round_leaves_out_classes_without_positives_there():
    values = np.array([[0.5, np.nan], [0.5, 1.0], [np.nan, np.nan]])
    assert bootstrap.mean_rounds(list(values.T)).tolist() == pytest.approx([0.5, 0.75, np.nan], nan_ok=True)


def test_a_class_without_positives_has_no_interval():
    ranked = bootstrap.rank_groups(np.zeros(5), np.zeros(5, np.int8), np.arange(5))
    assert percentile_interval(bootstrap.resample([ranked], 5, (5,), num_rounds=5)[0].average_precision_R) is None
