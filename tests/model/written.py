"""Small datasets and predictions, written as the real ones are: real Parquet, real JSON, no images."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from shards import storage
from shards.format.dataset import Dataset
from shards.format.manifest import DatasetManifest, ShardInfo, SplitLedger, samples_url, shard_name
from shards.format.parquet import QUARANTINE_SCHEMA, predictions_schema, samples_schema, write_parquet
from shards.predictions.parts import part_url, quarantine_part_url

CLASSES = ("Gun", "Knife")
ALL_CLASSES = (*CLASSES, "Hammer")
MODEL_ID = "chr-resnet18-0123456789ab"


def sample(key, labels, boxes=(), duplicate_of=None, size_px=(200, 100), **more):
    """One row of `samples`: labels in the order of CLASSES, boxes as (class, xmin, ymin, xmax, ymax)."""
    names = ("class", "xmin_px", "ymin_px", "xmax_px", "ymax_px")
    return {
        "key": key,
        "labels": dict(zip(ALL_CLASSES, (*labels, None), strict=True)),
        "boxes": [dict(zip(names, box, strict=True)) for box in boxes],
        "duplicate_of": duplicate_of,
        "width_px": size_px[0],
        "height_px": size_px[1],
    } | more


def prediction(key, logits, peaks=None, classes=CLASSES):
    """One row of predictions: logits and (x, y) peaks in the order of CLASSES."""
    logits = dict(zip(classes, logits, strict=True))
    peaks = peaks if peaks is not None else [(0.0, 0.0)] * len(classes)
    return {
        "key": key,
        "split": "test",
        "logits": logits,
        "level_logits": [logits] * 3,
        "peaks": {
            name: {"x_px": x, "y_px": y, "level": 1, "value": 0.5} for name, (x, y) in zip(classes, peaks, strict=True)
        },
    }


def write_dataset(
    root: Path, samples, split="test", num_shards=1, images=None, classes=ALL_CLASSES, scored=CLASSES, metadata=None
) -> Dataset:
    """Write the tables and the manifest of a dataset; of its tars only the `images` (by key), if there are any."""
    infos = []
    for index in range(num_shards):
        name = shard_name(split, index, num_shards)
        rows = [_whole_row(row, split, name) for row in samples[index::num_shards]]
        if images:
            _write_images(root / split / f"{name}.tar", rows, images)
        write_parquet(samples_url(str(root), name), pa.Table.from_pylist(rows, samples_schema(classes, metadata)))
        digest = storage.base_name(name).encode().hex().ljust(64, "0")
        infos.append(
            ShardInfo(
                name=name,
                split=split,
                num_scans=len(rows),
                num_quarantined=0,
                image_bytes=len(rows),
                tar_bytes=1024,
                digest=digest,
            )
        )
    manifest = DatasetManifest(
        classes=classes,
        scored_classes=scored,
        shards=tuple(infos),
        ledger={split: SplitLedger(listed=len(samples), converted=len(samples), quarantined=0)},
        options={},
        versions={},
        metadata=metadata or {},
    )
    storage.write_bytes(storage.join_url(root, "dataset.json"), manifest.to_json())
    return Dataset(str(root), manifest)


def add_split(dataset: Dataset, samples, split) -> Dataset:
    """Write another split beside those of a dataset; return the dataset with both."""
    added = write_dataset(Path(dataset.url), samples, split).manifest
    ledger = dict(dataset.manifest.ledger | added.ledger)
    manifest = replace(dataset.manifest, shards=(*dataset.manifest.shards, *added.shards), ledger=ledger)
    storage.write_bytes(storage.join_url(dataset.url, "dataset.json"), manifest.to_json())
    return Dataset(dataset.url, manifest)


def write_predictions(root: Path, dataset: Dataset, rows, quarantined=(), schema=None, **run) -> str:
    """Write predictions in as many parts as the dataset has shards; `quarantined` are (key, reason) pairs."""
    names = [shard.name for shard in dataset.manifest.shards]
    url = storage.join_url(root, MODEL_ID)
    for index, name in enumerate(names):
        part = pa.Table.from_pylist(list(rows)[index :: len(names)], schema or predictions_schema(CLASSES))
        write_parquet(part_url(url, name), part)
    if quarantined:
        refused = [
            {
                "source_uri": f"file:///{key}.jpg",
                "key": key,
                "stage": "score",
                "reason": reason,
                "detail": "",
                "sha256": None,
            }
            for key, reason in quarantined
        ]
        write_parquet(quarantine_part_url(url, names[0]), pa.Table.from_pylist(refused, QUARANTINE_SCHEMA))
    document = {
        "format": 1,
        "model_id": MODEL_ID,
        "classes": list(CLASSES),
        "dataset_digest": dataset.manifest.digest,
        "parts": names,
        "versions": {"torch": "2.11.0", "sixray-pipeline": "0.1.0"},
        "decoder": "DALI CPU",
    }
    storage.write_bytes(storage.join_url(url, "run.json"), json.dumps(document | run).encode())
    return url


def _write_images(path, rows, images):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        for row in rows:
            image = images[row["key"]]
            out.write(bytes(512))
            digest = hashlib.sha256(image).hexdigest()
            row |= {"offset_bytes": out.tell(), "size_bytes": len(image), "sha256": digest}
            out.write(image)


def _whole_row(row, split, name):
    where = {"split": split, "shard": f"{name}.tar", "offset_bytes": 512, "size_bytes": 1}
    return row | where | {"sha256": "0" * 64, "source_uri": f"file:///{row['key']}.jpg"}
