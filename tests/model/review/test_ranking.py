"""Labels that scores, bags and peaks contradict come first, each with its reason."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from model.evaluation.scans.scored_scans import UNSCORED, join_predictions
from model.metrics.calibration import fit_platt
from model.metrics.ranking import rank as rank_scores
from model.review.evidence import weigh_bags, weigh_labels, weigh_scores
from model.review.ranking import SUSPECTS_SCHEMA, choose_suspects, describe_suspects, find_strongest
from shards.predictions.run import open_predictions
from tests.model.written import prediction, sample, write_dataset, write_predictions

BOX = ("Gun", 10, 10, 30, 30)
LABELS = arrays.arrays(np.int8, st.integers(1, 40), elements=st.sampled_from([-1, 0, 1]))


@pytest.fixture
def join(tmp_path):
    """Return a function that writes samples with logits and peaks, and joins them."""

    def join(samples, logits, peaks=None):
        dataset = write_dataset(tmp_path / "ds", samples)
        found = peaks or [None] * len(samples)
        rows = [prediction(of["key"], z, p) for of, z, p in zip(samples, logits, found, strict=True)]
        return join_predictions(open_predictions(write_predictions(tmp_path / "pred", dataset, rows)), dataset, "test")

    return join


def rank(scans, budget=100):
    evidence = weigh_labels(scans)
    rows = choose_suspects(find_strongest(evidence), budget)
    return describe_suspects(scans, evidence, rows, [f"sha of {scans.keys_N[row].as_py()}" for row in rows])


def series(num, label, logit):
    """Scans of bags of their own with a label and a score of guns."""
    return [sample(f"{label}{n}", (label, 0)) for n in range(num)], [(logit, -5.0)] * num


def test_a_label_that_the_score_contradicts_comes_first_and_says_so(join):
    absent, low = series(20, 0, -4.0)
    present, high = series(20, 1, 4.0)
    table = rank(join([*absent, sample("odd", (0, 0)), *present], [*low, (3.9, -5.0), *high]))
    assert table.schema == SUSPECTS_SCHEMA
    first = table.to_pylist()[0]
    assert (first["key"], first["sha256"], first["class"], first["label"]) == ("odd", "sha of odd", "Gun", 0)
    assert (
        first["reason"]
        == "Gun is labelled absent and scores 0.98, and 90.6 % of scans with such a score are labelled present"
    )


def test_a_label_that_the_rest_of_its_bag_does_not_share_is_doubtful_without_any_score(join):
    samples = [
        sample(f"{bag}{n}", (int(bag < 10 and (bag, n) != (3, 1)), 0), group=f"bag {bag}")
        for bag in range(20)
        for n in range(3)
    ]
    table = rank(join(samples, [(0.0, 0.0)] * 60))
    first = table.to_pylist()[0]
    assert (first["key"], first["group"]) == ("31", "bag 3")
    assert first["evidence_of_bag"] > 0
    assert "Gun is labelled absent, not so in 2 of 2 other scans of its bag" in first["reason"]


def test_a_peak_outside_its_boxes_is_doubtful_where_peaks_are_mostly_inside(join):
    samples = [sample(f"s{n}", (1, 0), [BOX]) for n in range(20)] + [sample("clean", (0, 0))]
    peaks = [[(20, 20), (1, 1)]] * 19 + [[(90, 90), (1, 1)]] * 2
    table = rank(join(samples, [(4.0, -4.0)] * 20 + [(-4.0, -4.0)], peaks))
    assert table["key"].to_pylist()[0] == "s19"
    assert "none of its boxes holds the peak of Gun (90, 90)" in table["reason"].to_pylist()[0]


def test_ranks_go_by_evidence_and_stop_at_the_budget(join):
    absent, low = series(30, 0, -4.0)
    present, high = series(30, 1, 4.0)
    odd = [sample(f"odd{n}", (0, 0)) for n in range(5)]
    scans = join([*absent, *odd, *present], [*low, *((float(n), -5.0) for n in range(5)), *high])
    table = rank(scans, budget=3)
    assert table["rank"].to_pylist() == [1, 2, 3]
    assert table["key"].to_pylist() == ["odd4", "odd3", "odd2"]
    assert np.all(np.diff(table["evidence"].to_numpy()) <= 0)


def test_scans_of_whose_labels_nothing_is_known_are_passed_over(join):
    scans = join([sample("a", (None, 1)), sample("b", (None, None))], [(9.0, 3.0), (9.0, -9.0)])
    assert all(np.isneginf(of.total_N[1]) for of in weigh_labels(scans))
    assert rank(scans).num_rows == 0


@given(LABELS, st.data())
def test_evidence_of_scores_is_the_log_odds_of_the_other_label(labels_N, data):
    logits_N = data.draw(arrays.arrays(np.float64, len(labels_N), elements=st.floats(-8, 8)))
    evidence_N = weigh_scores(logits_N, labels_N)
    known_N = labels_N >= 0
    assert not evidence_N[~known_N].any()
    if len(set(labels_N[known_N])) < 2:
        assert not evidence_N.any()
        return
    present_N = fit_platt(rank_scores(logits_N[known_N], labels_N[known_N])).apply(logits_N[known_N])
    other_N = np.where(labels_N[known_N] == 1, 1 - present_N, present_N)
    np.testing.assert_allclose(1 / (1 + np.exp(-evidence_N[known_N])), other_N, rtol=1e-6, atol=1e-12)


@given(LABELS, st.data())
def test_evidence_of_bags_is_the_mean_likelihood_ratio_of_the_others_labels(labels_N, data):
    groups_N = data.draw(arrays.arrays(np.int32, len(labels_N), elements=st.integers(0, 5)))
    pairs = {(one, other): 1 for one in (0, 1) for other in (0, 1)}
    of_bag = [np.flatnonzero(groups_N == group) for group in groups_N]
    for n, bag in enumerate(of_bag):
        for m in bag:
            if m != n and labels_N[n] >= 0 and labels_N[m] >= 0:
                pairs[int(labels_N[n]), int(labels_N[m])] += 1

    def likelihood(other, own):
        return pairs[own, other] / (pairs[own, 0] + pairs[own, 1])

    found_N = weigh_bags(labels_N, groups_N)
    for n, bag in enumerate(of_bag):
        others = [int(labels_N[m]) for m in bag if m != n and labels_N[m] >= 0]
        own = int(labels_N[n])
        ratios = [math.log(likelihood(other, 1 - own) / likelihood(other, own)) for other in others if own >= 0]
        assert found_N[n] == pytest.approx(np.mean(ratios) if ratios else 0, abs=1e-9)


def test_a_class_without_a_score_has_no_evidence_of_scores():
    evidence_N = weigh_scores(np.array([UNSCORED, 3.0, -3.0]), np.array([1, 1, 0], np.int8))
    assert evidence_N[0] == 0
