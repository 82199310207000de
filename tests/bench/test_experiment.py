"""Tests of the experiment's parts: what is composed, weighted average precision, and the rule."""

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.metrics import average_precision_score

from model.metrics.uncertainty.intervals import Interval
from model.networks.registry import count_parameters
from tests.bench.experiment import rating, runs, training
from tests.bench.experiment.compositions import (
    CLASSES,
    HELD_OUT,
    NO_ITEM,
    NUM_FOLDS,
    RATIOS,
    TEST,
    TRAINING,
    Sizes,
    Sources,
    assign_parts,
    compose,
    multiply,
    orient,
)
from tests.bench.experiment.features import Features
from tests.bench.experiment.report import draw, measure, write_tables
from tests.bench.experiment.runs import CELLS, Bench
from tests.bench.experiment.training import BATCH, NUM_STEPS, SYSTEMS, Data, Head, draw_batches

SIZES = Sizes(2, 2, 60, 3, 200)


@pytest.fixture(scope="module")
def sources():
    """240 scans of 120 bags, half without an item."""
    bag_N = np.arange(240) // 2
    return Sources(np.where(bag_N % 2 == 0, NO_ITEM, bag_N // 2 % len(CLASSES)), bag_N)


@pytest.fixture(scope="module")
def plan(sources):
    return compose(sources, SIZES)


def test_no_bag_is_on_two_sides_of_a_fold_and_every_positive_is_tested_in_one_fold(sources, plan):
    tested = []
    for fold in range(NUM_FOLDS):
        bags = {}
        for split in (TRAINING, HELD_OUT, TEST):
            rows = plan.rows(fold, split)
            bags[split] = set(sources.bag_N[plan.first_M[rows]]) | set(sources.bag_N[plan.second_M[rows]])
        assert not bags[TRAINING] & bags[HELD_OUT] and not (bags[TRAINING] | bags[HELD_OUT]) & bags[TEST]
        rows = plan.rows(fold, TEST)
        tested += list(set(plan.first_M[rows][plan.class_M[rows] != NO_ITEM]))
    assert sorted(tested) == list(np.flatnonzero(sources.class_N != NO_ITEM))


def test_positives_and_negatives_are_made_alike(sources, plan):
    assert (sources.class_N[plan.first_M] == plan.class_M).all()  # the label is that of the first factor
    assert (sources.class_N[plan.second_M] == NO_ITEM).all()
    assert (sources.bag_N[plan.first_M] != sources.bag_N[plan.second_M]).all()
    for is_positive in (False, True):
        of_label = plan.orientations_M2[(plan.class_M != NO_ITEM) == is_positive]
        assert all(np.bincount(of_label[:, factor], minlength=4).min() > 0 for factor in (0, 1))
    # Of the same factors the product is the same, whatever the label.
    images_NHWC = np.random.default_rng(0).integers(0, 256, (240, 6, 5, 3), dtype=np.uint8)
    for row, image in enumerate(multiply(images_NHWC, plan, np.arange(40))):
        factors = [
            orient(images_NHWC[source], turn) / 255
            for source, turn in zip((plan.first_M[row], plan.second_M[row]), plan.orientations_M2[row], strict=True)
        ]
        np.testing.assert_allclose(image, 255 * factors[0] * factors[1], rtol=1e-5)


def test_the_negatives_of_a_ratio_are_among_those_of_the_next(plan):
    for fold in range(NUM_FOLDS):
        sets = [set(plan.rows(fold, TRAINING, ratio)) for ratio in RATIOS]
        for rows, ratio in zip(sets, RATIOS, strict=True):
            assert len(rows) == SIZES.positives * (1 + ratio)
        assert sets[0] < sets[1] < sets[2]


def test_bags_with_two_classes_stay_together_and_every_part_has_every_class(sources):
    class_N = sources.class_N.copy()
    class_N[2], class_N[3] = 0, 1
    part_N = assign_parts(Sources(class_N, sources.bag_N))
    assert part_N[2] == part_N[3]
    for part in range(2 * NUM_FOLDS):
        assert set(class_N[part_N == part]) == {NO_ITEM, *range(len(CLASSES))}


def test_weighted_average_precision_is_that_of_scikit_learn_with_ties_and_scans_that_weigh_nothing():
    random = np.random.default_rng(0)
    for _ in range(50):
        scores_M, is_positive_M = random.integers(0, 12, 40) / 4, random.random(40) < 0.3
        is_positive_M[0] = True
        weights_RM = random.integers(0, 3, (3, 40)) * random.random(40)
        weights_RM[:, 0] = 1
        found_R = rating.weighted_average_precision(scores_M, is_positive_M, weights_RM)
        for found, weights_M in zip(found_R, weights_RM, strict=True):
            there = weights_M > 0
            expected = average_precision_score(is_positive_M[there], scores_M[there], sample_weight=weights_M[there])
            assert found == pytest.approx(expected, abs=1e-12)


def test_weighting_negatives_gives_the_average_precision_of_banks_that_are_thinned_to_the_prevalence():
    """Positives are thinned from a large bank until they are as rare as the weights say."""
    random = np.random.default_rng(1)
    class_M = np.repeat([NO_ITEM, 0, 1, 2], [3000, 100, 100, 100])
    scores_M = random.normal(size=len(class_M)) + 1.5 * (class_M == 0)
    weights_1M = rating.at_prevalence(np.ones((1, len(class_M))), class_M, ratio=20)
    weighted = rating.weighted_average_precision(scores_M, class_M == 0, weights_1M)[0]
    thinned = []
    for _ in range(400):
        kept = [random.choice(np.flatnonzero(class_M == number), 50, replace=False) for number in range(3)]
        rows = np.concatenate([np.flatnonzero(class_M == NO_ITEM), *kept])
        thinned.append(average_precision_score(class_M[rows] == 0, scores_M[rows]))
    standard_error = np.std(thinned) / 20
    assert abs(np.mean(thinned) - weighted) < 4 * standard_error + 0.01  # few positives count themselves: a small bias
    assert weighted < average_precision_score(class_M == 0, scores_M) - 0.03


def test_among_items_scans_without_one_do_not_count():
    random = np.random.default_rng(2)
    class_M = np.repeat([NO_ITEM, 0, 1, 2], [50, 20, 30, 40])
    logits_SMK = random.normal(size=(2, 140, 3))
    found_SR = rating.rate_among_items(logits_SMK, class_M, np.ones((1, 140)), ratio=1)
    logits_SMK[:, class_M == NO_ITEM] += 9
    np.testing.assert_array_equal(rating.rate_among_items(logits_SMK, class_M, np.ones((1, 140)), ratio=1), found_SR)
    expected = []
    for number in range(3):
        is_own_M, is_other_M = class_M == number, (class_M != number) & (class_M != NO_ITEM)
        weights_M = is_own_M / is_own_M.sum() + 3 * is_other_M / is_other_M.sum()
        expected.append(average_precision_score(is_own_M, logits_SMK[0, :, number], sample_weight=weights_M))
    assert found_SR[0, 0] == pytest.approx(np.mean(expected))


def test_a_round_counts_a_scan_as_often_as_both_of_its_bags_were_drawn(sources, plan):
    rows = plan.rows(0, TEST)
    counts_RM = rating.draw_bags(plan, rows, sources, 400, seed=0)
    assert (counts_RM[0] == 1).all()
    assert abs(counts_RM.mean() - 1) < 0.05
    one, other = rows[-1], next(row for row in rows[:-1] if plan.second_M[row] == plan.first_M[rows[-1]])
    places = [list(rows).index(row) for row in (one, other)]
    assert scipy.stats.pearsonr(*counts_RM[1:, places].T).statistic > 0.2  # they share a bag


def test_a_system_does_not_grow_over_itself_and_the_verdict_follows_from_the_interval():
    random = np.random.default_rng(0)
    found_of = {of: rating.pool_folds(random.random((3, 3, 101)), 0) for of in (("plain", 10), ("plain", 100))}
    alike = found_of | {("chr", ratio): found_of["plain", ratio] for ratio in (10, 100)}
    found = rating.contrast(alike, rating.growth("chr", "plain"))
    assert abs(found.value) < 1e-12 and found.interval == Interval(0, 0)
    for low, high, verdict in (
        (0.001, 0.1, "grows"),
        (-0.1, 0.009, "does not grow at this scale"),
        (-0.1, 0.02, "undecided"),
    ):
        assert rating.judge(rating.Contrast(0.0, Interval(low, high))) == verdict


def test_heads_begin_at_the_prior_and_the_added_convolution_has_the_weights_of_chr():
    depths, prior_K = [40, 112, 320], torch.tensor([-4.0, -5.0, -6.0])
    heads = {
        name: Head(SYSTEMS[name], depths[-len(SYSTEMS[name].levels) :], prior_K) for name in ("plain + 1x1", "chr")
    }
    counts = [count_parameters(head) for head in heads.values()]
    assert abs(counts[0] / counts[1] - 1) < 0.001
    logits_LBK = heads["chr"](
        [torch.randn(2, depth, side, side) for depth, side in zip(depths, (8, 4, 2), strict=True)]
    )
    assert logits_LBK.shape == (3, 2, 3)
    np.testing.assert_allclose(logits_LBK.detach(), prior_K.expand(3, 2, 3), atol=1)


def test_the_classifier_of_pooled_features_is_that_of_maps():
    maps = [torch.randn(2, depth, 4, 4) for depth in (40, 112, 320)]
    head = Head(SYSTEMS["h"], [40, 112, 320], torch.zeros(3))
    pooled = [level.mean(dim=(2, 3), keepdim=True) for level in maps]
    torch.testing.assert_close(head(maps), head(pooled), atol=1e-6, rtol=1e-5)


def test_each_run_sees_the_same_number_of_scans_and_each_scan_once_before_any_comes_again():
    batches = np.stack(list(draw_batches(np.arange(1000), seed=0)))
    assert batches.shape == (NUM_STEPS, BATCH)
    assert len(set(batches.ravel()[:1000])) == 1000


@pytest.fixture
def bench(tmp_path, sources, plan, monkeypatch):
    """A folder with random features, and runs of three steps."""
    random, num_scans = np.random.default_rng(0), len(plan.class_M)
    for name, depth, side in (("level-1", 4, 4), ("level-2", 6, 2), ("level-3", 8, 1), ("head", 12, 1)):
        maps = random.normal(size=(num_scans, side, side, depth)).astype(np.float16)
        np.save(tmp_path / f"{name}.npy", maps)
        np.save(tmp_path / f"{name}-pooled.npy", maps.mean(axis=(1, 2), dtype=np.float32))
    monkeypatch.setattr(training, "NUM_STEPS", 3)
    monkeypatch.setattr(rating, "NUM_ROUNDS", 20)
    (tmp_path / "runs").mkdir()
    return Bench(tmp_path, sources, Data(plan, Features(tmp_path)), random.random(num_scans))


def test_a_stopped_experiment_resumes_and_rates_what_is_complete(bench, monkeypatch):
    assert bench.train(CELLS, deadline=0.0) == []
    cells = bench.train([("plain", 10), ("plain", 100), ("chr", 10), ("chr", 100)])
    tables = write_tables(bench.rate(cells))
    assert "Primary: " in tables and "not run" in tables  # 1:30
    monkeypatch.setattr(runs, "train", None)  # whatever trains again fails
    results = bench.rate(bench.train(cells, deadline=0.0))
    assert write_tables(results) == tables
    assert draw(results).startswith("<?xml")
    growths = [found for found in measure(results) if found.what == "growth of chr - plain"]
    learned = {cell: results.learned[cell].mean for cell in cells}
    gains = [learned["chr", ratio] - learned["plain", ratio] for ratio in (100, 10)]
    assert [found.value for found in growths] == [pytest.approx(gains[0] - gains[1])]
