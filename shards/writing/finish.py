"""Finish a dataset whose tars are written: scans with equal bytes, final rows, ledger, manifest."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from shards import storage
from shards.curation.contradictions import add_contradictions
from shards.curation.corrections import write_table
from shards.curation.leakage import Member, write_leakage
from shards.format.attestation import attest, records_root
from shards.format.keys import place_in
from shards.format.manifest import (
    MANIFEST_NAME,
    DatasetManifest,
    ShardInfo,
    SplitLedger,
    count_reasons,
    quarantine_url,
    samples_url,
)
from shards.format.parquet import read_parquet
from shards.host import installed_versions
from shards.shuffle import batch_by, unpack
from shards.writing.output_folder import remove_surplus
from shards.writing.shard_writer import DRAFTS_FOLDER, WrittenShard, finish_rows
from shards.writing.sharding import Tallies, Tally
from shards.writing.source import Source

_CHECKSUMS_A_BUCKET = 100_000

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


@dataclass(frozen=True, slots=True)
class FinishedShard:
    """A shard with nothing left to do."""

    info: ShardInfo
    quarantined_by_reason: dict[str, int] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)
    """What was found in its scans: contradictions, repairs and projections, as in the manifest."""
    records_root: str = ""
    """Merkle root over its records, see `shards.format.attestation`."""


def finish_shard(
    output: str, info: Iterable[ShardInfo], duplicates: Iterable[dict[str, str]], source: Source[Any]
) -> FinishedShard:
    """Write the final rows of one shard, the only one in `info`, with its duplicates."""
    (shard,) = info
    duplicate_of = {key: first for pairs in duplicates for key, first in pairs.items()}
    found = finish_rows(output, shard.name, duplicate_of, source)
    shard = replace(shard, samples_sha256=storage.sha256_of(samples_url(output, shard.name)))
    root = records_root(output, shard)
    if not shard.num_quarantined:
        return FinishedShard(shard, {}, found, root)
    refused_url = quarantine_url(output, shard.name)
    shard = replace(shard, quarantine_sha256=storage.sha256_of(refused_url))
    return FinishedShard(shard, count_reasons(read_parquet(refused_url, ["reason"])), found, root)


def write_manifest(
    finished: Sequence[FinishedShard],
    tallies: Tallies,
    output: str,
    source: Source[Any],
    options: dict[str, Any],
    findings: Mapping[str, Any] | None = None,
    leaks: Iterable[Member] = (),
    corrected_rows: Iterable[Mapping[str, Any]] = (),
) -> DatasetManifest:
    """Check the ledger, remove surplus files, and write `dataset.json`.

    Raises:
        ValueError: a split has more or fewer samples and refused records than were listed, or nothing was listed.
    """
    if not tallies:
        if where := options.get("where"):
            raise ValueError(f"condition must be true of at least one row, got none that matches {where!r}")
        found = options.get("input") or f"the options {options}"
        raise ValueError(f"corpus must have at least one record, got none with {found}; check the input")
    leakage = write_leakage(output, list(leaks))
    corrected = _corrected_keys(output, finished) if "corrected_by" in source.added else None
    rows = None if corrected is None else [row for row in corrected_rows if row["key"] in corrected]
    corrections = write_table(output, rows)

    def sum_found(kind: str) -> dict[str, Any]:
        return add_contradictions([(findings or {}).get(kind, {}), *(shard.found.get(kind, {}) for shard in finished)])

    manifest = DatasetManifest(
        classes=source.classes.all,
        scored_classes=source.classes.scored,
        metadata=dict(source.metadata),
        shards=tuple(sorted((shard.info for shard in finished), key=lambda info: info.name)),
        ledger={split: _make_ledger(split, tally, finished) for split, tally in sorted(tallies.items())},
        options=options,
        versions=installed_versions("apache-beam", "pillow", "pyarrow"),
        leakage=leakage,
        contradictions=sum_found("contradictions"),
        repairs=sum_found("repairs"),
        skipped=sum_found("skipped"),
        is_projected="projected_from" in source.added,
        projections=sum_found("projections"),
        corrections=corrections,
        attestation=attest({shard.info.name: shard.records_root for shard in finished}),
    )
    manifest_url = storage.join_url(output, MANIFEST_NAME)
    is_written = storage.exists(manifest_url) and storage.read_bytes(manifest_url) == manifest.to_json()
    if not is_written:
        # An older manifest may name files that are removed below.
        storage.remove(manifest_url)
    storage.remove_tree(storage.join_url(output, DRAFTS_FOLDER))
    remove_surplus(output, manifest)
    if not is_written:
        storage.write_bytes(manifest_url, manifest.to_json())
    return manifest


def _corrected_keys(output: str, finished: Sequence[FinishedShard]) -> set[str]:
    keys: set[str] = set()
    for shard in finished:
        rows = read_parquet(samples_url(output, shard.info.name), ["key", "corrected_by"])
        keys.update(rows.filter(rows["corrected_by"].is_valid())["key"].to_pylist())
    return keys


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
