"""Platt scaling fits what a logistic regression fits, and never turns an order round."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.metrics.calibration import fit_platt
from model.metrics.ranking import rank


@pytest.mark.parametrize(("num_scans", "prevalence"), [(4000, 0.3), (100_000, 0.02)])
def test_the_fit_finds_the_curve_that_made_the_labels(num_scans, prevalence):
    random = np.random.default_rng(3)
    logits = random.normal(size=num_scans)
    offset = np.log(prevalence / (1 - prevalence))
    labels = (random.random(num_scans) < 1 / (1 + np.exp(-(2 * logits + offset)))).astype(np.int8)
    found = fit_platt(rank(logits, labels))
    assert found.slope == pytest.approx(2, abs=0.15)
    assert found.offset == pytest.approx(offset, abs=0.15)
    assert found.apply(logits).mean() == pytest.approx(labels.mean(), rel=0.01)


@given(st.lists(st.tuples(st.floats(-1e5, 1e5, allow_subnormal=False), st.sampled_from([-1, 0, 1])), max_size=20))
def test_any_scores_give_probabilities_in_the_order_of_the_scores(rows):
    scores = np.array([score for score, _ in rows], np.float64)
    labels = np.array([label for _, label in rows], np.int8)
    probabilities = fit_platt(rank(scores, labels)).apply(scores)
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    assert (np.diff(probabilities[np.argsort(scores, kind="stable")]) >= 0).all()


def test_separable_scans_stay_short_of_certainty():
    labels = np.array([0, 0, 1, 1], np.int8)
    assert fit_platt(rank(np.arange(4.0), labels)).apply(np.array([3.0]))[0] < 0.9
