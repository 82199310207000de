"""Equal scans are grouped and each group is moved into one split."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.curation.groups import assign_group_to_split
from shards.curation.leakage import make_group

SPLITS = st.sampled_from(["train", "test", "val", "unlisted"])
GROUPS = st.lists(SPLITS, min_size=1, max_size=9).map(lambda splits: [(f"k{n}", s) for n, s in enumerate(splits)])


@given(GROUPS)
def test_a_group_that_is_moved_crosses_no_splits(members):
    moved = dict(assign_group_to_split(members))
    after = [(key, moved.get(key, split)) for key, split in members]
    assert list(make_group("byte_equal", after)) == []
    assert all(split == "unlisted" for (_, split), (_, old) in zip(after, members, strict=True) if old == "unlisted")
    assert {split for _, split in after} <= {split for _, split in members}
    assert list(assign_group_to_split(after)) == []
    assert bool(moved) == bool(list(make_group("byte_equal", members)))


@pytest.mark.parametrize(
    ("splits", "moved"),
    [
        (["train", "train", "test"], {"k2": "train"}),
        (["train", "test"], {"k0": "test"}),
        (["test", "val"], {"k1": "test"}),
        (["train", "unlisted"], {}),
        (["train"], {}),
    ],
)
def test_most_members_decide_and_in_a_tie_a_test_scan_is_not_trained_on(splits, moved):
    assert dict(assign_group_to_split((f"k{n}", split) for n, split in enumerate(splits))) == moved
