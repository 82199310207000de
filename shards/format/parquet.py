"""Read and write Parquet files with page checksums."""

import io
from collections.abc import Sequence
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from shards import storage


def read_parquet(url: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Return a Parquet file as a table; ValueError if it is damaged."""
    try:
        with storage.open_reader(url) as handle:
            return pq.read_table(
                handle, columns=list(columns) if columns is not None else None, page_checksum_verification=True
            )
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # absent or unreadable, not damaged
            raise
        raise ValueError(f"table must be a whole Parquet file, got {error} ({url})") from error


def write_parquet(url: str, table: pa.Table) -> None:
    """Write a Parquet file atomically with page checksums; equal tables give equal bytes."""
    with storage.atomic_writer(url) as out:
        _write_table(table, out)


def parquet_bytes(table: pa.Table) -> bytes:
    """Return the bytes that `write_parquet` writes."""
    out = io.BytesIO()
    _write_table(table, out)
    return out.getvalue()


def _write_table(table: pa.Table, out: IO[bytes]) -> None:
    pq.write_table(table, out, compression="zstd", write_page_checksum=True)
