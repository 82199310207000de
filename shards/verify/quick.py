"""Check a dataset by its manifest, listing, file sizes and table footers, without reading its bytes.

Finds files that are missing, surplus, cut off or of another run. A changed byte is only found by full verification.
"""

import io
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from shards import storage
from shards.format.dataset import Dataset
from shards.format.manifest import MANIFEST_NAME, ShardInfo, expected_files, quarantine_url
from shards.format.parquet import QUARANTINE_SCHEMA
from shards.format.tar import INDEX_VERSION
from shards.verify.dataset import check_manifest, find_surplus
from shards.verify.shard import METADATA_KEY, Damage

_NUM_READERS = 16
_TAIL_BYTES = 64 * 1024
"""Footers of a shard's tables have 5 to 10 kB."""


def verify_quickly(dataset: Dataset) -> list[Damage]:
    """Return what the listing, the manifest and the footers of the tables show to be wrong, in order.

    One listing, and three small reads for each shard whatever its size.
    """
    sizes = {info.url: info.size_bytes for info in storage.list_files(dataset.url)}
    damages = [*find_surplus(dataset, sizes.keys()), *_compare_sizes(dataset, sizes), *check_manifest(dataset)]
    damages += _compare_ledger(dataset)
    with ThreadPoolExecutor(_NUM_READERS, thread_name_prefix="verify-quickly") as pool:
        for found in pool.map(lambda info: _check_shard(dataset, info, sizes), dataset.manifest.shards):
            damages += found
    return sorted(damages)


def _compare_sizes(dataset: Dataset, sizes: Mapping[str, int]) -> list[Damage]:
    damages = []
    for url, size_bytes in expected_files(dataset.url, dataset.manifest).items():
        file = storage.path_below(url, dataset.url)
        if url not in sizes:
            damages.append(Damage(file, "", "missing_file", "the file is not there"))
        elif size_bytes is not None and sizes[url] != size_bytes:
            detail = f"the file has {sizes[url]} bytes, the manifest says {size_bytes}"
            damages.append(Damage(file, "", "size_mismatch", detail))
    return damages


def _compare_ledger(dataset: Dataset) -> list[Damage]:
    damages = []
    for split, counts in dataset.manifest.ledger.items():
        mine = [info for info in dataset.manifest.shards if info.split == split]
        found = (sum(info.num_scans for info in mine), sum(info.num_quarantined for info in mine))
        if found != (counts.converted, counts.quarantined):
            detail = f"split {split!r}: shards hold {found}, the ledger says {(counts.converted, counts.quarantined)}"
            damages.append(Damage(MANIFEST_NAME, "", "ledger_mismatch", detail))
    return damages


def _check_shard(dataset: Dataset, info: ShardInfo, sizes: Mapping[str, int]) -> list[Damage]:
    """Compare the footers of a shard's tables, and the first line of its index, with the manifest."""
    damages = []
    for url, schema, num_rows in (
        (dataset.samples_url(info), dataset.manifest.samples_schema, info.num_scans),
        (quarantine_url(dataset.url, info.name), QUARANTINE_SCHEMA, info.num_quarantined),
    ):
        if url in sizes and (num_rows or schema is not QUARANTINE_SCHEMA):
            problem = _footer_problem(url, sizes[url], schema, num_rows, info)
            damages += [Damage(storage.path_below(url, dataset.url), "", "row_mismatch", problem)] if problem else []
    index_url = dataset.index_url(info)
    if info.num_scans and index_url in sizes:
        expected = f"{INDEX_VERSION} {info.num_scans}\n".encode()
        found = storage.read_range(index_url, 0, min(len(expected), sizes[index_url])) if sizes[index_url] else b""
        if found != expected:
            detail = f"the index begins with {found!r}, that of {info.num_scans} samples with {expected!r}"
            damages.append(Damage(storage.path_below(index_url, dataset.url), "", "index_mismatch", detail))
    return damages


def _footer_problem(url: str, size_bytes: int, schema: pa.Schema, num_rows: int, info: ShardInfo) -> str:
    try:
        footer = _read_footer(url, size_bytes)
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        return f"the file does not end in the footer of a Parquet table: {error}"
    if footer.num_rows != num_rows:
        return f"the table has {footer.num_rows} rows, the manifest says {num_rows}"
    if footer.schema.to_arrow_schema().remove_metadata() != schema.remove_metadata():
        return f"rows must have the columns {schema.names}, got {footer.schema.names}"
    if schema is QUARANTINE_SCHEMA:
        return ""
    found = json.loads((footer.metadata or {}).get(METADATA_KEY, b"{}"))
    expected = {"digest": info.digest, "tar_bytes": info.tar_bytes, "image_bytes": info.image_bytes}
    expected |= {"num_quarantined": info.num_quarantined}
    wrong = [name for name, value in expected.items() if found.get(name) != value]
    return f"the table is of another run: {', '.join(wrong)} are not those of the manifest" if wrong else ""


def _read_footer(url: str, size_bytes: int) -> pq.FileMetaData:
    """Return a table's footer by one read of its end, or two if it is long."""
    start = max(0, size_bytes - _TAIL_BYTES)
    tail = storage.read_range(url, start, size_bytes - start) if size_bytes else b""
    footer_bytes = int.from_bytes(tail[-8:-4], "little") + 8
    if len(tail) < footer_bytes <= size_bytes:
        tail = storage.read_range(url, size_bytes - footer_bytes, footer_bytes)
    return pq.read_metadata(io.BytesIO(tail))
