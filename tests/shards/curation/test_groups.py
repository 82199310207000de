"""Equal scans are grouped and each group is moved into one split."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.curation.bags import name_bags
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


ROWS = st.lists(st.tuples(st.none() | st.integers(0, 4), st.integers(0, 6)), max_size=12)


def samples_of(rows, with_groups=True) -> pa.Table:
    """Return a table of scans from their groups, or None, and contents."""
    contents = [content for _, content in rows]
    first = [contents.index(content) for content in contents]
    columns = {
        "key": pa.array([f"k{n}" for n in range(len(rows))], pa.string()),
        "duplicate_of": pa.array([None if first[n] == n else f"k{first[n]}" for n in range(len(rows))], pa.string()),
        "group": pa.array([None if group is None else f"k{group}" for group, _ in rows], pa.string()),
    }
    return pa.table(columns if with_groups else {name: columns[name] for name in ("key", "duplicate_of")})


@given(ROWS)
def test_scans_share_a_bag_if_and_only_if_groups_and_equal_bytes_connect_them(rows):
    expected = [{n} for n in range(len(rows))]
    for _ in rows:  # merged pairwise until nothing changes
        for n, (group, content) in enumerate(rows):
            for m, (other_group, other_content) in enumerate(rows):
                if content == other_content or (group is not None and group == other_group):
                    expected[n] = expected[m] = expected[n] | expected[m]
    bags = name_bags(samples_of(rows)).to_pylist()
    for n in range(len(rows)):
        assert {m for m in range(len(rows)) if bags[m] == bags[n]} == expected[n]


def test_without_groups_a_bag_is_named_by_the_first_of_its_equal_scans():
    rows = [(None, 5), (None, 6), (None, 5)]
    assert name_bags(samples_of(rows, with_groups=False)).to_pylist() == ["k0", "k1", "k0"]
    assert name_bags(samples_of(rows)).to_pylist() == ["k0", "k1", "k0"]
