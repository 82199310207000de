"""Is the n-th smallest hash found to the bit, by looking at 4,096 counts and at one range?"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.curation import thresholds
from shards.curation.thresholds import NUM_RANGES, Place, Thresholds
from tests.shards.plain_calls import find_thresholds

HASHES = st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 3) | st.integers(2**64 - 3, 2**64 - 1), max_size=40)


def as_hashes(first, second):
    return np.array(first, np.uint64), np.array(second, np.uint64)


@settings(max_examples=100, deadline=None)
@given(HASHES, HASHES, st.data())
def test_it_is_the_one_that_stands_there_in_a_sorted_list(first, second, data):
    nums = [data.draw(st.integers(0, len(kind))) for kind in (first, second)]
    num_parts = data.draw(st.integers(1, 4))
    parts = [as_hashes(first[at::num_parts], second[at::num_parts]) for at in range(num_parts)]
    expected = Thresholds(
        *(sorted(kind)[num - 1] if num else -1 for kind, num in zip((first, second), nums, strict=True))
    )
    assert find_thresholds(parts, lambda _: nums) == expected


def test_of_nothing_there_are_no_counts_and_no_hashes():
    assert thresholds.sum_counts([]).tolist() == [[0] * NUM_RANGES] * 2
    assert [kind_N.tolist() for kind_N in thresholds.join_hashes([])] == [[], []]
    assert thresholds.find_places(thresholds.sum_counts([]), (0, 0)) == (Place(-1, 0), Place(-1, 0))


def test_only_one_range_in_4096_is_taken():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, (2, 1_000_000), dtype=np.uint64)
    pair = (hashes[0], hashes[1])
    places = thresholds.find_places(thresholds.count_ranges(pair), (100_000, 1_000_000))
    taken = thresholds.take_ranges(pair, places)
    assert [len(kind_N) for kind_N in taken] == pytest.approx([1_000_000 / NUM_RANGES] * 2, rel=0.3)
    assert thresholds.find_thresholds(taken, places) == Thresholds(int(np.sort(pair[0])[99_999]), int(pair[1].max()))
