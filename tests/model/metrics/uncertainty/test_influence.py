"""Influences are the derivatives of figures by the weights of groups; their variances are DeLong's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.metrics import ranking as metrics
from model.metrics.uncertainty.influence import find_influences

ROWS = st.lists(
    st.tuples(st.sampled_from([-1.0, 0.0, 0.5, 2.0]) | st.floats(-3, 3, width=32), st.sampled_from([-1, 0, 1])),
    min_size=4,
    max_size=30,
)


def weighed_average_precision(scores_N, labels_N, weights_N):
    """Average precision of rows that count as their weights; written anew, slowly."""
    positive_N, total = labels_N == 1, 0.0
    for n in np.flatnonzero(positive_N):
        above_N = scores_N >= scores_N[n]
        true = weights_N[above_N & positive_N].sum()
        total += weights_N[n] * true / (true + weights_N[above_N & (labels_N == 0)].sum())
    return total / weights_N[positive_N].sum()


@given(ROWS)
def test_the_influence_of_a_scan_is_the_derivative_by_its_weight(rows):
    scores_N, labels_N = (np.array(column) for column in zip(*rows, strict=True))
    found = find_influences(scores_N, labels_N, np.arange(len(rows)), len(rows)).average_precision_G
    if not (labels_N == 1).any():
        assert not found.any()
        return
    slopes_N = np.zeros(len(rows))
    for n in range(len(rows)):
        figures = []
        for step in (-1e-6, 1e-6):
            weights_N = np.ones(len(rows))
            weights_N[n] += step
            figures.append(weighed_average_precision(scores_N, labels_N, weights_N))
        slopes_N[n] = (figures[1] - figures[0]) / 2e-6
    for side in (0, 1):  # each side around its own mean, for the numbers of positives and negatives are given
        if (labels_N == side).any():
            slopes_N[labels_N == side] -= slopes_N[labels_N == side].mean()
    assert found == pytest.approx(slopes_N, abs=1e-6)


def test_the_variance_of_an_auc_is_delongs():
    random = np.random.default_rng(1)
    labels_N = (np.arange(80) < 12).astype(np.int8)
    scores_N = (random.normal(size=80) + labels_N).round(1)
    beats = np.sign(scores_N[:12, None] - scores_N[None, 12:]) / 2 + 0.5
    expected = beats.mean(axis=1).var(ddof=1) / 12 + beats.mean(axis=0).var(ddof=1) / 68
    found = find_influences(scores_N, labels_N, np.arange(80), 80)
    assert found.roc_auc_variance == pytest.approx(expected, rel=1e-12)
    assert (found.effective_positives, found.effective_negatives) == (12, 68)


def test_copies_of_every_scan_change_nothing():
    random = np.random.default_rng(2)
    labels_N = (np.arange(60) < 10).astype(np.int8)
    scores_N = random.normal(size=60) + labels_N
    alone = find_influences(scores_N, labels_N, np.arange(60), 60)
    copied = find_influences(np.tile(scores_N, 4), np.tile(labels_N, 4), np.tile(np.arange(60), 4), 60)
    assert copied.roc_auc_variance == pytest.approx(alone.roc_auc_variance, rel=1e-9)
    assert copied.average_precision_variance == pytest.approx(alone.average_precision_variance, rel=1e-9)
    assert copied.effective_positives == alone.effective_positives


@pytest.mark.parametrize(("separation", "truth"), [(1.5, 0.335), (2.5, 0.721)])
def test_a_debiased_average_precision_is_that_of_all_scans_on_average(separation, truth):
    random = np.random.default_rng(3)
    labels_N = (np.arange(200) < 10).astype(np.int8)
    rankings = [metrics.rank(random.normal(size=200) + separation * labels_N, labels_N) for _ in range(1000)]
    found = np.mean([metrics.debiased_average_precision(ranking) for ranking in rankings])
    biased = np.mean([metrics.average_precision(metrics.trace_curve(ranking)) for ranking in rankings])
    assert found == pytest.approx(truth, abs=0.016)
    assert biased > found
