"""The paper's subsets are built exactly and reproducibly, one fifth of them for testing."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.corpus.records import ScanRef
from shards.curation import subsets
from shards.curation.subsets import Census, choose_subset, holds_item, take_census
from shards.shuffle import pack, unpack
from tests.corpora import CorpusWriter, make_corpus, rows_of
from tests.shards.plain_calls import convert_plainly


def candidates(num_positives, num_negatives):
    return [(f"P{n:05d}", True) for n in range(num_positives)] + [(f"N{n:07d}", False) for n in range(num_negatives)]


def select(found, subset, seed=0):
    selection = choose_subset([take_census(found, seed)], subset, seed)
    chosen: dict[tuple[str, bool], list[str]] = {}
    for key, is_positive in found:
        if (split := selection.split_of(key, is_positive)) is not None:
            chosen.setdefault((split, is_positive), []).append(key)
    return chosen


@pytest.mark.parametrize(
    ("subset", "num", "expected"),
    [
        ("10", (50, 2000), {"train": (40, 400), "test": (10, 100)}),
        ("100", (12, 1500), {"train": (10, 960), "test": (2, 240)}),
        ("1000", (1200, 900), {"train": (800, 720), "test": (200, 180)}),
        ("positives", (53, 7), {"train": (42, 0), "test": (11, 0)}),
        ("10", (1, 10), {"train": (1, 8), "test": (0, 2)}),
    ],
)
def test_counts_are_those_of_the_paper_to_the_scan(subset, num, expected):
    chosen = select(candidates(*num), subset)
    counts = {split: tuple(len(chosen.get((split, kind), ())) for kind in (True, False)) for split in ("train", "test")}
    assert counts == expected


def test_the_whole_of_sixray_is_chosen_to_the_scan_in_seconds():
    census = take_census(candidates(8_929, 0), 0)
    rng = np.random.default_rng(0)
    negatives = rng.integers(0, 2**64, (1_050_302, 2), dtype=np.uint64)
    whole = Census(census.positives_N2, negatives)
    for subset, num in {"10": 89_290, "100": 892_900, "1000": 1_050_302}.items():
        selection = choose_subset([whole], subset, 0)
        chosen = negatives[negatives[:, 0] <= np.uint64(selection.max_negative)]
        assert len(chosen) == num
        num_test = int((chosen[:, 1] <= np.uint64(selection.max_negative_test)).sum())
        assert abs(num_test - num / 5) <= 0.5


def test_the_choice_does_not_depend_on_the_order_and_follows_the_seed():
    found = candidates(30, 900)
    one = select(found, "10", seed=3)
    random.Random(0).shuffle(found)
    other = select(found, "10", seed=3)
    assert {name: sorted(keys) for name, keys in one.items()} == {name: sorted(keys) for name, keys in other.items()}
    assert set(select(found, "10", seed=4)["train", False]) != set(one["train", False])
    assert choose_subset([take_census(found, -5)], "10", -5).seed == -5


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(0, 30), st.integers(0, 3))
def test_parts_add_up_to_the_whole(num_positives, num_spare, num_cuts):
    found = candidates(num_positives, 10 * num_positives + num_spare)
    parts = [found[first :: num_cuts + 1] for first in range(num_cuts + 1)]
    censuses = [take_census(part, 1) for part in parts]
    assert choose_subset(censuses, "10", 1) == choose_subset([take_census(found, 1)], "10", 1)


# Few values, with neighbours at both ends of a range: ties and crowded ranges are the rule.
HASHES = st.sampled_from([(top << 52) + low for top in (0, 1, 2, 4095) for low in (0, 1, 2, 2**52 - 1)])
CANDIDATES = st.lists(st.tuples(HASHES, HASHES), max_size=60)


def choose_by_sorting(candidates, num):
    """Return the largest choosing hash of the smallest, and the largest splitting hash of a fifth of those chosen."""
    if num == 0:
        return -1, -1
    max_choosing = sorted(choosing for choosing, _ in candidates)[num - 1]
    splitting = sorted(splitting for choosing, splitting in candidates if choosing <= max_choosing)
    return max_choosing, [-1, *splitting][int(len(splitting) / 5 + 0.5)]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(HASHES, HASHES), min_size=1, max_size=5), CANDIDATES, st.integers(1, 4))
def test_the_choice_is_that_of_one_sort_of_all_hashes_ties_included(positives, negatives, num_parts):
    negatives += [(7 << 55, 5)] * (10 * len(positives) - len(negatives))
    parts = [(positives[at::num_parts], negatives[at::num_parts]) for at in range(num_parts)]
    censuses = [Census(*(np.array(kind, np.uint64).reshape(-1, 2) for kind in part)) for part in parts]
    for subset, nums in {"10": (len(positives), 10 * len(positives)), "positives": (len(positives), 0)}.items():
        selection = choose_subset(censuses, subset, 0)
        max_positive, max_positive_test = choose_by_sorting(positives, nums[0])
        max_negative, max_negative_test = choose_by_sorting(negatives, nums[1])
        expected = subsets.Selection(0, max_positive, max_negative, max_positive_test, max_negative_test)
        assert selection == expected


@pytest.mark.parametrize(
    ("subset", "num", "message"),
    [
        ("10", (5, 49), "subset '10' must have 5 positives and 50 negatives, got 5 and 49 in the corpus"),
        ("100", (5, 499), "subset '100' must have 5 positives and 500 negatives, got 5 and 499"),
        ("1000", (999, 5), "subset '1000' must have 1,000 positives and 5 negatives, got 999 and 5"),
        ("positives", (0, 5), "subset 'positives' must have 1 positives and 0 negatives, got 0 and 5"),
    ],
)
def test_too_few_scans_are_refused_with_their_numbers(subset, num, message):
    with pytest.raises(ValueError, match=message):
        choose_subset([take_census(candidates(*num), 0)], subset, 0)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"key": "x", "labels": (0, 1)}, True),
        ({"key": "P00001", "labels": (0, 0)}, False),
        ({"key": "P00001", "presence": "negative"}, False),
        ({"key": "N0000001", "presence": "positive"}, True),
        ({"key": "P00001"}, True),
        ({"key": "N0000001", "annotation_url": "a.xml"}, False),
        ({"key": "N000001"}, False),
        ({"key": "scan"}, False),
        ({"key": "scan", "annotation_url": "a.xml"}, True),
    ],
)
def test_line_folder_id_and_annotation_say_in_this_order_whether_there_is_an_item(changes, expected):
    assert holds_item(ScanRef(**({"split": "unlisted", "source_url": "/x", "size_bytes": 1} | changes))) is expected


def test_what_is_wrong_with_the_corpus_itself_stays_and_other_refusals_go():
    refs = [
        ScanRef("JPEGImage%2Etar", "unlisted", "/x", 0, reason="damaged_archive"),
        ScanRef("N0000001", "unlisted", "/x", 0, reason="missing_image"),
        ScanRef("P00001", "unlisted", "/x", 1, (1, 0)),
    ]
    batch = pack(refs)
    selection = choose_subset([subsets.census_of_records(batch, 0)], "positives", 0)
    found = unpack(subsets.select_records(batch, selection, 2))
    assert [(ref.key, ref.split) for ref in found] == [("JPEGImage%2Etar", "unlisted"), ("P00001", "train")]


def without_lists(tmp_path, num_positives, num_negatives) -> CorpusWriter:
    corpus = CorpusWriter(tmp_path / "c")
    for number in range(num_positives):
        corpus.add_image(f"P{number:05d}")
        corpus.add_annotation(f"P{number:05d}", [("Gun", 1, 1, 9, 9)])
    for number in range(num_negatives):
        corpus.add_image(f"N{number:07d}")
    return corpus


def test_a_corpus_without_lists_becomes_sixray10_with_all_labels_known(tmp_path):
    corpus = without_lists(tmp_path, 5, 70)
    manifest = convert_plainly(corpus.root, tmp_path / "ds", subset="10", seed=2)
    assert {split: counts.listed for split, counts in manifest.ledger.items()} == {"train": 44, "test": 11}
    rows = rows_of(tmp_path / "ds")
    assert sum(row["labels"]["Gun"] for row in rows) == 5
    assert all(row["labels"]["Knife"] == 0 for row in rows)
    convert_plainly(corpus.root, tmp_path / "other", subset="10", choice_seed=1)
    assert {row["key"] for row in rows_of(tmp_path / "other")} != {row["key"] for row in rows}


def test_lists_of_another_subset_give_labels_and_not_the_choice(tmp_path):
    corpus = make_corpus(tmp_path / "c", num_train=3, num_test=0)  # P00000 holds a gun, by its line
    for number in range(120):
        corpus.add_image(f"N{number:07d}")
    manifest = convert_plainly(corpus.root, tmp_path / "ds", subset="100")
    assert manifest.num_scans == 101
    assert "unlisted_image" not in manifest.contradictions
