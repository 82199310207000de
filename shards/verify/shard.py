"""Verify a shard on disk against its rows, byte for byte; name the kinds of damage."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa

from shards import storage
from shards.format.keys import escape_control_characters
from shards.format.manifest import quarantine_url
from shards.format.parquet import QUARANTINE_SCHEMA, parquet_bytes, read_parquet
from shards.format.tar import BLOCK_BYTES, END_OF_ARCHIVE, index_line, join_index, json_member, make_header, padding
from shards.images.inspect import EXTENSIONS, Extension, component_extension

METADATA_KEY = b"sixray"
"""Key in the metadata of the rows' Parquet file that holds the digest, sizes and plan of a shard."""
_METADATA_FIELDS = {"plan", "digest", "tar_bytes", "image_bytes", "num_quarantined", "num_retryable"}


@dataclass(frozen=True, slots=True, order=True)
class Damage:
    """Something wrong with a file, named so that a person can find it."""

    file: str
    """Path below the dataset's folder."""
    key: str
    """The damaged sample; empty for the whole file."""
    what: str
    """A short fixed word: checksum_mismatch, tar_structure, missing_file, ..."""
    detail: str

    def __str__(self) -> str:
        subject = f"{self.file}: {self.key}" if self.key else self.file
        # Names and keys come from files that nothing is known of: no control character reaches a terminal.
        return escape_control_characters(f"{subject}: {self.what}: {self.detail}")


def shard_metadata(table: pa.Table) -> dict[str, Any]:
    """Return what a table of rows says about its shard; ValueError if it says nothing."""
    text = (table.schema.metadata or {}).get(METADATA_KEY)
    if text is None:
        raise ValueError("rows of a shard must carry the metadata 'sixray', got none; run `sixray convert` again")
    metadata: dict[str, Any] = json.loads(text)
    if not isinstance(metadata, dict) or not metadata.keys() >= _METADATA_FIELDS:
        raise ValueError(f"metadata 'sixray' must have {sorted(_METADATA_FIELDS)}, got {text[:200]!r}")
    return metadata


def check_shard(dataset_url: str, split: str, name: str, table: pa.Table) -> tuple[list[Damage], int]:
    """Read every byte of a shard's tar, index and quarantine part.

    Returns:
        What differs from `table`, its rows; and how many bytes of the tar were read.
    """
    metadata = shard_metadata(table)
    rows = table.to_pylist()
    tar_file, index_file = f"{split}/{name}.tar", f"{split}/{name}.idx"
    quarantine_file = f"quarantine/{storage.base_name(quarantine_url(dataset_url, name))}"
    damages = []
    image_bytes = sum(row["size_bytes"] for row in rows)
    if metadata["image_bytes"] != image_bytes:
        detail = f"the rows say {metadata['image_bytes']} bytes of images, and name {image_bytes}"
        damages.append(Damage(f"samples/{name}.parquet", "", "size_mismatch", detail))
    if metadata["num_quarantined"]:
        damages += _read(dataset_url, quarantine_file, lambda url: _check_quarantine(url, quarantine_file, metadata))
    if not rows:
        return damages, 0
    found, extensions, num_read_bytes = _check_tar_file(dataset_url, tar_file, rows, metadata)
    damages += found
    damages += _read(dataset_url, index_file, lambda url: _check_index(url, index_file, rows, extensions))
    return damages, num_read_bytes


