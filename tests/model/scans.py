"""A small dataset for tests: noisy images, each class a bright square of its own colour, in shards by hand."""

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from shards.format.dataset import Dataset, open_dataset
from shards.format.manifest import MANIFEST_NAME, DatasetManifest, ShardInfo, SplitLedger, samples_url, shard_name
from shards.format.parquet import samples_schema, write_parquet

CLASSES = ("Gun", "Knife", "Wrench")
ALL_CLASSES = (*CLASSES, "Hammer")
_COLOURS = ((230, 30, 30), (30, 200, 30), (30, 30, 230))


def make_dataset(root: Path, *, num_train=24, num_test=4, num_shards=2, seed=0) -> Dataset:
    """Write a dataset; labels are drawn with a chance of 0.4 a class, Hammer is unknown everywhere."""
    rng = np.random.default_rng(seed)
    shards, ledger = [], {}
    for split, count in (("train", num_train), ("test", num_test)):
        keys = [f"{'P' if split == 'train' else 'N'}{number:05d}" for number in range(count)]
        for index in range(num_shards):
            shards.append(_write_shard(root, split, index, num_shards, keys[index::num_shards], rng))
        ledger[split] = SplitLedger(listed=count, converted=count, quarantined=0)
    manifest = DatasetManifest(
        classes=ALL_CLASSES,
        scored_classes=CLASSES,
        shards=tuple(shards),
        ledger=ledger,
        options={},
        versions={},
    )
    (root / MANIFEST_NAME).write_bytes(manifest.to_json())
    return open_dataset(str(root))


def draw_scan(labels, rng) -> bytes:
    """Return a JPEG with a square for every class that is present."""
    width, height = (int(side) for side in rng.integers(80, 140, size=2))
    pixels = rng.integers(150, 255, size=(height, width, 3), dtype=np.uint8)
    for colour, present in zip(_COLOURS, labels, strict=True):
        if present:
            x, y = int(rng.integers(0, width - 40)), int(rng.integers(0, height - 40))
            pixels[y : y + 40, x : x + 40] = colour
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=85)
    return out.getvalue()


def _write_shard(root, split, index, num_shards, keys, rng) -> ShardInfo:
    name = shard_name(split, index, num_shards)
    path = root / split / f"{name}.tar"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for key in keys:
            labels = (rng.random(len(CLASSES)) < 0.4).astype(int).tolist()
            image = draw_scan(labels, rng)
            info = tarfile.TarInfo(f"{key}.jpg")
            info.size = len(image)
            rows.append(_row(key, split, path.name, tar.offset + tarfile.BLOCKSIZE, image, labels))
            tar.addfile(info, io.BytesIO(image))
    write_parquet(samples_url(str(root), name), pa.Table.from_pylist(rows, schema=samples_schema(ALL_CLASSES)))
    return ShardInfo(
        name=name,
        split=split,
        num_scans=len(keys),
        num_quarantined=0,
        image_bytes=sum(row["size_bytes"] for row in rows),
        tar_bytes=path.stat().st_size,
        digest=hashlib.sha256(path.read_bytes()).hexdigest(),
    )


def _row(key, split, shard, offset, image, labels):
    width, height = Image.open(io.BytesIO(image)).size
    return {
        "key": key,
        "split": split,
        "shard": shard,
        "offset_bytes": offset,
        "size_bytes": len(image),
        "sha256": hashlib.sha256(image).hexdigest(),
        "width_px": width,
        "height_px": height,
        "labels": dict(zip(CLASSES, labels, strict=True)) | {"Hammer": None},
        "boxes": [],
        "source_uri": f"file:///generated/{key}.jpg",
        "duplicate_of": None,
    }
