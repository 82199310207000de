"""Find scans with equal bytes across the shards of a dataset."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from shards.format.keys import place_in
from shards.shuffle import batch_by, unpack
from shards.writing.shard_writer import WrittenShard
from shards.writing.sharding import Tallies

_CHECKSUMS_A_BUCKET = 100_000

Checksum = tuple[str, str, str]
"""sha256, key, shard name."""
Group = list[tuple[str, str]]
"""(key, shard name) of scans with equal bytes, in the order of their keys."""


def spread_checksums(shard: WrittenShard, tallies: Tallies) -> Iterator[tuple[int, bytes]]:
    """Yield the checksums of a shard, in batches by range of the checksum."""
    num_records = sum(tally.num_records for tally in tallies.values())
    num_buckets = max(1, num_records // _CHECKSUMS_A_BUCKET)
    checksums = [(sha256, key, shard.info.name) for sha256, key in shard.checksums]
    return batch_by(checksums, lambda checksum: place_in(int(checksum[0][:16], 16), num_buckets))


def find_equal(batches: Iterable[bytes]) -> list[Group]:
    """Return the groups of two and more scans with equal bytes; all checksums of a range are in `batches`."""
    members_of: defaultdict[str, Group] = defaultdict(list)
    for batch in batches:
        for sha256, key, name in unpack(batch):
            members_of[sha256].append((key, name))
    return [sorted(members) for members in members_of.values() if len(members) > 1]


def find_duplicates(groups: Iterable[Group]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield, for each shard, its keys whose bytes an earlier key has too, with the first such key."""
    found: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for (first, _), *others in groups:
        for key, name in others:
            found[name][key] = first
    yield from found.items()
