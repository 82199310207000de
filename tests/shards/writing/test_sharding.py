"""Facts and records are assigned to shards by key alone, in batches of bounded size."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards import shuffle
from shards.corpus.description import Corpus, Source
from shards.corpus.facts import ImageFact
from shards.corpus.policy import Policy
from shards.corpus.records import ScanRef
from shards.format.classes import load_class_set
from shards.shuffle import NUM_PARTITIONS, batch_by, pack, unpack
from shards.writing import sharding
from shards.writing.sharding import Tally

CORPUS = Corpus("images", "/c", (Source("images", "/c"),), keeps_folders_in_keys=True)


def make_refs(count: int, split: str = "train", size_bytes: int = 1000) -> list[ScanRef]:
    return [ScanRef(f"N{number:05d}", split, f"/c/N{number:05d}.jpg", size_bytes) for number in range(count)]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=60), st.integers(1, 7))
def test_batches_hold_every_item_once_in_its_part(items, batch_items):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "_BATCH_ITEMS", batch_items)
        batches = [(part, unpack(batch)) for part, batch in batch_by(items, lambda item: item % 3)]
    assert sorted(item for _, batch in batches for item in batch) == sorted(items)
    assert all(item % 3 == part for part, batch in batches for item in batch)
    assert all(0 < len(batch) <= batch_items for _, batch in batches)


def test_facts_of_one_key_meet_in_one_range():
    facts = [ImageFact(f"N{number % 50}", f"/c/{number}/N{number % 50}.jpg", 1) for number in range(100)]
    ranges: dict[str, set[int]] = {}
    for part, batch in sharding.batch_facts(facts):
        assert 0 <= part < NUM_PARTITIONS
        for fact in unpack(batch):
            ranges.setdefault(fact.key, set()).add(part)
    assert len(ranges) == 50 and all(len(parts) == 1 for parts in ranges.values())


def test_records_are_counted_a_split_and_images_only_where_they_will_be_read():
    refs = [*make_refs(3), *make_refs(2, "test", 7), ScanRef("x", "test", "/l.csv", 0, reason="missing_image")]
    assert sharding.tally_splits(pack(refs)) == {"train": Tally(3, 3, 3000), "test": Tally(3, 2, 14)}


def test_tallies_add_up():
    parts = [{"a": Tally(1, 1, 5)}, {}, {"a": Tally(2, 1, 6), "b": Tally(1, 0, 0)}]
    assert sharding.sum_tallies(parts) == {"a": Tally(3, 2, 11), "b": Tally(1, 0, 0)}
    assert sharding.sum_tallies([]) == {}


@pytest.mark.parametrize(
    ("tally", "shard_bytes", "expected"),
    [
        (Tally(0, 0, 0), 100, 1),
        (Tally(5, 0, 0), 100, 1),
        (Tally(1000, 1000, 100), 100, 1),
        (Tally(1000, 1000, 101), 100, 2),
        (Tally(1000, 1000, 1000), 100, 10),
        (Tally(1000, 1000, 1_000_000), 1, 62),
        (Tally(15, 15, 1_000_000), 1, 1),
    ],
)
def test_shards_follow_from_bytes_but_none_is_left_nearly_empty(tally, shard_bytes, expected):
    assert tally.num_shards(shard_bytes) == expected


def test_a_record_gets_the_shard_of_its_key_whatever_batch_it_comes_in():
    refs = make_refs(400)
    tallies = {"train": Tally(400, 400, 400_000)}

    def place(batches):
        found: dict[str, str] = {}
        for batch in batches:
            for (split, name), members in sharding.assign_shards(pack(batch), tallies, 40_000):
                assert split == "train" and name.endswith("-of-00010")
                found |= {ref.key: name for ref in unpack(members)}
        return found

    whole = place([refs])
    assert len(whole) == 400 and len(set(whole.values())) == 10
    assert place([refs[300:], refs[:300][::-1]]) == whole


def test_joined_batches_are_records_in_the_order_of_their_keys():
    facts = [ImageFact(key, f"/c/{key}.jpg", 1) for key in "cab"]
    batches = [pack(facts[:1]), pack(facts[1:])]
    refs = sharding.unpack_records([sharding.join_batches(batches, CORPUS, "all", Policy(), load_class_set("sixray"))])
    assert [ref.key for ref in refs] == ["a", "b", "c"]
