"""Write a shard of a dataset, and recognize one that an earlier run has written.

`duplicate_of` needs the checksums of all shards, so a shard is written in two steps: first its tar, index, quarantine
part and draft rows below `_drafts/`; then its final rows. Each file is renamed into place, and rows carry a digest of
their plan, by which a later run recognizes finished shards.
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import pyarrow as pa

from shards import storage
from shards.corpus.read_scan import RETRYABLE_REASONS, Scan
from shards.curation.contradictions import count_kinds
from shards.format.keys import hash_key
from shards.format.manifest import MANIFEST_NAME, ShardInfo, quarantine_url, samples_url
from shards.format.parquet import (
    QUARANTINE_SCHEMA,
    add_columns,
    parquet_bytes,
    read_parquet,
    samples_schema,
    write_parquet,
)
from shards.format.tar import TarPiece, TarShardWriter, pack_samples
from shards.prefetch import map_prefetched
from shards.verify.shard import METADATA_KEY, check_shard, shard_metadata
from shards.writing.sharding import unpack_records
from shards.writing.source import AnyRef, FoundInScan, Refused, Source

DRAFTS_FOLDER = "_drafts"
JOB_NAME = "job.json"
"""Says in the drafts which job writes there; see `shards.writing.output_folder`."""

_CLOCK_TICK_SECONDS = 0.01
"""A file system's clock may be late by so much."""
_REMOTE_READERS = 16
_CHUNK_SCANS = 64
_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class WrittenShard:
    """A shard whose tar is on disk."""

    info: ShardInfo
    checksums: tuple[tuple[str, str], ...]
    """(sha256, key) of each sample."""
    was_reused: bool
    """An earlier run had written it, and every byte was verified."""


def write_batches(
    dataset_url: str, split: str, name: str, batches: Iterable[bytes], source: Source[Any]
) -> WrittenShard:
    """Write the shard of the records in some batches: see `write_shard`."""
    return write_shard(dataset_url, split, name, unpack_records(batches), source)


def write_shard(
    dataset_url: str, split: str, name: str, refs: Iterable[AnyRef], source: Source[AnyRef]
) -> WrittenShard:
    """Write the tar, index, quarantine part and draft rows of one shard, unless an earlier run has.

    Samples are in the order of their keyed hashes; the bytes depend on the records only.
    """
    ordered = sorted(refs, key=lambda ref: (hash_key(ref.key), ref))
    plan = source.digest_plan(name, ordered)
    draft = _find_finished(dataset_url, split, name, plan, ordered, source)
    if draft is not None:
        return _as_written(split, name, draft, was_reused=True)
    # From here on the dataset differs from what its manifest says, until a new manifest is written.
    storage.remove(storage.join_url(dataset_url, MANIFEST_NAME))
    rows, refused, found, digest, tar_bytes = _write_tar(dataset_url, split, name, ordered, source)
    _write_quarantine(dataset_url, name, refused)
    metadata: dict[str, Any] = {
        "plan": plan,
        "digest": digest,
        "tar_bytes": tar_bytes,
        "image_bytes": sum(row["size_bytes"] for row in rows),
        "num_quarantined": len(refused),
        "num_retryable": sum(row["reason"] in RETRYABLE_REASONS for row in refused),
    }
    if found:
        metadata["found"] = {
            group: count_kinds(item[1:] for item in found if item[0] == group)
            for group in sorted({item[0] for item in found})
        }
    table = pa.Table.from_pylist(rows, schema=_schema_of(source))
    table = table.replace_schema_metadata({METADATA_KEY: json.dumps(metadata).encode()})
    storage.remove(samples_url(dataset_url, name))
    write_parquet(_draft_url(dataset_url, name), table)
    return _as_written(split, name, table, was_reused=False)


