"""Test that drift is found, and that a year of unchanged nights raises an alarm as rarely as it says."""

import itertools

import numpy as np
import pytest
from scipy.stats import binom, kstest

from model.metrics.drift import EDGES, conformal_ranks, conformal_ranks_of_shares, count_ranks, log_wealth

ALPHA = 0.05
WIDTHS = np.diff(EDGES)


def highest_of(nights_TB):
    """The highest wealth of a series of nights, each weighed when it was the last."""
    return max(log_wealth(nights_TB[: night + 1]) for night in range(len(nights_TB)))


def nights_until_alarm(counts_TB, quiet, alpha):
    """Nights from the change on, or None."""
    found = [t for t in range(quiet, len(counts_TB)) if log_wealth(counts_TB[: t + 1]) >= np.log(1 / alpha)]
    return found[0] - quiet + 1 if found else None


@pytest.mark.parametrize("decimals", [None, 0])
def test_ranks_of_unchanged_numbers_are_uniform_whatever_their_ties(decimals):
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=4000)
    numbers = numbers if decimals is None else numbers.round(decimals)
    assert kstest(conformal_ranks(numbers[:1000], numbers[1000:]), "uniform").pvalue > 0.01


def test_ranks_of_shares_are_those_of_zeros_and_ones():
    rng = np.random.default_rng(1)
    earlier, new = rng.random(50) < 0.1, rng.random(40) < 0.2
    expected = conformal_ranks(earlier.astype(float), new.astype(float), seed=3)
    assert np.array_equal(conformal_ranks_of_shares(int(earlier.sum()), 50, new, seed=3), expected)
    assert kstest(conformal_ranks_of_shares(10, 1000, rng.random(4000) < 0.01), "uniform").pvalue > 0.01


@pytest.mark.parametrize(("num_nights", "num_ranks"), [(1, 1), (1, 2), (2, 1), (3, 1)])
def test_the_wealth_has_mean_1_exactly_as_long_as_ranks_are_uniform(num_nights, num_ranks):
    places = range(len(WIDTHS))
    mean = 0.0
    for chosen in itertools.product(places, repeat=num_nights * num_ranks):
        nights = np.array(chosen).reshape(num_nights, num_ranks)
        counts_TB = np.stack([np.bincount(night, minlength=len(WIDTHS)) for night in nights])
        mean += WIDTHS[list(chosen)].prod() * np.exp(log_wealth(counts_TB))
    assert mean == pytest.approx(1, abs=1e-9)


@pytest.mark.slow
def test_unchanged_nights_raise_an_alarm_in_at_most_their_share_of_records():
    # Nights of 40, each ranked among the reference and all nights before, with ties: what a record does.
    rng, records, nights = np.random.default_rng(2), 40, 100
    alarms = 0
    for record in range(records):
        numbers = rng.normal(size=100 + nights * 40).round(1)
        counts = []
        for night in range(nights):
            end = 100 + 40 * night
            counts.append(count_ranks(conformal_ranks(numbers[:end], numbers[end : end + 40], seed=(record, night))))
        alarms += highest_of(np.array(counts)) >= np.log(1 / ALPHA)
    assert alarms <= binom.ppf(0.999, records, ALPHA)


def test_a_small_reference_raises_no_more_alarms():
    rng, runs = np.random.default_rng(3), 60
    alarms = 0
    for run in range(runs):
        is_true = rng.random(20 + 30 * 100) < 0.02
        counts = []
        for night in range(30):
            end = 20 + 100 * night
            ranks = conformal_ranks_of_shares(int(is_true[:end].sum()), end, is_true[end : end + 100], (run, night))
            counts.append(count_ranks(ranks))
        alarms += highest_of(np.array(counts)) >= np.log(1 / ALPHA)
    assert alarms <= binom.ppf(0.999, runs, ALPHA)


@pytest.mark.parametrize("quiet", [5, 364])
@pytest.mark.parametrize(
    ("change", "within"),
    [(lambda x: x + 0.5, 2), (lambda x: x + 0.2, 8), (lambda x: 1.5 * x, 2)],
    ids=["far", "near", "wider"],
)
def test_a_change_is_found_within_nights_however_long_all_was_well(quiet, change, within):
    rng, history = np.random.default_rng(4), np.random.default_rng(5).normal(size=5000)
    before = rng.multinomial(500, WIDTHS, size=quiet)
    after = [count_ranks(conformal_ranks(history, change(rng.normal(size=500)), night)) for night in range(within)]
    assert nights_until_alarm(np.vstack([before, after]), quiet, 0.01 / 20) is not None


@pytest.mark.parametrize("quiet", [5, 364])
def test_twice_as_many_alarms_are_found_within_four_nights(quiet):
    rng = np.random.default_rng(6)
    before = rng.multinomial(5000, WIDTHS, size=quiet)
    num_true, num_seen, after = 500, 50_000, []
    for night in range(4):
        is_true = rng.random(5000) < 0.02
        after.append(count_ranks(conformal_ranks_of_shares(num_true, num_seen, is_true, night)))
        num_true, num_seen = num_true + int(is_true.sum()), num_seen + len(is_true)
    assert nights_until_alarm(np.vstack([before, after]), quiet, 0.01 / 20) is not None


def test_no_night_and_nights_without_numbers_prove_nothing():
    assert log_wealth(np.zeros((0, len(WIDTHS)))) == 0
    assert log_wealth(np.zeros((7, len(WIDTHS)))) == pytest.approx(0)
