"""Report equal scans that lie in several splits: they make a model look better than it is.

Their groups are a table of the dataset, with a row for each member, and a summary in the manifest.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from shards import storage
from shards.corpus.facts import UNLISTED
from shards.format.manifest import LEAKAGE_NAME
from shards.format.parquet import keep_parquet

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
    """Yield the members, (key, split), of a group that lies in several splits; `unlisted` does not count."""
    ordered = sorted(members)
    if len({split for _, split in ordered} - {UNLISTED}) > 1:
        yield from (Member(kind, ordered[0][0], key, split) for key, split in ordered)


def write_leakage(output: str, members: Sequence[Member]) -> dict[str, Any]:
    """Write the table, if there are members; return what the manifest says about it."""
    url = storage.join_url(output, LEAKAGE_NAME)
    if not members:
        storage.remove(url)
        return {}
    rows = [member._asdict() for member in sorted(members)]
    sha256 = keep_parquet(url, pa.Table.from_pylist(rows, schema=_SCHEMA))
    return {"sha256": sha256, "kinds": _summarise(members)}


def _summarise(members: Sequence[Member]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for kind in sorted({member.kind for member in members}):
        groups = sorted({member.group for member in members if member.kind == kind})
        num_scans = sum(member.kind == kind for member in members)
        found[kind] = {"num_groups": len(groups), "num_scans": num_scans, "examples": groups[:MAX_EXAMPLES]}
    return found
