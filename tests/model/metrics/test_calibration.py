"""Calibration agrees with scikit-learn and with a count bin by bin."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from model.metrics.calibration import rate_calibration

SCORES = st.sampled_from([0.0, 1 / 3, 0.2, 0.4, 0.6, 0.999, 1.0]) | st.floats(0, 1, width=32)
ROWS = st.lists(st.tuples(SCORES, st.booleans()), min_size=1, max_size=50)


def rate(rows, num_bins=15):
    scores, present = zip(*rows, strict=True)
    return rate_calibration(np.array(scores), np.array(present), num_bins)


@given(ROWS)
def test_the_brier_score_is_scikit_learns(rows):
    scores, present = zip(*rows, strict=True)
    assert rate(rows).brier == pytest.approx(brier_score_loss(present, scores, labels=[False, True]), abs=1e-12)


@given(ROWS, st.integers(1, 20))
def test_the_expected_error_is_a_count_bin_by_bin(rows, num_bins):
    total = 0.0
    for b in range(num_bins):
        inside = [
            (score, present)
            for score, present in rows
            if b <= score * num_bins < b + 1 or (b == num_bins - 1 and score == 1.0)
        ]
        if inside:
            mean_score = sum(score for score, _ in inside) / len(inside)
            share = sum(present for _, present in inside) / len(inside)
            total += len(inside) / len(rows) * abs(mean_score - share)
    assert rate(rows, num_bins).expected_error == pytest.approx(total, abs=1e-12)


def test_reliability_is_scikit_learns_calibration_curve():
    random = np.random.default_rng(2)
    scores = random.random(5000)
    present = random.random(5000) < scores**2
    ours = rate_calibration(scores, present)
    share, mean_score = calibration_curve(present, scores, n_bins=15, strategy="uniform")
    np.testing.assert_allclose(ours.positive_share_B, share, atol=1e-12)
    np.testing.assert_allclose(ours.mean_score_B, mean_score, atol=1e-12)
    assert ours.num_scans_B.sum() == 5000


def test_scores_that_are_the_shares_have_no_error():
    figures = rate([(0.25, True), (0.25, False), (0.25, False), (0.25, False)])
    assert figures.expected_error == 0
    assert np.isnan(figures.mean_score_B).sum() == 14


def test_without_scans_nothing_is_defined():
    figures = rate_calibration(np.zeros(0), np.zeros(0, bool))
    assert (figures.expected_error, figures.brier) == (None, None)