def check_tar(
    tar: IO[bytes], rows: Iterable[dict[str, Any]], file: str
) -> tuple[list[Damage], str, list[Extension | None]]:
    """Compare a tar with its rows, byte for byte, in one pass.

    Args:
        tar: from its start.
        rows: of `samples`, in tar order.
        file: its name in damages.

    Returns:
        What differs from the tar that `TarShardWriter` would write for these rows; the digest of the tar as it is,
        empty for a tar that ends too early; and the extension that the tar gives each image, None for an unknown one.
    """
    damages: list[Damage] = []
    extensions: list[Extension | None] = []
    digest = hashlib.sha256()
    at = 0
    for row in rows:
        expected_rest = padding(row["size_bytes"]) + json_member(row)
        header, image, rest = (tar.read(n) for n in (BLOCK_BYTES, row["size_bytes"], len(expected_rest)))
        if len(rest) < len(expected_rest):
            damages.append(
                Damage(file, row["key"], "truncated_tar", f"the file ends in this sample, which begins at {at}")
            )
            return damages, "", extensions
        checksum = hashlib.sha256(image)
        if row["offset_bytes"] != at + BLOCK_BYTES:
            detail = f"the row says {row['offset_bytes']}, the tar has {at + BLOCK_BYTES}"
            damages.append(Damage(file, row["key"], "offset_mismatch", detail))
        is_whole = checksum.hexdigest() == row["sha256"]
        if not is_whole:
            detail = f"the row says sha256 {row['sha256']}, the tar has {checksum.hexdigest()}"
            damages.append(Damage(file, row["key"], "checksum_mismatch", detail))
        extension = next((end for end in EXTENSIONS if header == _image_header(row, end)), None)
        extensions.append(extension)
        if extension is None or rest != expected_rest or (is_whole and extension != component_extension(image)):
            detail = "header, padding or JSON is not what the row says"
            damages.append(Damage(file, row["key"], "tar_structure", detail))
        digest.update(header + checksum.digest() + rest)
        at += len(header) + len(image) + len(rest)
    tail = tar.read(len(END_OF_ARCHIVE) + 1)
    digest.update(tail)
    if tail != END_OF_ARCHIVE:
        detail = f"the last sample must be followed by {len(END_OF_ARCHIVE)} zeros and no more"
        damages.append(Damage(file, "", "tar_structure", detail))
    return damages, digest.hexdigest(), extensions


def _image_header(row: dict[str, Any], extension: Extension) -> bytes:
    return make_header(f"{row['key']}.{extension}", row["size_bytes"])


def _read(dataset_url: str, file: str, check: Callable[[str], list[Damage]]) -> list[Damage]:
    try:
        return check(storage.join_url(dataset_url, file))
    except FileNotFoundError:
        return [Damage(file, "", "missing_file", "the file is not there")]
    except ValueError as error:
        return [Damage(file, "", "unreadable_table", str(error))]


def _check_tar_file(
    dataset_url: str, file: str, rows: list[dict[str, Any]], metadata: dict[str, Any]
) -> tuple[list[Damage], list[Extension | None], int]:
    try:
        with storage.open_reader(storage.join_url(dataset_url, file)) as tar:
            damages, digest, extensions = check_tar(tar, rows, file)
            size_bytes = tar.tell()
    except FileNotFoundError:
        return [Damage(file, "", "missing_file", "the file is not there")], [], 0
    if damages:
        return damages, extensions, size_bytes
    if digest != metadata["digest"]:
        damages.append(Damage(file, "", "digest_mismatch", f"the tar has {digest}, its rows say {metadata['digest']}"))
    if size_bytes != metadata["tar_bytes"]:
        detail = f"the tar has {size_bytes} bytes, its rows say {metadata['tar_bytes']}"
        damages.append(Damage(file, "", "size_mismatch", detail))
    return damages, extensions, size_bytes


def _check_index(url: str, file: str, rows: list[dict[str, Any]], extensions: list[Extension | None]) -> list[Damage]:
    # The tar gives the extension of an image; if it is damaged, the index may name either.
    data = storage.read_bytes(url)
    num_rows = len(rows)
    are_png = ([b".png json " in line for line in data.splitlines()[1:]] + [False] * num_rows)[:num_rows]
    of_tar = (extensions + [None] * num_rows)[:num_rows]
    names: list[Extension] = [
        extension or ("png" if is_png else "jpg") for extension, is_png in zip(of_tar, are_png, strict=True)
    ]
    if data == join_index([index_line(row, name) for row, name in zip(rows, names, strict=True)]):
        return []
    return [Damage(file, "", "index_mismatch", "the index is not that of the shard's rows")]


def _check_quarantine(url: str, file: str, metadata: dict[str, Any]) -> list[Damage]:
    table = read_parquet(url)
    if table.num_rows != metadata["num_quarantined"]:
        detail = f"{table.num_rows} rows, {metadata['num_quarantined']} records were refused"
        return [Damage(file, "", "quarantine_mismatch", detail)]
    if table.schema != QUARANTINE_SCHEMA or storage.read_bytes(url) != parquet_bytes(table):
        # A page has its checksum, the file's footer has none.
        return [Damage(file, "", "quarantine_mismatch", "the file is not what a conversion writes for its rows")]
    return []
