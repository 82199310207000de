"""An interval holds its point, stays in [0, 1], has width, and covers as often as it says."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from model.metrics import ranking as metrics
from model.metrics.uncertainty import intervals
from model.metrics.uncertainty.influence import find_influences

SHARES = st.floats(0, 1) | st.sampled_from([0.0, 1.0])
NUMBERS = st.floats(1, 1e6)


def check(found, point):
    assert 0 <= found.low <= point <= found.high <= 1
    assert found.low < found.high


@given(SHARES, NUMBERS, st.floats(0, 0.3))
def test_an_interval_holds_its_point_and_has_width(value, number, variance):
    check(intervals.proportion_interval(value, number), value)
    check(intervals.wilson_interval(value, number, 1.96), value)
    check(intervals.logit_interval(value, number, 1.96), value)
    check(intervals.average_precision_interval(value, variance, number), value)
    check(intervals.roc_auc_interval(value, variance, number, 10 * number), value)


@given(
    st.lists(st.floats(-5, 5), min_size=1, max_size=20),
    st.lists(st.floats(-5, 5), min_size=1, max_size=60),
    st.sampled_from([0.001, 0.01, 0.05, 0.5]),
)
def test_a_recall_holds_its_point_and_mirrors_the_false_alarms(positives, negatives, share):
    positives_P, negatives_M = np.sort(positives), np.sort(negatives)
    ranking = metrics.Ranking(positives_P, negatives_M, 0)
    allowed = int(share * len(negatives_M) + 1e-9)
    point = np.mean(positives_P > negatives_M[-1 - allowed]) if allowed < len(negatives_M) else 1.0
    check(intervals.recall_interval(positives_P, negatives_M, share, len(positives_P), len(negatives_M)), point)
    found = intervals.false_alarm_interval(
        positives_P, negatives_M, 1 - share, ranking.num_positive, ranking.num_negative
    )
    assert 0 <= found.low < found.high <= 1


@pytest.mark.parametrize(("hits", "number"), [(0, 81), (3, 10), (9, 10), (40, 40), (1, 5)])
def test_a_proportions_bounds_have_a_mid_p_value_of_a_fortieth(hits, number):
    found = intervals.proportion_interval(hits / number, number)
    if hits:
        p = stats.binom.sf(hits, number, found.low) + stats.binom.pmf(hits, number, found.low) / 2
        assert p == pytest.approx(0.025, abs=1e-9)
    if hits < number:
        p = stats.binom.cdf(hits - 1, number, found.high) + stats.binom.pmf(hits, number, found.high) / 2
        assert p == pytest.approx(0.025, abs=1e-9)


def test_no_false_alarm_in_81_bags_allows_some_36_in_1000():
    assert intervals.proportion_interval(0.0, 81).high == pytest.approx(1 - 0.05 ** (1 / 81), abs=1e-9)


def test_groups_count_as_fewer_scans():
    assert intervals.effective_number(np.array([1, 1, 0, 1])) == 3
    assert intervals.effective_number(np.array([5, 5])) == 2
    assert 1 < intervals.effective_number(np.array([9, 1])) < 2
    assert intervals.effective_number(np.array([], np.int64)) == 0


def test_more_false_alarms_than_the_split_has_room_for_leave_a_wide_interval():
    positives_P, negatives_M = np.arange(10, 20.0), np.arange(5.0)
    rare = intervals.recall_interval(positives_P, negatives_M, 0.001, 10, 5)
    often = intervals.recall_interval(positives_P, negatives_M, 0.2, 10, 5)
    assert rare.high - rare.low > often.high - often.low


def test_intervals_of_simulated_splits_cover():
    """A glance at `tests/bench/bench_coverage.py`, which simulates all conditions."""
    random, hits = np.random.default_rng(4), np.zeros(2)
    labels_N = (np.arange(200) < 8).astype(np.int8)
    for _ in range(300):
        scores_N = random.normal(size=200) + 2 * labels_N
        ranking = metrics.rank(scores_N, labels_N)
        of = find_influences(scores_N, labels_N, np.arange(200), 200)
        precision, auc = metrics.average_precision(metrics.trace_curve(ranking)), metrics.roc_auc(ranking)
        assert precision is not None
        assert auc is not None
        found = (
            intervals.average_precision_interval(precision, of.average_precision_variance, 8),
            intervals.roc_auc_interval(auc, of.roc_auc_variance, 8, 192),
        )
        truths = (0.497, stats.norm.cdf(math.sqrt(2)))
        hits += [one.low <= truth <= one.high for one, truth in zip(found, truths, strict=True)]
    assert (hits / 300 > 0.92).all()


def test_false_alarms_at_a_rare_share_of_many_scans_are_covered():
    """Shares near 0 were gathered on a linear scale: 0.80 covered."""
    random, hits = np.random.default_rng(5), 0
    for _ in range(150):
        positives_P, negatives_M = np.sort(random.normal(3, size=10)), np.sort(random.normal(size=2000))
        found = intervals.false_alarm_interval(positives_P, negatives_M, 0.5, 10, 2000)
        hits += found.low <= stats.norm.sf(3) <= found.high
    assert hits / 150 > 0.92
