"""A small dataset for tests of reading and scoring: any bytes as images, and ways to damage what was written."""

import hashlib
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from shards.format.dataset import Dataset, open_dataset
from shards.format.manifest import MANIFEST_NAME, DatasetManifest, ShardInfo, SplitLedger, samples_url
from shards.format.parquet import samples_schema, write_parquet
from shards.format.tar import TarShardWriter, pack_samples
from shards.images.jpeg import ImageError, read_jpeg_size

CLASSES = ("Gun", "Knife", "Wrench")


def make_jpeg(seed: int, width: int | None = None, height: int | None = None) -> bytes:
    """Return a small scan-like JPEG: smooth shapes on white, of a size that follows from the seed."""
    rng = np.random.default_rng(seed)
    width = width or int(rng.integers(60, 140))
    height = height or int(rng.integers(60, 140))
    pixels = np.full((height, width, 3), 250, dtype=np.uint8)
    for _ in range(6):
        x, y = int(rng.integers(0, width - 20)), int(rng.integers(0, height - 20))
        pixels[y : y + 20 + seed % 7, x : x + 25] = rng.integers(0, 200, size=3)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=75)
    return out.getvalue()


def bogus_huffman(jpeg: bytes) -> bytes:
    """Return a JPEG whose markers and end are whole, and which no decoder decodes."""
    at = jpeg.index(b"\xff\xc4")
    return jpeg[: at + 5] + b"\xff" * 16 + jpeg[at + 21 :]


def absurd_header(jpeg: bytes) -> bytes:
    """Return a JPEG that claims 60000 x 60000 pixels."""
    at = jpeg.index(b"\xff\xc0")
    return jpeg[: at + 5] + struct.pack(">HH", 60000, 60000) + jpeg[at + 9 :]


def write_dataset(root: Path, shards: dict[str, list[tuple[str, bytes]]]) -> Dataset:
    """Write whole tars, rows and a manifest of {"test-00000-of-00001": [(key, jpeg)]}; a name begins with its split."""
    infos = [_write_shard(root, name, images) for name, images in shards.items()]
    totals: dict[str, int] = {}
    for info in infos:
        totals[info.split] = totals.get(info.split, 0) + info.num_scans
    ledger = {split: SplitLedger(listed=num, converted=num, quarantined=0) for split, num in totals.items()}
    manifest = DatasetManifest(
        classes=CLASSES, scored_classes=CLASSES, shards=tuple(infos), ledger=ledger, options={}, versions={}
    )
    (root / MANIFEST_NAME).write_bytes(manifest.to_json())
    return open_dataset(str(root))


def small_dataset(root: Path, *, num_train: int = 10, num_test: int = 5, seed: int = 0) -> Dataset:
    """Write two shards of train and one of test."""
    train = [(f"P{number:05d}", make_jpeg(seed + number)) for number in range(num_train)]
    test = [(f"N{number:05d}", make_jpeg(seed + 1000 + number)) for number in range(num_test)]
    names = {"train-00000-of-00002": train[0::2], "train-00001-of-00002": train[1::2], "test-00000-of-00001": test}
    return write_dataset(root, names)


def overwrite(tar: str | Path, offset_bytes: int, data: bytes) -> None:
    """Put other bytes into a file, its length stays."""
    with Path(tar).open("r+b") as handle:
        handle.seek(offset_bytes)
        handle.write(data)


def _write_shard(root: Path, name: str, images: list[tuple[str, bytes]]) -> ShardInfo:
    split = name.partition("-")[0]
    path = root / split / f"{name}.tar"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [_row(key, split, path.name, image) for key, image in images]
    with path.open("wb") as out:
        writer = TarShardWriter(out)
        piece = pack_samples((row, image) for row, (_, image) in zip(rows, images, strict=True))
        for row, offset in zip(rows, writer.write(piece), strict=True):
            row["offset_bytes"] = offset
        digest = writer.finish()
    write_parquet(samples_url(str(root), name), pa.Table.from_pylist(rows, samples_schema(CLASSES)))
    return ShardInfo(
        name=name,
        split=split,
        num_scans=len(rows),
        num_quarantined=0,
        image_bytes=writer.image_bytes,
        tar_bytes=path.stat().st_size,
        digest=digest,
    )


def _row(key: str, split: str, shard: str, image: bytes) -> dict[str, Any]:
    try:
        width, height = read_jpeg_size(image)
    except ImageError:  # a row written by software that did not look
        width, height = 100, 100
    return {
        "key": key,
        "split": split,
        "shard": shard,
        "size_bytes": len(image),
        "sha256": hashlib.sha256(image).hexdigest(),
        "width_px": width,
        "height_px": height,
        "labels": dict.fromkeys(CLASSES, 0),
        "boxes": [],
        "source_uri": f"file:///generated/{key}.jpg",
        "duplicate_of": None,
    }