def finish_rows(dataset_url: str, name: str, duplicate_of: Mapping[str, str], source: Source[Any]) -> dict[str, Any]:
    """Write the final rows of a shard, with `duplicate_of` by key, and the columns that an older release lacked.

    Returns what was found when its scans were read, and what was projected into them.
    """
    draft_url = _draft_url(dataset_url, name)
    final_url = samples_url(dataset_url, name)
    has_draft = storage.exists(draft_url)
    table = read_parquet(draft_url if has_draft else final_url)
    originals = pa.array([duplicate_of.get(key) for key in table["key"].to_pylist()], pa.string())
    whole = add_columns(table, _schema_of(source))
    at = whole.schema.get_field_index("duplicate_of")
    finished = whole.set_column(at, whole.schema.field(at), originals)
    if has_draft or not finished.equals(table):
        storage.remove(storage.join_url(dataset_url, MANIFEST_NAME))
        write_parquet(final_url, finished)
        storage.remove(draft_url)
    found: dict[str, Any] = shard_metadata(table).get("found", {})
    return found | {"projections": _count_projections(table)} if "projected_from" in source.added else found


def _count_projections(table: pa.Table) -> dict[str, Any]:
    made = zip(table["key"].to_pylist(), table["projected_from"].to_pylist(), strict=True)
    return count_kinds(
        (of["class"] or "other_object", key, f"of {of['item']} in {of['scan']}") for key, of in made if of is not None
    )


def _schema_of(source: Source[Any]) -> pa.Schema:
    return samples_schema(source.classes.all, source.metadata, added=source.added)


def _write_tar(
    dataset_url: str, split: str, name: str, refs: Sequence[AnyRef], source: Source[AnyRef]
) -> tuple[list[dict[str, Any]], list[Refused], list[FoundInScan], str, int]:
    """Write the tar and its index; return rows, quarantine rows, findings, digest and size. No samples: no tar."""
    tar_url = storage.join_url(dataset_url, split, f"{name}.tar")
    index_url = storage.join_url(dataset_url, split, f"{name}.idx")
    rows: list[dict[str, Any]] = []
    refused: list[Refused] = []
    found: list[FoundInScan] = []
    began = time.time() - _CLOCK_TICK_SECONDS
    pieces = _take_pieces(_read_pieces(refs, source), refused, found)
    first = next(pieces, None)
    if first is None:
        storage.remove(tar_url)
        storage.remove(index_url)
        return rows, refused, found, "", 0
    with storage.atomic_writer(tar_url) as out:
        writer = TarShardWriter(out)
        for piece in chain([first], pieces):
            for sample, offset in zip(piece.samples, writer.write(piece), strict=True):
                place = {"shard": f"{name}.tar", "offset_bytes": offset, "size_bytes": sample.image_bytes}
                rows.append(sample.row | place)
        digest = writer.finish()
    storage.set_written_at(tar_url, began)  # so that a later run knows which images were replaced after it
    storage.write_bytes(index_url, writer.index())
    return rows, refused, found, digest, writer.size_bytes


class _Piece(NamedTuple):
    packed: TarPiece
    refused: list[Refused]
    found: list[FoundInScan]


def _take_pieces(pieces: Iterable[_Piece], refused: list[Refused], found: list[FoundInScan]) -> Iterator[TarPiece]:
    for piece, rows, remarks in pieces:
        refused += rows
        found += remarks
        if piece.samples:
            yield piece


def _read_pieces(refs: Sequence[AnyRef], source: Source[AnyRef]) -> Iterator[_Piece]:
    """Yield the samples of records in order, packed, with the rows of refused ones.

    A disk has the next bytes ready: they are read when they are needed. A store answers after milliseconds: threads ask
    it for a few chunks ahead. A chunk closes at 1 MB, so memory is bounded whatever the sizes are.
    """
    first = next((ref for ref in refs if not ref.reason), None)
    if first is None or storage.local_path(first.bytes_url) is not None:
        yield from (_read_piece(source, chunk) for chunk in _chunk(refs))
        return
    yield from map_prefetched(partial(_read_piece, source), _chunk(refs), _REMOTE_READERS, 2 * _REMOTE_READERS)


