"""Connect equal scans to groups and move each group to one split."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from shards.corpus.facts import UNLISTED
from shards.curation.bags import connect_keys
from shards.curation.leakage import NEAR_EQUAL, Member, make_group
from shards.curation.near_duplicates import SAME_GROUP, Fingerprint, Pair
from shards.shuffle import pack, unpack


def connect_pairs(pairs: Iterable[Pair]) -> list[list[Fingerprint]]:
    """Return the groups of scans that pairs connect, each in the order of its keys."""
    found = list(pairs)
    known = {item.key: item for pair in found for item in (pair.one, pair.other)}
    first_of = connect_keys((pair.one.key, pair.other.key) for pair in found)
    groups: defaultdict[str, list[Fingerprint]] = defaultdict(list)
    for key in sorted(known):
        groups[first_of[key]].append(known[key])
    return [groups[key] for key in sorted(groups)]


def find_moves(groups: Iterable[list[Fingerprint]]) -> dict[str, str]:
    """Return the new split of every scan that must move for its group to lie in one split."""
    return {
        key: split
        for group in groups
        for key, split in assign_group_to_split((member.key, member.split) for member in group)
    }


def find_near_equal_leaks(pairs: Iterable[Pair], moves: dict[str, str]) -> list[Member]:
    """Return the members of groups of equal scans that lie in several splits and are not all equal to the byte."""
    groups = connect_pairs(pair for pair in pairs if pair.kind != SAME_GROUP)
    return [
        member
        for group in groups
        if len({fingerprint.sha256 for fingerprint in group}) > 1
        for member in make_group(NEAR_EQUAL, [(item.key, moves.get(item.key, item.split)) for item in group])
    ]


def assign_group_to_split(members: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield key and new split of the members that must move for the group to lie in one split.

    The group goes to the split of most of its members, and in a tie to the first split by name other than `train`: a
    test scan must not be trained on, while a training scan less costs little. Unlisted members stay unlisted.
    """
    ordered = sorted(members)
    counts = Counter(split for _, split in ordered if split != UNLISTED)
    if len(counts) < 2:
        return
    best = min(counts, key=lambda split: (-counts[split], split == "train", split))
    yield from ((key, best) for key, split in ordered if split not in (best, UNLISTED))


def move_records(batch: bytes, splits: dict[str, str]) -> bytes:
    """Return a batch of records with the split of some keys changed."""
    refs = [ref._replace(split=splits.get(ref.key, ref.split)) for ref in unpack(batch)]
    return pack(refs)
