"""Test that drift is found, and that a year of unchanged nights raises an alarm as rarely as it says."""

import numpy as np
import pytest
from scipy.stats import binom, kstest

from model.metrics.drift import Wealth, conformal_ranks

ALPHA = 0.05


@pytest.mark.parametrize("decimals", [None, 0])
def test_ranks_of_unchanged_numbers_are_uniform_whatever_their_ties(decimals):
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=4000)
    numbers = numbers if decimals is None else numbers.round(decimals)
    assert kstest(conformal_ranks(numbers[:1000], numbers[1000:]), "uniform").pvalue > 0.01


def test_unchanged_nights_raise_an_alarm_in_at_most_their_share_of_quarters():
    rng, years = np.random.default_rng(1), 80
    alarms = 0
    for _ in range(years):
        wealth = Wealth()
        for night in rng.random((90, 50)):
            wealth = wealth.bet(night)
        alarms += wealth.is_alarm(ALPHA)
    assert alarms <= binom.ppf(0.999, years, ALPHA)


def test_a_short_reference_that_all_nights_share_raises_no_more_alarms():
    rng, years = np.random.default_rng(2), 60
    alarms = 0
    for year in range(years):
        numbers = rng.normal(size=60 + 20 * 50).round(1)
        wealth = Wealth()
        for night in range(20):
            end = 60 + 50 * night
            wealth = wealth.bet(conformal_ranks(numbers[:end], numbers[end : end + 50], seed=1000 * year + night))
        alarms += wealth.is_alarm(ALPHA)
    assert alarms <= binom.ppf(0.999, years, ALPHA)


def test_a_change_after_a_quiet_year_is_found_within_days():
    rng, wealth = np.random.default_rng(4), Wealth()
    for night in rng.random((365, 100)):
        wealth = wealth.bet(night)
    for night in rng.random((5, 100)):
        wealth = wealth.bet(night**2)
    assert wealth.is_alarm(0.001)


@pytest.mark.parametrize("change", [lambda x: x + 1, lambda x: 3 * x])
def test_a_change_is_found_within_days(change):
    rng = np.random.default_rng(3)
    history, wealth = rng.normal(size=2000), Wealth()
    for night in range(10):
        new = change(rng.normal(size=200))
        wealth = wealth.bet(conformal_ranks(history, new, seed=night))
        history = np.concatenate([history, new])
    assert wealth.is_alarm(0.001)
