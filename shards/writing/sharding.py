"""Join batches of facts to records, count them, and assign them to shards.

All facts of a key are in one of many ranges of keyed hashes; shards are ranges of the same hash. Steps pass batches of
named tuples, pickled in one piece: one element a scan would cost more than copying the scan.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from shards.corpus import records
from shards.corpus.description import Corpus
from shards.corpus.facts import Fact
from shards.corpus.layouts.registry import LAYOUTS
from shards.corpus.policy import Policy
from shards.corpus.read_annotations import read_annotations
from shards.format.classes import ClassSet
from shards.format.keys import hash_key, place_in
from shards.format.manifest import shard_name
from shards.shuffle import NUM_PARTITIONS, batch_by, pack, unpack

_MIN_SCANS_A_SHARD = 16
"""With fewer on average a shard may be empty by chance (one in ten million at 16)."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of the records, images and image bytes of a split."""

    num_records: int = 0
    num_images: int = 0
    image_bytes: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.num_records + other.num_records,
            self.num_images + other.num_images,
            self.image_bytes + other.image_bytes,
        )

    def num_shards(self, shard_bytes: int) -> int:
        """Return the number of shards of `shard_bytes` on average."""
        by_size = -(-self.image_bytes // shard_bytes)
        return max(1, min(by_size, self.num_images // _MIN_SCANS_A_SHARD))


Tallies = dict[str, Tally]


def batch_facts(facts: Iterable[Fact]) -> Iterator[tuple[int, bytes]]:
    """Yield facts in batches by the hash range of their key, whether it is in upper or lower case."""
    return batch_by(facts, lambda fact: place_in(hash_key(fact.key.lower()), NUM_PARTITIONS))


def batch_by_key(items: Iterable[Any]) -> Iterator[tuple[int, bytes]]:
    """Yield items that have a key in batches by its hash range."""
    return batch_by(items, lambda item: place_in(hash_key(item.key), NUM_PARTITIONS))


def join_batches(batches: Iterable[bytes], corpus: Corpus, subset: str, policy: Policy, classes: ClassSet) -> bytes:
    """Return the records of all facts of one range, annotations read."""
    layout = LAYOUTS[corpus.layout]
    facts = (fact for batch in batches for fact in unpack(batch))
    refs = records.join_facts(facts, corpus, subset, policy)
    return pack(read_annotations(refs, layout.parse_annotation, classes.spellings, layout.max_annotation_bytes))


def tally_splits(batch: bytes) -> Tallies:
    """Return the counts of each split in one batch of records."""
    sizes: defaultdict[str, list[int | None]] = defaultdict(list)
    for ref in _unpack_records(batch):
        sizes[ref.split].append(None if ref.reason else ref.size_bytes)
    return {split: _tally(of) for split, of in sizes.items()}


def _tally(sizes: list[int | None]) -> Tally:
    taken = [size for size in sizes if size is not None]
    return Tally(len(sizes), len(taken), sum(taken))


def sum_tallies(parts: Iterable[Tallies]) -> Tallies:
    """Return the sums by split."""
    total: Tallies = {}
    for part in parts:
        for split, tally in part.items():
            total[split] = total.get(split, Tally()) + tally
    return total


def assign_shards(
    batch: bytes, tallies: Tallies, shard_bytes: int, kept_num_shards: Mapping[str, int] | None = None
) -> Iterator[tuple[tuple[str, str], bytes]]:
    """Yield the records of one batch by split and shard.

    A split has as many shards as its bytes fill, or as `kept_num_shards` says.
    """
    num_shards = {split: tally.num_shards(shard_bytes) for split, tally in tallies.items()} | dict(
        kept_num_shards or {}
    )

    def shard_of(ref: Any) -> tuple[str, str]:
        num = num_shards[ref.split]
        return ref.split, shard_name(ref.split, place_in(hash_key(ref.key), num), num)

    return batch_by(_unpack_records(batch), shard_of)


def _unpack_records(batch: bytes) -> list[Any]:
    return [ref for ref in unpack(batch) if ref.reason != records.SKIPPED]


def unpack_records(batches: Iterable[bytes]) -> list[Any]:
    """Return the records of all batches."""
    return [ref for batch in batches for ref in unpack(batch)]