def _read_piece(source: Source[AnyRef], refs: Sequence[AnyRef]) -> _Piece:
    results = source.read(refs)
    scans = [result for result in results if isinstance(result, Scan)]
    refused = [result for result in results if not isinstance(result, Scan)]
    remarks = [(scan.row["key"], scan.remarks) for scan in scans if scan.remarks]
    remarks += [(row["key"], row.pop("remarks")) for row in refused if "remarks" in row]
    found = [(group, kind, key, detail) for key, of in remarks for group, kind, detail in of]
    return _Piece(pack_samples((scan.row, scan.image) for scan in scans), refused, found)


def _chunk(refs: Sequence[AnyRef]) -> Iterator[list[AnyRef]]:
    chunk: list[AnyRef] = []
    size = 0
    for ref in refs:
        chunk.append(ref)
        size += ref.size_bytes
        if len(chunk) == _CHUNK_SCANS or size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _write_quarantine(dataset_url: str, name: str, refused: Sequence[Refused]) -> None:
    url = quarantine_url(dataset_url, name)
    if refused:
        write_parquet(url, pa.Table.from_pylist(list(refused), schema=QUARANTINE_SCHEMA))
    else:
        storage.remove(url)


def _find_finished(
    dataset_url: str, split: str, name: str, plan: str, refs: Sequence[AnyRef], source: Source[AnyRef]
) -> pa.Table | None:
    """Return the rows that an earlier run wrote for this plan, if every byte of the shard matches them."""
    draft_url = _draft_url(dataset_url, name)
    for url in (draft_url, samples_url(dataset_url, name)):
        table = _read_rows(url, source)
        if table is None or shard_metadata(table)["plan"] != plan:
            continue
        if not source.is_settled(table, refs, _when_begun(dataset_url, split, name)):
            continue
        damages, _ = check_shard(dataset_url, split, name, table)
        if not damages:
            if url != draft_url:
                storage.remove(draft_url)  # of another plan, or damaged
            return table
    return None


def _when_begun(dataset_url: str, split: str, name: str) -> float:
    """Return when an earlier run began to read the records of a shard, in seconds since 1970; see `_write_tar`."""
    tar_url = storage.join_url(dataset_url, split, f"{name}.tar")
    written = storage.written_at(tar_url) or storage.written_at(quarantine_url(dataset_url, name))
    return written.timestamp() if written is not None else 0.0


def _read_rows(url: str, source: Source[AnyRef]) -> pa.Table | None:
    """Return the rows in a file; None if it is absent or its bytes are not those written for these rows."""
    schema = _schema_of(source)
    known = (
        [schema] if source.metadata or source.added else [schema, samples_schema(source.classes.all, format_version=1)]
    )
    try:
        table = read_parquet(url)
        shard_metadata(table)
    except (FileNotFoundError, ValueError):
        return None
    if table.schema.remove_metadata() not in known:
        return None
    # Pages have checksums, the bytes between them have none.
    return table if storage.read_bytes(url) == parquet_bytes(table) else None


def _as_written(split: str, name: str, table: pa.Table, *, was_reused: bool) -> WrittenShard:
    metadata = shard_metadata(table)
    info = ShardInfo(
        name=name,
        split=split,
        num_scans=table.num_rows,
        num_quarantined=metadata["num_quarantined"],
        image_bytes=metadata["image_bytes"],
        tar_bytes=metadata["tar_bytes"],
        digest=metadata["digest"],
    )
    checksums = tuple(zip(table["sha256"].to_pylist(), table["key"].to_pylist(), strict=True))
    return WrittenShard(info, checksums, was_reused)


def _draft_url(dataset_url: str, name: str) -> str:
    return storage.join_url(dataset_url, DRAFTS_FOLDER, f"{name}.parquet")
