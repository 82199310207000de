"""Test that scores and labels of bags are those of plain loops over their scans."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from model.metrics.bags import Fusion, fuse_labels, fuse_logits, make_bags

BAGS = nps.arrays(np.int64, st.integers(1, 9), elements=st.integers(0, 4))


def rows_of(bags_N):
    return [np.flatnonzero(bags_N == bag) for bag in np.unique(bags_N)]


@given(BAGS, st.data())
def test_fused_logits_are_those_of_a_loop_over_bags(bags_N, data):
    scores = st.floats(-12, 12) | st.just(-np.inf)
    logits_NK = data.draw(nps.arrays(np.float64, (len(bags_N), 2), elements=scores))
    for g, rows in enumerate(rows_of(bags_N)):
        for k in range(2):
            own = logits_NK[rows, k]
            known = own[own > -np.inf]
            surprise = np.log1p(np.exp(known)).sum()  # of no scan holding it, the negative log of the chance
            expected: dict[Fusion, float] = {
                "max": own.max(),
                "mean": known.mean() if len(known) else -np.inf,
                "noisy-or": surprise + np.log1p(-np.exp(-surprise)) if len(known) else -np.inf,
            }
            for fusion, value in expected.items():
                found = fuse_logits(logits_NK, bags_N, fusion)[g, k]
                assert found == value or found == pytest.approx(value, rel=1e-6, abs=1e-6)


def test_noisy_or_keeps_scores_that_round_to_0_or_1_apart():
    logits_N1 = np.array([[-750.0], [-750.0], [750.0], [749.0]])
    low, high = fuse_logits(logits_N1, np.array([0, 0, 1, 1]), "noisy-or")[:, 0]
    assert low == pytest.approx(-750 + np.log(2))
    assert high == pytest.approx(1499)


@given(BAGS, st.data())
def test_a_bag_has_what_a_scan_has_and_is_unknown_where_only_an_unknown_label_may_have_it(bags_N, data):
    labels_NK = data.draw(nps.arrays(np.int8, (len(bags_N), 3), elements=st.integers(-1, 1)))
    found_GK = fuse_labels(labels_NK, bags_N)
    for g, rows in enumerate(rows_of(bags_N)):
        for k in range(3):
            own = labels_NK[rows, k].tolist()
            assert found_GK[g, k] == (1 if 1 in own else -1 if -1 in own else 0)


@given(BAGS)
def test_the_highest_scores_are_those_that_bags_alarm_by(bags_N):
    logits_NK = np.random.default_rng(0).normal(size=(len(bags_N), 2)).astype(np.float32)
    bags = make_bags(logits_NK, np.zeros((len(bags_N), 2), np.int8), bags_N)
    fused_GK = fuse_logits(logits_NK, bags_N, "max")
    assert fused_GK.dtype == np.float32
    if len(fused_GK) < len(bags_N):
        np.testing.assert_array_equal(bags.logits_GK, fused_GK)
