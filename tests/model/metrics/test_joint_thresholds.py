"""Test that thresholds found together keep one budget of false alarms and catch what can be caught."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.metrics.bags import NEVER, apply_thresholds, make_bags
from model.metrics.joint_thresholds import plan_any_item, plan_each_class, plan_jointly


def draw_bags(seed, num=400, num_classes=3, decimals=None, series=1):
    rng = np.random.default_rng(seed)
    labels = (rng.random((num, num_classes)) < 0.1).astype(np.int8)
    labels[rng.random((num, num_classes)) < 0.02] = -1
    logits = (rng.normal(size=labels.shape) * rng.uniform(0.5, 3, num_classes) + 2 * labels).astype(np.float32)
    logits = logits if decimals is None else logits.round(decimals)
    return logits, labels, np.arange(num) // series


def count(logits, labels, bags, thresholds):
    """Clean and caught bags, bag by bag."""
    clean, false, caught = 0, 0, 0
    for bag in np.unique(bags):
        rows = bags == bag
        alarm = bool((logits[rows] >= thresholds).any())
        is_clean = bool((labels[rows] == 0).all())
        clean, false = clean + is_clean, false + (is_clean and alarm)
        caught += alarm and bool((labels[rows] == 1).any())
    return clean, false, caught


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([0, 1, 7.5, 10, 50, 300, 1000]),
    st.sampled_from([None, 0, 1]),
    st.integers(1, 4),
)
def test_the_budget_is_kept_over_all_classes_whatever_the_ties_and_bags(seed, per_1000, decimals, series):
    logits, labels, bags = draw_bags(seed, 160, 3, decimals, series)
    made = make_bags(logits, labels, bags)
    joint, single = plan_jointly(made, per_1000), plan_any_item(made, per_1000)
    for plan in (joint, single):
        clean, false, caught = count(logits, labels, bags, plan.thresholds_K)
        assert (plan.num_clean, plan.num_false, plan.num_caught) == (clean, false, caught)
        assert 1000 * false <= per_1000 * clean + 1e-6
    assert joint.num_caught >= single.num_caught
    assert (joint.thresholds_K < NEVER).all() == (labels == 1).any(axis=0).all()


@pytest.mark.parametrize("seed", range(40))
def test_the_budget_is_kept_where_float32_scores_lie_close_together(seed):
    logits, labels, bags = draw_bags(seed, num=500, num_classes=5)
    near = (logits / 2**18 - 3).astype(np.float32)  # neighbours among float32: a middle must not be rounded to either
    for per_1000 in (10, 20, 50):
        plan = plan_jointly(make_bags(near, labels, bags), per_1000)
        clean, false, _ = count(near, labels, bags, plan.thresholds_K)
        assert plan.num_false == false <= per_1000 * clean / 1000


@pytest.mark.parametrize("seed", range(12))
def test_it_catches_nearly_what_the_best_of_all_thresholds_does(seed):
    logits, labels, bags = draw_bags(seed, 120, 2)
    made = make_bags(logits, labels, bags)
    clean, item = logits[made.is_clean_G], logits[made.has_item_G]
    budget = int(0.05 * len(clean))
    cuts = [np.r_[np.unique(logits[:, k]), NEVER] for k in range(2)]
    false = [clean[:, k, None] >= cuts[k] for k in range(2)]
    caught = [item[:, k, None] >= cuts[k] for k in range(2)]
    best = 0
    for i, j in itertools.product(range(len(cuts[0])), range(len(cuts[1]))):
        if (false[0][:, i] | false[1][:, j]).sum() <= budget:
            best = max(best, (caught[0][:, i] | caught[1][:, j]).sum())
    assert plan_jointly(made, 50).num_caught >= best - 1


def test_thresholds_lie_between_scores_so_that_a_class_whose_positives_lie_low_can_alarm():
    logits = np.array([[5, 0], [4, 1], [3, 2], [0, 3], [9, -5]], np.float32)
    labels = np.array([[0, 0], [0, 0], [0, 0], [0, 0], [1, 0]])
    labels[0, 1] = 1
    plan = plan_jointly(make_bags(logits, labels, np.arange(5)), 0)
    assert plan.thresholds_K.tolist() == [4.5, np.nextafter(3.0, 4)] and plan.num_false == 0
    each = plan_each_class(logits, labels, 250)
    assert each.tolist() == [7.0, 2.5] and np.isfinite(each).all()


def test_a_class_that_no_bag_holds_has_no_threshold():
    logits, labels, bags = draw_bags(0)
    labels[:, 1] = 0
    made = make_bags(logits, labels, bags)
    for plan in (plan_jointly(made, 20), plan_any_item(made, 20)):
        assert np.flatnonzero(plan.thresholds_K == NEVER).tolist() == [1]
    assert plan_each_class(logits, labels, 20)[1] == NEVER


@pytest.mark.parametrize("plan", [plan_jointly, plan_any_item])
def test_a_class_without_scores_has_no_threshold_and_its_bags_are_missed(plan):
    logits, labels, _ = draw_bags(3)
    logits[:, 2] = -np.inf
    bags = make_bags(logits, labels, np.arange(len(logits)))
    found = plan(bags, 50)
    assert found.thresholds_K[2] == NEVER and (found.thresholds_K[:2] < NEVER).all()
    assert found.num_with_item == (labels == 1).any(axis=1).sum() and found.num_false <= 0.05 * found.num_clean
    logits[labels[:, 2] == 1, 2] = 5.0  # a class that only some scans have a score of
    partly = plan(make_bags(logits, labels, np.arange(len(logits))), 50)
    assert partly.num_caught >= (labels[:, 2] == 1).sum() and np.isfinite(partly.thresholds_K).all()


def test_a_bag_with_an_unknown_label_and_no_item_counts_for_nothing():
    logits, labels = np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 0.0]], np.float32), np.array([[0, 0], [0, -1], [1, -1]])
    plan = apply_thresholds(make_bags(logits, labels, np.arange(3)), np.zeros(2))
    assert (plan.num_clean, plan.num_false, plan.num_with_item, plan.num_caught) == (1, 1, 1, 1)
