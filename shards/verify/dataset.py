"""Verify a whole dataset against its manifest: every file and row, the ledger, keys and duplicates."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Set
from dataclasses import asdict, dataclass

import pyarrow as pa

from shards import storage
from shards.format.dataset import Dataset
from shards.format.keys import hash_key, place_in
from shards.format.manifest import (
    CARD_FILES,
    LEAKAGE_NAME,
    MANIFEST_NAME,
    ShardInfo,
    corrections_url,
    count_reasons,
    expected_files,
    quarantine_url,
)
from shards.format.parquet import read_parquet
from shards.shuffle import NUM_PARTITIONS, batch_by, unpack
from shards.verify.shard import Damage, check_shard, shard_metadata

_ROWS_A_RANGE = 500_000
"""About 50 MB packed, 220 MB unpacked. No finding depends on it."""

Row = tuple[str, str, str, str | None]
"""key, sha256, shard name, duplicate_of."""


@dataclass(frozen=True, slots=True)
class CheckedShard:
    """What was found in one shard."""

    split: str
    num_rows: int
    quarantined_by_reason: dict[str, int]
    rows: tuple[Row, ...]
    damages: tuple[Damage, ...]
    num_read_bytes: int
    """Of the tar."""


def verify_shard(dataset: Dataset, info: ShardInfo) -> CheckedShard:
    """Read every byte of one shard's files."""
    damages: list[Damage] = []
    reasons: dict[str, int] = {}
    num_read_bytes = 0
    samples_file = f"samples/{info.name}.parquet"
    try:
        table = read_parquet(dataset.samples_url(info))
        damages += _check_rows(dataset, info, table, samples_file)
        found, num_read_bytes = check_shard(dataset.url, info.split, info.name, table)
        damages += found
    except FileNotFoundError:
        damages.append(Damage(samples_file, "", "missing_file", f"{info.num_scans} rows are not there"))
        table = dataset.manifest.samples_schema.empty_table()
    except ValueError as error:
        damages.append(Damage(samples_file, "", "unreadable_table", str(error)))
        table = dataset.manifest.samples_schema.empty_table()
    if info.num_quarantined:
        found, reasons = _check_quarantine(dataset, info)
        damages += found
    names = [info.name] * len(table)
    columns = [table[name].to_pylist() for name in ("key", "sha256", "duplicate_of")]
    rows = tuple(zip(columns[0], columns[1], names, columns[2], strict=True))
    return CheckedShard(info.split, len(table), reasons, rows, tuple(sorted(set(damages))), num_read_bytes)


def verify_ledger(dataset: Dataset, shards: Iterable[CheckedShard]) -> list[Damage]:
    """Compare the ledger with what the shards hold, and the files in the folder with those of a finished dataset."""
    converted: Counter[str] = Counter()
    reasons: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for shard in shards:
        converted[shard.split] += shard.num_rows
        reasons[shard.split].update(shard.quarantined_by_reason)
    urls = {info.url for info in storage.list_files(dataset.url)}
    manifest = dataset.manifest
    damages = [
        *find_surplus(dataset, urls),
        *_check_table(storage.join_url(dataset.url, LEAKAGE_NAME), manifest.leakage.get("sha256")),
        *_check_table(corrections_url(dataset.url), manifest.corrections.get("sha256")),
        *check_manifest(dataset),
    ]
    for split, counts in dataset.manifest.ledger.items():
        found = (converted[split], sum(reasons[split].values()), dict(sorted(reasons[split].items())))
        expected = (counts.converted, counts.quarantined, counts.quarantined_by_reason)
        if found != expected:
            detail = f"split {split!r}: shards hold {found}, the ledger says {asdict(counts)}"
            damages.append(Damage(MANIFEST_NAME, "", "ledger_mismatch", detail))
    return damages


