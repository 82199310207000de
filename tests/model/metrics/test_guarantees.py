"""Test that limits with a confidence hold on new scans."""

import numpy as np
import pytest
from scipy.stats import binom

from model.metrics.guarantees import (
    count_allowed,
    count_needed,
    limit_false_alarms,
    limit_misses,
    threshold_of_highest,
    upper_bound,
)
from model.metrics.joint_thresholds import NEVER, Bags

ROUNDS, CONFIDENCE = 2000, 0.9
MOST_BROKEN = binom.ppf(0.999, ROUNDS, 1 - CONFIDENCE) / ROUNDS
"""More than this share of the rounds breaks a promise of this confidence once in 1,000 tests."""


def draw(rng, decimals, size):
    scores = rng.normal(size=size)
    return scores if decimals is None else scores.round(decimals)


@pytest.mark.parametrize("decimals", [None, 0, 1])
def test_a_limit_of_false_alarms_is_broken_in_at_most_its_share_of_draws(decimals):
    rng = np.random.default_rng(7)
    population = np.sort(draw(rng, decimals, 400_000))
    num, max_rate = 300, 0.05
    allowed = count_allowed(num, max_rate, CONFIDENCE)
    scores = draw(rng, decimals, (ROUNDS, num))
    thresholds = np.array([threshold_of_highest(of, of, allowed) for of in scores])
    rates = 1 - np.searchsorted(population, thresholds, side="left") / len(population)
    assert (rates > max_rate + 1e-4).mean() <= MOST_BROKEN
    assert decimals is not None or (rates > max_rate).mean() > 0.03  # not broken so rarely only because it is lax


@pytest.mark.parametrize("decimals", [None, 0])
def test_limits_of_misses_are_broken_together_in_at_most_their_share_of_draws(decimals):
    rng = np.random.default_rng(8)
    population = np.sort(draw(rng, decimals, 400_000))
    broken = 0
    for _ in range(ROUNDS):
        logits = draw(rng, decimals, (120, 2))
        bags = Bags(logits, np.repeat([[True, False], [False, True]], 60, axis=0), np.zeros(120, bool))
        found = limit_misses(bags, {0: 0.1, 1: 0.2}, CONFIDENCE)
        missed = np.searchsorted(population, found.thresholds_K, side="left") / len(population)
        broken += bool((missed > np.array([0.1, 0.2]) + 1e-4).any())
    assert broken / ROUNDS <= MOST_BROKEN


def test_thresholds_learnt_on_one_half_keep_the_limit_on_new_bags():
    rng, broken, rounds = np.random.default_rng(9), 0, 20
    for _ in range(rounds):
        clean, item = rng.normal(size=(800, 2)).round(1), rng.normal(size=(60, 2)).round(1) + 2
        logits = np.concatenate([clean, item])
        present = np.zeros((860, 2), bool)
        present[800:] = rng.random((60, 2)) < 0.6
        bags = Bags(logits, present, np.arange(860) < 800)
        found = limit_false_alarms(bags, 0.05, CONFIDENCE, rng.random(860) < 0.5)
        assert found.rule == "joint"
        new = rng.normal(size=(50_000, 2)).round(1)
        broken += bool((new >= found.thresholds_K).any(axis=1).mean() > 0.05 + 0.002)
    assert broken <= binom.ppf(0.999, rounds, 1 - CONFIDENCE)


@pytest.mark.parametrize(("max_rate", "needed"), [(0.001, 2302), (0.01, 230), (0.1, 22)])
def test_a_limit_takes_so_many_bags(max_rate, needed):
    assert count_needed(max_rate, 0.9) == needed
    assert count_allowed(needed, max_rate, 0.9) == 0 and count_allowed(needed - 1, max_rate, 0.9) == -1
    assert upper_bound(0, needed, 0.9) <= max_rate < upper_bound(0, needed - 1, 0.9)


def test_too_few_bags_promise_nothing_and_say_how_many_it_takes():
    bags = Bags(np.zeros((255, 1)), np.zeros((255, 1), bool), np.ones(255, bool))
    found = limit_false_alarms(bags, 0.001, 0.9, np.zeros(255, bool))
    assert found.thresholds_K.tolist() == [NEVER] and not found.is_kept
    (promise,) = found.promises
    assert (promise.num_bags, promise.num_wrong, promise.upper_bound, promise.num_needed) == (255, None, None, 2302)
