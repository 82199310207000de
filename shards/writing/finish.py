"""When all tars are written: which scans are byte-equal, does the ledger add up, what lies there too much?"""

import re
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from shards import storage
from shards.corpus.stream_spool import SPOOL_NAME
from shards.curation.leakage import Member, write_leakage
from shards.format.classes import ClassSet
from shards.format.keys import place_in
from shards.format.manifest import (
    LEAKAGE_NAME,
    MANIFEST_NAME,
    DatasetManifest,
    ShardInfo,
    SplitLedger,
    count_reasons,
    expected_files,
    quarantine_url,
    samples_url,
)
from shards.format.parquet import read_parquet
from shards.format.ustar import BLOCK_BYTES, make_header
from shards.host import installed_versions
from shards.shuffle import batch_by, unpack
from shards.writing.shard_writer import DRAFTS_FOLDER, WrittenShard, finish_rows
from shards.writing.sharding import Tallies, Tally

_CHECKSUMS_A_BUCKET = 100_000

_NAME = r"[a-z0-9_]+-\d{5,}-of-\d{5,}"
_OWN_FILE = re.compile(
    rf"dataset\.json|{re.escape(LEAKAGE_NAME)}|{DRAFTS_FOLDER}/({_NAME}\.parquet|{SPOOL_NAME})|samples/{_NAME}\.parquet"
    rf"|quarantine/part-{_NAME}\.parquet|[a-z0-9_]+/{_NAME}\.(tar|idx)|(.*/)?\.[^/]+\.tmp"
)


Checksum = tuple[str, str, str]
"""sha256, key, shard name."""


