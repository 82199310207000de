"""Scans are divided into folds by bag."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.curation.folds import assign_folds

SCANS = st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=99)


@given(SCANS, st.integers(2, 5), st.randoms(use_true_random=False))
def test_a_bag_lies_in_one_fold_whatever_the_order_and_folds_have_alike_many_positives(scans, num_folds, random):
    def divide(rows):
        bags = pa.array([f"bag {bag}" for bag, _ in rows])
        return assign_folds(bags, np.array([positive for _, positive in rows]), num_folds).tolist()

    if len({bag for bag, _ in scans}) < num_folds:
        with pytest.raises(ValueError, match=f"folds must be 2 to the number of bags, .*, got {num_folds}"):
            divide(scans)
        return
    folds = divide(scans)
    assert set(folds) == set(range(1, num_folds + 1)) or max(Counter(bag for bag, _ in scans).values()) > 1
    fold_of = dict(zip((bag for bag, _ in scans), folds, strict=True))
    assert [fold_of[bag] for bag, _ in scans] == folds
    positives = [
        sum(positive for (_, positive), at in zip(scans, folds, strict=True) if at == number + 1)
        for number in range(num_folds)
    ]
    largest = max(Counter(bag for bag, positive in scans if positive).values(), default=0)
    assert max(positives) - min(positives) <= largest
    shuffled = random.sample(scans, len(scans))
    assert Counter(zip(shuffled, divide(shuffled), strict=True)) == Counter(zip(scans, folds, strict=True))


def test_one_fold_is_refused():
    with pytest.raises(ValueError, match="folds must be 2 to the number of bags, 2, got 1"):
        assign_folds(pa.array(["a", "b"]), np.zeros(2, bool), 1)
