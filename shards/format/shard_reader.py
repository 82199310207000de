"""Read the images of a shard, each checked against its row.

A batch of neighbouring scans is one range of the tar, so a shard is read front to back in large ranges, prefetched by a
few threads: memory is bounded and a remote shard needs no local copy.
"""

import hashlib
import tarfile
import threading
from collections.abc import Generator, Iterable, Sequence
from functools import cached_property
from typing import NamedTuple

import pyarrow as pa

from shards import storage
from shards.format.classes import Box
from shards.format.dataset import Dataset, read_samples_table
from shards.format.tar import BLOCK_BYTES
from shards.images.inspect import EXTENSIONS, ImageBytes, read_image_size
from shards.images.jpeg import ImageError
from shards.prefetch import map_prefetched

_REMOTE_THREADS = 4
_LOCAL_THREADS = 2
_MAX_GAP_BYTES = 64 * 1024
"""Reading this much in vain is cheaper than a second request to an object store."""


class ScanRow(NamedTuple):
    """The columns of `samples` that describe an image."""

    key: str
    split: str
    offset_bytes: int
    size_bytes: int
    sha256: str
    width_px: int
    height_px: int
    source_uri: str


class Refusal(NamedTuple):
    """Why an image is refused."""

    reason: str
    """A fixed word: missing_shard, truncated_shard, missing_component, checksum_mismatch, size_mismatch, or one
    of `shards.images.inspect`."""
    detail: str
    sha256: str | None
    """Of the bytes that were read; None if there were none."""


class ReadScan(NamedTuple):
    """A row with either its image or the refusal."""

    row: ScanRow
    image: ImageBytes | None
    """A view of the range that was read, which lives as long as it."""
    refusal: Refusal | None


def read_rows(samples_url: str, num_scans: int) -> list[ScanRow]:
    """Return the rows of a shard in tar order; ValueError unless there are `num_scans`, as in the manifest."""
    table = read_samples_table(samples_url, ScanRow._fields)
    if table.num_rows != num_scans:
        raise ValueError(
            f"samples of a shard must have {num_scans} rows, got {table.num_rows} ({samples_url}); "
            f"run `sixray verify` on the dataset"
        )
    return _to_rows(table)


def find_rows(dataset: Dataset, keys: Iterable[str], split: str | None = None) -> dict[str, tuple[str, ScanRow]]:
    """Return the tar and the row of each of some keys, in shard and tar order; unknown keys are left out."""
    found: dict[str, tuple[str, ScanRow]] = {}
    for shard, table in dataset.find_samples(keys, ScanRow._fields, split):
        found |= {row.key: (dataset.tar_url(shard), row) for row in _to_rows(table)}
    return found


class LabelledRow(NamedTuple):
    """An image of a tar, and its boxes."""

    tar_url: str
    row: ScanRow
    boxes: tuple[Box, ...]


def find_labelled_rows(dataset: Dataset, keys: Iterable[str], split: str | None = None) -> dict[str, LabelledRow]:
    """Return the rows of some keys as `find_rows` does, with their boxes."""
    found: dict[str, LabelledRow] = {}
    for shard, table in dataset.find_samples(keys, [*ScanRow._fields, "boxes"], split):
        tar_url = dataset.tar_url(shard)
        for row, boxes in zip(_to_rows(table), table["boxes"].to_pylist(), strict=True):
            found[row.key] = LabelledRow(tar_url, row, tuple(map(Box.from_row, boxes)))
    return found


def _to_rows(table: pa.Table) -> list[ScanRow]:
    columns = [table[name].to_pylist() for name in ScanRow._fields]
    return list(map(ScanRow._make, zip(*columns, strict=True)))


def read_image(dataset: Dataset, key: str) -> bytes:
    """Return the encoded image of a sample.

    Raises:
        ValueError: no sample has this key, or the bytes are not those that its row names.
    """
    found = find_rows(dataset, [key])
    if key not in found:
        raise ValueError(f"key must be that of a sample, got {key!r} ({dataset.url})")
    return read_image_of_row(*found[key])


