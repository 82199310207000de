"""Tests of plan and lists against Table 1 and Section 3.1 of the CHR paper."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.phantom.corpus_plan import (
    CorpusPlan,
    deal_items,
    load_census,
    make_lists,
    split_negatives,
    split_positives,
)
from shards.format.classes import load_class_set

SCORED = load_class_set("sixray").scored

plans = st.builds(
    CorpusPlan, seed=st.integers(0, 50), num_scans=st.integers(1, 700), negatives_per_positive=st.integers(0, 12)
)


def make_plan(num_scans: int, negatives_per_positive: int = 10) -> CorpusPlan:
    return CorpusPlan(seed=7, num_scans=num_scans, negatives_per_positive=negatives_per_positive)


@given(plans)
@settings(max_examples=60, deadline=None)
def test_every_scan_is_in_one_split_and_every_positive_in_list_10(plan):
    items = deal_items(plan)
    lists = make_lists(plan, items)
    assert len(items) == plan.num_positives
    assert all(items)
    split_of: dict[str, str] = {}
    for (_, split), rows in lists.items():
        names = [row.name for row in rows]
        assert len(set(names)) == len(names)
        for name in names:
            assert split_of.setdefault(name, split) == split
    listed = {row.name for (subset, _), rows in lists.items() if subset == "10" for row in rows}
    assert sum(name.startswith("P") for name in listed) == plan.num_positives
    assert set(split_of) == set(plan.names())


@given(st.integers(0, 100), st.integers(60, 400))
@settings(max_examples=40, deadline=None)
def test_each_scored_class_is_trained_on_and_tested_on(seed, num_positives):
    plan = CorpusPlan(seed=seed, num_scans=num_positives * 3, negatives_per_positive=2)
    items = deal_items(plan)
    for subset in ("10", "1000"):
        for split in ("train", "test"):
            seen = {name for row in make_lists(plan, items)[subset, split] for name in row.classes}
            assert seen >= set(SCORED)


def test_classes_are_as_frequent_as_in_the_paper():
    plan = make_plan(8929, 0)
    counts = Counter(name for names in deal_items(plan) for name in set(names))
    assert counts == load_census()["classes"]


def test_a_fifth_is_tested_on():
    plan = make_plan(5500)
    items = deal_items(plan)
    assert split_positives(plan, items).count("test") == pytest.approx(plan.num_positives / 5, abs=3)
    assert split_negatives(plan).count("test") == plan.num_negatives / 5


@pytest.mark.slow
def test_the_subsets_have_the_papers_ratios():
    plan = make_plan(2000 * 21, 20)
    lists = make_lists(plan, deal_items(plan))
    sizes = {
        subset: Counter(row.name[0] for split in ("train", "test") for row in lists[subset, split])
        for subset in ("10", "100", "1000")
    }
    assert sizes["10"] == {"P": 2000, "N": 20_000}
    assert sizes["100"] == {"P": 2000, "N": 40_000}
    assert sizes["1000"]["N"] == 40_000
    assert sizes["1000"]["P"] == pytest.approx(2000 * 1000 / 8929, abs=12)


def test_hammers_are_alone_in_their_scans():
    items = deal_items(make_plan(3000, 0))
    with_hammer = [set(names) for names in items if "Hammer" in names]
    assert len(with_hammer) == 20
    assert all(names == {"Hammer"} for names in with_hammer)


def test_a_scan_may_hold_several_classes_and_twins():
    items = deal_items(make_plan(1000, 0))
    assert any(len(set(names)) >= 3 for names in items)
    assert any(len(names) > len(set(names)) for names in items)


def test_randomness_follows_from_seed_and_name():
    plan, other = make_plan(10), CorpusPlan(seed=8, num_scans=10, negatives_per_positive=10)
    draw = plan.scan_rng("P00001").random()
    assert make_plan(99).scan_rng("P00001").random() == draw
    assert plan.scan_rng("P00002").random() != draw
    assert other.scan_rng("P00001").random() != draw
