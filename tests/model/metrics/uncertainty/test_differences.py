"""Differences are tested as a family: Holm's p-values, and intervals that agree with them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from model.metrics.uncertainty.differences import Estimate, MeanEstimate, correct_differences

ESTIMATES = st.lists(
    st.none()
    | st.builds(
        Estimate,
        value=st.floats(-1, 1),
        variance=st.sampled_from([0.0]) | st.floats(1e-6, 1),
        num_positive=st.floats(2, 99),
    ),
    max_size=8,
)


def ends(tested):
    return tested.interval.low, tested.interval.high


@given(ESTIMATES, st.integers(1, 3))
def test_an_interval_holds_0_exactly_where_its_p_value_is_above_a_twentieth(estimates, num_families):
    tested = correct_differences(estimates, num_families)
    for estimate, of in zip(estimates, tested, strict=True):
        if estimate is None:
            assert (of.interval, of.p_value) == (None, None)
        elif of.p_value is not None and abs(of.p_value - 0.05) > 1e-9:
            low, high = ends(of)
            assert (low <= 0 <= high) == (of.p_value > 0.05)
            assert -1 <= low <= estimate.value <= high <= 1
            assert low < high


@given(ESTIMATES)
def test_p_values_are_holms(estimates):
    raw = [2 * stats.t.sf(abs(of.value) / of.error, max(of.num_positive - 1, 1)) for of in estimates if of]
    order = np.argsort(raw, kind="stable")
    corrected = np.maximum.accumulate([min((len(raw) - i) * raw[k], 1) for i, k in enumerate(order)])
    found = [of.p_value for of in correct_differences(estimates) if of.p_value is not None]
    assert sorted(found) == pytest.approx(sorted(corrected), rel=1e-6, abs=1e-12)


def test_one_difference_is_tested_at_the_whole_level():
    (found,) = correct_differences([Estimate(value=0.1, variance=0.01, num_positive=11)])
    assert ends(found)[1] - 0.1 == pytest.approx(stats.t.ppf(0.975, 10) * 0.1, rel=1e-9)


def test_a_mean_of_independent_classes_varies_less_than_one_of_equal_classes():
    random = np.random.default_rng(0)
    equal, independent = MeanEstimate(500), MeanEstimate(500)
    first_G = random.normal(size=500) / 500
    for _ in range(10):
        own_G = random.normal(size=500) / 500
        equal.add(first_G, float(np.square(first_G).sum()), 20)
        independent.add(own_G, float(np.square(own_G).sum()), 20)
    found, other = equal.estimate(0), independent.estimate(0)
    assert found is not None
    assert other is not None
    assert found.variance == pytest.approx(float(np.square(first_G).sum()), rel=1e-9)
    assert other.variance == pytest.approx(found.variance / 10, rel=0.3)
    assert MeanEstimate(5).estimate(0) is None