def choose_num_ranges(num_scans: int) -> int:
    """Return in how many ranges the rows of a dataset are compared, by key and by checksum."""
    return max(NUM_PARTITIONS, -(-num_scans // _ROWS_A_RANGE))


def batch_rows_by_checksum(shard: CheckedShard, num_ranges: int) -> Iterator[tuple[int, bytes]]:
    """Yield the rows of a shard in batches by range of their checksum."""
    # Hashed once more: a damaged row's checksum may be any text.
    return batch_by(shard.rows, lambda row: place_in(hash_key(row[1]), num_ranges))


def batch_rows_by_key(shard: CheckedShard, num_ranges: int) -> Iterator[tuple[int, bytes]]:
    """Yield the rows of a shard in batches by range of the key's hash."""
    return batch_by(shard.rows, lambda row: place_in(hash_key(row[0]), num_ranges))


def verify_duplicates(batches: Iterable[bytes]) -> Iterator[Damage]:
    """Yield the rows whose `duplicate_of` is not the first key with the same bytes; all such rows are in `batches`."""
    members: defaultdict[str, list[Row]] = defaultdict(list)
    for row in _unpack(batches):
        members[row[1]].append(row)
    for rows in members.values():
        first, *others = sorted(rows, key=lambda row: row[0])
        for row, expected in [(first, None), *((other, first[0]) for other in others)]:
            if row[3] != expected:
                detail = f"duplicate_of is {row[3]!r}, the first key with these bytes is {expected!r}"
                yield Damage(f"samples/{row[2]}.parquet", row[0], "duplicate_mismatch", detail)


def verify_keys(batches: Iterable[bytes]) -> Iterator[Damage]:
    """Yield the keys that occur more than once; all rows of such a key are in `batches`."""
    shards_of: defaultdict[str, list[str]] = defaultdict(list)
    for row in _unpack(batches):
        shards_of[row[0]].append(row[2])
    for key, names in shards_of.items():
        for name in sorted(names)[1:]:
            yield Damage(f"samples/{name}.parquet", key, "key_twice", f"the key is also in {min(names)}")


def _unpack(batches: Iterable[bytes]) -> Iterator[Row]:
    for batch in batches:
        yield from unpack(batch)


def _check_rows(dataset: Dataset, info: ShardInfo, table: pa.Table, file: str) -> list[Damage]:
    schema = dataset.manifest.samples_schema
    if table.schema.remove_metadata() != schema.remove_metadata():
        raise ValueError(f"rows must have the columns {schema.names}, got {table.schema.names}")
    metadata = shard_metadata(table)
    pairs = {
        "rows": (table.num_rows, info.num_scans),
        "sha256": (storage.sha256_of(dataset.samples_url(info)), info.samples_sha256),
        "digest of the tar": (metadata["digest"], info.digest),
        "size of the tar": (metadata["tar_bytes"], info.tar_bytes),
        "bytes of images": (sum(table["size_bytes"].to_pylist()), info.image_bytes),
        "refused records": (metadata["num_quarantined"], info.num_quarantined),
        "split": (set(table["split"].to_pylist()) or {info.split}, {info.split}),
        "shard": (set(table["shard"].to_pylist()) or {f"{info.name}.tar"}, {f"{info.name}.tar"}),
    }
    return [
        Damage(file, "", "row_mismatch", f"{what}: the table has {found}, the manifest says {expected}")
        for what, (found, expected) in pairs.items()
        if found != expected
    ]


def _check_quarantine(dataset: Dataset, info: ShardInfo) -> tuple[list[Damage], dict[str, int]]:
    url = quarantine_url(dataset.url, info.name)
    file = f"quarantine/{storage.base_name(url)}"
    try:
        table = read_parquet(url)
        checksum = storage.sha256_of(url)
    except FileNotFoundError:
        return [Damage(file, "", "missing_file", "the file is not there")], {}
    except ValueError as error:
        return [Damage(file, "", "unreadable_table", str(error))], {}
    if checksum == info.quarantine_sha256:
        return [], count_reasons(table)
    detail = f"the file has sha256 {checksum}, the manifest says {info.quarantine_sha256}"
    return [Damage(file, "", "checksum_mismatch", detail)], count_reasons(table)


def find_surplus(dataset: Dataset, urls: Set[str]) -> list[Damage]:
    """Return the files of a listing that a finished dataset does not have."""
    cards = {storage.join_url(dataset.url, name) for name in CARD_FILES}
    surplus = urls - expected_files(dataset.url, dataset.manifest).keys() - cards
    names = sorted(storage.path_below(url, dataset.url) for url in surplus)
    return [Damage(name, "", "surplus_file", "no shard of this dataset has such a file") for name in names]


def check_manifest(dataset: Dataset) -> list[Damage]:
    """Compare the text of the manifest with what a conversion writes."""
    if storage.read_bytes(storage.join_url(dataset.url, MANIFEST_NAME)) == dataset.manifest.to_json():
        return []
    detail = "its totals are not those of its shards and ledger, or its text is not what a conversion writes"
    return [Damage(MANIFEST_NAME, "", "manifest_mismatch", detail)]


def _check_table(url: str, expected: str | None) -> list[Damage]:
    if expected is None:
        return []
    name = storage.base_name(url)
    try:
        found = storage.sha256_of(url)
    except FileNotFoundError:
        return [Damage(name, "", "missing_file", "the file is not there")]
    if found == expected:
        return []
    return [Damage(name, "", "checksum_mismatch", f"the file has sha256 {found}, the manifest says {expected}")]


def write_report(damages: Iterable[Damage], report_url: str) -> None:
    """Write what was found as a JSON list, in the order of the files."""
    found = [asdict(damage) for damage in sorted(damages)]
    storage.write_bytes(report_url, json.dumps(found, indent=1).encode())