def spread_checksums(shard: WrittenShard, tallies: Tallies) -> Iterator[tuple[int, bytes]]:
    """Yield the checksums of a shard, in batches by range of the checksum."""
    num_records = sum(tally.num_records for tally in tallies.values())
    num_buckets = max(1, num_records // _CHECKSUMS_A_BUCKET)
    checksums = [(sha256, key, shard.info.name) for sha256, key in shard.checksums]
    return batch_by(checksums, lambda checksum: place_in(int(checksum[0][:16], 16), num_buckets))


Group = list[tuple[str, str]]
"""(key, shard name) of scans with equal bytes, in the order of their keys."""


def find_equal(batches: Iterable[bytes]) -> list[Group]:
    """Return the groups of two and more scans with equal bytes; all checksums of a range are in `batches`."""
    members_of: defaultdict[str, Group] = defaultdict(list)
    for batch in batches:
        for sha256, key, name in unpack(batch):
            members_of[sha256].append((key, name))
    return [sorted(members) for members in members_of.values() if len(members) > 1]


def find_duplicates(groups: Iterable[Group]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield, a shard, the keys whose bytes another key has too, with the first of those keys in order."""
    found: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for (first, _), *others in groups:
        for key, name in others:
            found[name][key] = first
    yield from found.items()


@dataclass(frozen=True, slots=True)
class FinishedShard:
    """A shard with nothing left to do."""

    info: ShardInfo
    quarantined_by_reason: dict[str, int] = field(default_factory=dict)


def finish_shard(output: str, info: Iterable[ShardInfo], duplicates: Iterable[dict[str, str]]) -> FinishedShard:
    """Write the rows of one shard, duplicates known; `info` holds just the one."""
    (shard,) = info
    finish_rows(output, shard.name, {key: first for found in duplicates for key, first in found.items()})
    shard = replace(shard, samples_sha256=storage.sha256_of(samples_url(output, shard.name)))
    if not shard.num_quarantined:
        return FinishedShard(shard)
    refused_url = quarantine_url(output, shard.name)
    shard = replace(shard, quarantine_sha256=storage.sha256_of(refused_url))
    return FinishedShard(shard, count_reasons(read_parquet(refused_url, ["reason"])))


def write_manifest(
    finished: Sequence[FinishedShard],
    tallies: Tallies,
    output: str,
    classes: ClassSet,
    options: dict[str, Any],
    findings: Mapping[str, Any] | None = None,
    leaks: Iterable[Member] = (),
) -> DatasetManifest:
    """Check the ledger, remove what belongs to no shard of this plan, and write `dataset.json`.

    Raises:
        ValueError: a split has more or fewer samples and refused records than were listed, or nothing was listed.
    """
    if not tallies:
        raise ValueError(f"corpus must have at least one record, got none with the options {options}; check the input")
    leakage = write_leakage(output, list(leaks))
    manifest = DatasetManifest(
        classes=classes.all,
        scored_classes=classes.scored,
        shards=tuple(sorted((shard.info for shard in finished), key=lambda info: info.name)),
        ledger={split: _make_ledger(split, tally, finished) for split, tally in sorted(tallies.items())},
        options=options,
        versions=installed_versions("apache-beam", "pillow", "pyarrow"),
        leakage=leakage,
        **(findings or {}),
    )
    manifest_url = storage.join_url(output, MANIFEST_NAME)
    is_written = storage.exists(manifest_url) and storage.read_bytes(manifest_url) == manifest.to_json()
    if not is_written:
        # An older manifest may name files that are surplus now.
        storage.remove(manifest_url)
    storage.remove_tree(storage.join_url(output, DRAFTS_FOLDER))
    _remove_surplus(output, manifest)
    if not is_written:
        storage.write_bytes(manifest_url, manifest.to_json())
    return manifest


def _make_ledger(split: str, tally: Tally, finished: Sequence[FinishedShard]) -> SplitLedger:
    mine = [shard for shard in finished if shard.info.split == split]
    reasons: Counter[str] = Counter()
    for shard in mine:
        reasons.update(shard.quarantined_by_reason)
    return SplitLedger(
        listed=tally.num_records,
        converted=sum(shard.info.num_scans for shard in mine),
        quarantined=sum(shard.info.num_quarantined for shard in mine),
        quarantined_by_reason=dict(sorted(reasons.items())),
    )


def check_output(output: str) -> None:
    """Raise ValueError if a folder holds anything that no conversion writes: it is somebody else's.

    Names alone do not tell: others call their shards `train-00000-of-00010.tar` too. A tar without rows counts as one
    that a stopped conversion left only if its first member's header is as `shards.format.tar` writes it.
    """
    storage.check_url(output)
    root = storage.normalise_url(output)
    if not storage.is_folder(root):
        if storage.exists(root):
            raise ValueError(f"output must be a folder, got a file ({root})")
        return
    names = {info.url.removeprefix(root).lstrip("/") for info in storage.list_files(root)}
    for name in sorted(names):
        if not _OWN_FILE.fullmatch(name) or (name.endswith(".tar") and _is_foreign_tar(root, name, names)):
            raise ValueError(f"output must be an empty folder or a dataset, got one with {name!r} ({root})")


def _is_foreign_tar(root: str, name: str, names: set[str]) -> bool:
    rows = f"{storage.base_name(name).removesuffix('.tar')}.parquet"
    if names & {f"samples/{rows}", f"{DRAFTS_FOLDER}/{rows}"}:
        return False
    header = storage.read_range(storage.join_url(root, name), 0, BLOCK_BYTES)
    try:
        first = tarfile.TarInfo.frombuf(header, "ascii", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError):
        return True
    return header != make_header(first.name, first.size)


def _remove_surplus(output: str, manifest: DatasetManifest) -> None:
    """Remove shards of an earlier plan (other sizes, another subset) and check that those of this one are there."""
    expected = expected_files(output, manifest)
    found = {}
    for info in storage.list_files(output):
        if info.url in expected:
            found[info.url] = info.size_bytes
        elif _OWN_FILE.fullmatch(info.url.removeprefix(output).lstrip("/")) and not info.url.endswith(".tmp"):
            storage.remove(info.url)
    for url, size_bytes in expected.items():
        if size_bytes is not None and found.get(url) != size_bytes and not url.endswith(MANIFEST_NAME):
            raise ValueError(f"shard must have {size_bytes} bytes, got {found.get(url)} ({url}); run the job again")