def read_image_of_row(tar_url: str, row: ScanRow) -> bytes:
    """Return one image; ValueError unless its bytes are those that the row names."""
    scan = read_scan_of_row(tar_url, row)
    if scan.refusal is not None:
        raise ValueError(
            f"image of sample {row.key!r} must be as its row says, got {scan.refusal.reason}: {scan.refusal.detail} "
            f"({tar_url}); run `sixray verify` on the dataset"
        )
    assert scan.image is not None
    return bytes(scan.image)


def read_scan_of_row(tar_url: str, row: ScanRow) -> ReadScan:
    """Return one row with its image, or with the refusal."""
    (scan,) = ShardReader(tar_url).read([row])
    return scan


class Buffers:
    """Memory that is filled again once no view of it is left: new memory takes longer to map than to fill."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: list[bytearray] = []

    def take(self, size_bytes: int) -> memoryview:
        """Return a view of memory that is kept as it is while any view of it lives."""
        with self._lock:
            buffer = next((buffer for buffer in self._all if _is_free(buffer)), None)
            if buffer is None or len(buffer) < size_bytes:
                self._all = [other for other in self._all if other is not buffer]
                buffer = bytearray(size_bytes + size_bytes // 8)
                self._all.append(buffer)
            return memoryview(buffer)[:size_bytes]


def _is_free(buffer: bytearray) -> bool:
    try:
        buffer.append(0)
    except BufferError:  # it cannot grow while there are views of it
        return False
    buffer.pop()
    return True


def read_scans(
    tar_url: str,
    rows: Sequence[ScanRow],
    batch_size: int,
    *,
    num_threads: int = _LOCAL_THREADS,
    buffers: Buffers | None = None,
) -> Generator[list[ReadScan], None, None]:
    """Yield all rows in order, in batches, each with its image or a refusal.

    Args:
        tar_url: of the shard.
        rows: of the shard.
        batch_size: scans of a batch.
        num_threads: that read a local tar, each a batch ahead; a remote one is read by `_REMOTE_THREADS` at least.
        buffers: shared by the shards that are read one after the other.

    Raises:
        OSError: the tar exists but cannot be read (permissions, network); a retry may help, so nothing is refused.
    """
    reader = ShardReader(tar_url, buffers)
    num_ahead = max(num_threads, 0 if storage.local_path(tar_url) is not None else _REMOTE_THREADS)
    batches = (rows[first : first + batch_size] for first in range(0, len(rows), batch_size))
    return map_prefetched(reader.read, batches, num_threads=num_ahead, depth=num_ahead)


class ShardReader:
    """Reads scans of one tar; threads may use it at once."""

    def __init__(self, tar_url: str, buffers: Buffers | None = None) -> None:
        self.tar_url = tar_url
        self._buffers = buffers or Buffers()

    def read(self, rows: Sequence[ScanRow]) -> list[ReadScan]:
        """Return scans, checked; neighbours are read in one range."""
        heads = [min(BLOCK_BYTES, row.offset_bytes) for row in rows]  # the header before the image
        try:
            pieces = read_spans(
                self.tar_url,
                [(row.offset_bytes - head, head + row.size_bytes) for row, head in zip(rows, heads, strict=True)],
                self._buffers,
            )
        except FileNotFoundError:
            missing = Refusal("missing_shard", f"there is no {storage.base_name(self.tar_url)}", None)
            return [ReadScan(row, None, missing) for row in rows]
        return [
            self._check(row, piece[head:], piece[:head]) for row, piece, head in zip(rows, pieces, heads, strict=True)
        ]

    def _check(self, row: ScanRow, image: ImageBytes, header: memoryview) -> ReadScan:
        refusal = check_image(row, image) if len(image) == row.size_bytes else _truncated(row, image)
        if refusal is not None and not _names_member(header, row.key):
            # The scan is not at the offset of its row: another tool rewrote the tar, or it is truncated.
            image, refusal = self._read_member(row, refusal)
        return ReadScan(row, image if refusal is None else None, refusal)

    def _read_member(self, row: ScanRow, refusal: Refusal) -> tuple[ImageBytes, Refusal | None]:
        member = next((self._members[name] for name in _member_names(row.key) if name in self._members), None)
        if member is not None:
            image = storage.read_range(self.tar_url, *member)
            return image, check_image(row, image)
        if refusal.reason == "truncated_shard":
            return b"", refusal
        return b"", Refusal("missing_component", f"the tar has no {' or '.join(_member_names(row.key))}", None)

    @cached_property
    def _members(self) -> dict[str, tuple[int, int]]:
        """Offset and size of every member that can be found; needed only if rows and tar disagree."""
        found: dict[str, tuple[int, int]] = {}
        with storage.open_reader(self.tar_url) as handle:
            try:
                with tarfile.open(fileobj=handle, mode="r:", ignore_zeros=True) as tar:
                    for member in tar:
                        found[member.name] = (member.offset_data, member.size)
            except (tarfile.TarError, EOFError):
                return found  # members before the damage are usable
        return found


def read_spans(url: str, spans: Sequence[tuple[int, int]], buffers: Buffers | None = None) -> list[memoryview]:
    """Return the bytes of some spans of a file, each (offset, size) in bytes, as far as it reaches.

    Neighbours are read in one request; each result is a view of what was read in it. With `buffers` a local file is
    read into memory that is used again.
    """
    found = [memoryview(b"")] * len(spans)
    run: list[int] = []
    run_end = 0
    for place in [*sorted(range(len(spans)), key=spans.__getitem__), None]:
        if run and (place is None or spans[place][0] - run_end > _MAX_GAP_BYTES):
            start = spans[run[0]][0]
            piece = _read_piece(url, start, run_end - start, buffers)
            for member in run:
                offset, size = spans[member]
                found[member] = piece[offset - start : offset - start + size]
            run, run_end = [], 0
        if place is not None:
            run.append(place)
            run_end = max(run_end, sum(spans[place]))
    return found


def _read_piece(url: str, start: int, size_bytes: int, buffers: Buffers | None) -> memoryview:
    path = storage.local_path(url)
    if path is None or buffers is None:
        return memoryview(storage.read_range(url, start, size_bytes))
    buffer = buffers.take(size_bytes)
    return buffer[: storage.read_range_into(str(path), start, buffer)]


def check_image(row: ScanRow, image: ImageBytes) -> Refusal | None:
    """Return why these bytes are not the image of a row, or None; checks the checksum, then the size."""
    checksum = hashlib.sha256(image).hexdigest()
    if not image:
        return Refusal("empty_file", "the image has 0 bytes", None)
    if checksum != row.sha256:
        return Refusal("checksum_mismatch", f"row says sha256 {row.sha256}, the tar has {checksum}", checksum)
    try:
        size = read_image_size(image)
    except ImageError as error:
        return Refusal(error.reason, error.detail, checksum)
    if size != (row.width_px, row.height_px):
        found = f"row says {row.width_px} x {row.height_px} pixels, the image has {size[0]} x {size[1]}"
        return Refusal("size_mismatch", found, checksum)
    return None


def _truncated(row: ScanRow, image: ImageBytes) -> Refusal:
    detail = f"the tar ends after {len(image)} of the image's {row.size_bytes} bytes"
    return Refusal("truncated_shard", detail, hashlib.sha256(image).hexdigest() if image else None)


def _names_member(header: memoryview, key: str) -> bool:
    return bytes(header[:100]).rstrip(b"\0").decode("utf-8", "replace") in _member_names(key)


def _member_names(key: str) -> list[str]:
    return [f"{key}.{extension}" for extension in EXTENSIONS]
