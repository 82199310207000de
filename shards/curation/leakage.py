"""Which scans lie in several splits at once? Equal scans in train and test make a model look better than it is.

Their groups are a table of the dataset, a row a member, and a summary in the manifest. Splits can be dealt by group.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from shards import storage
from shards.corpus.facts import UNLISTED
from shards.format.manifest import LEAKAGE_NAME
from shards.format.parquet import parquet_bytes
from shards.shuffle import pack, unpack

BYTE_EQUAL, NEAR_EQUAL = "byte_equal", "near_equal"
MAX_EXAMPLES = 5

_SCHEMA = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False, metadata={"what": f"{BYTE_EQUAL} or {NEAR_EQUAL}"}),
        pa.field("group", pa.string(), nullable=False, metadata={"what": "first key of the group"}),
        pa.field("key", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
    ]
)


class Member(NamedTuple):
    """A scan of a group that lies in several splits."""

    kind: str
    group: str
    key: str
    split: str


def find_byte_equal(groups: Iterable[Iterable[tuple[str, str]]]) -> Iterator[Member]:
    """Yield the members of groups of scans with equal bytes, (key, shard name), that lie in several splits."""
    for group in groups:
        yield from make_group(BYTE_EQUAL, ((key, name.partition("-")[0]) for key, name in group))


def make_group(kind: str, members: Iterable[tuple[str, str]]) -> Iterator[Member]:
    """Yield the members, (key, split), of a group if it lies in several of the splits that lists name."""
    ordered = sorted(members)
    if len({split for _, split in ordered} - {UNLISTED}) > 1:
        yield from (Member(kind, ordered[0][0], key, split) for key, split in ordered)


def write_leakage(output: str, members: Sequence[Member]) -> dict[str, Any]:
    """Write the table; return what the manifest says of it. No members: no table."""
    url = storage.join_url(output, LEAKAGE_NAME)
    if not members:
        storage.remove(url)
        return {}
    rows = [member._asdict() for member in sorted(members)]
    data = parquet_bytes(pa.Table.from_pylist(rows, schema=_SCHEMA))
    if not (storage.exists(url) and storage.read_bytes(url) == data):
        storage.write_bytes(url, data)
    return {"sha256": hashlib.sha256(data).hexdigest(), "kinds": _summarise(members)}


def _summarise(members: Sequence[Member]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for kind in sorted({member.kind for member in members}):
        groups = sorted({member.group for member in members if member.kind == kind})
        num_scans = sum(member.kind == kind for member in members)
        found[kind] = {"num_groups": len(groups), "num_scans": num_scans, "examples": groups[:MAX_EXAMPLES]}
    return found


def assign_group_to_split(members: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield key and split of the members of a group that must change their split for it to lie in one.

    The group goes where most of its members are, ties to the first split by name that is not `train`: a scan that is
    tested must not have been learnt, while one that is not learnt costs little. Unlisted members stay unlisted.
    """
    ordered = sorted(members)
    counts = Counter(split for _, split in ordered if split != UNLISTED)
    if len(counts) < 2:
        return
    best = min(counts, key=lambda split: (-counts[split], split == "train", split))
    yield from ((key, best) for key, split in ordered if split not in (best, UNLISTED))


def assign_equal_to_split(batches: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    """Yield key and new split for all groups of equal checksums in a range: batches of (checksum, key, split)."""
    groups: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for batch in batches:
        for checksum, key, split in unpack(batch):
            groups[checksum].append((key, split))
    for members in groups.values():
        yield from assign_group_to_split(members)


def move_records(batch: bytes, splits: dict[str, str]) -> bytes:
    """Return a batch of records with the split of some keys changed."""
    refs = [ref._replace(split=splits.get(ref.key, ref.split)) for ref in unpack(batch)]
    return pack(refs)


def describe(leakage: dict[str, Any]) -> Iterator[str]:
    """Yield a line a kind, for people."""
    for kind, found in leakage.get("kinds", {}).items():
        groups = ", ".join(found["examples"])
        more = ", …" if found["num_groups"] > len(found["examples"]) else ""
        counts = f"{found['num_groups']} {kind} groups of {found['num_scans']} scans"
        yield f"leakage: {counts} cross splits ({groups}{more})"
