"""Measure an evaluation of the whole corpus: 1,059,231 scans, 5 classes; and of 50,000 scans, 1,000 classes.

Average precision alone is timed beside scikit-learn and beside the SIXray authors' meter, whose loop over tensor
elements is transcribed here and timed on fewer rows, for it is linear in them.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from sklearn.metrics import average_precision_score

from model.metrics import ranking
from shards import storage
from shards.format.manifest import DatasetManifest, ShardInfo, SplitLedger, samples_url, shard_name
from shards.format.parquet import predictions_schema, samples_schema, write_parquet
from shards.predictions.parts import part_url
from tests.bench.measure import Cost, Measurement, measure_command

CLASSES = ("Gun", "Knife", "Wrench", "Pliers", "Scissors")
NUM_SCANS, NUM_SHARDS, METER_ROWS = 1_059_231, 40, 100_000
MANY_SCANS, MANY_CLASSES = 50_000, 1_000
PREVALENCE = np.array([3131, 1943, 2199, 3961, 983]) / NUM_SCANS
"""As in the whole corpus."""


def run(scratch: Path) -> Iterator[Measurement]:
    """Measure average precision beside two other meters, and the whole command from Parquet to page."""
    labels_NK, logits_NK = draw_scores()
    ours = time_ours(labels_NK, logits_NK)
    theirs = time_scikit_learn(labels_NK, logits_NK)
    authors = time_authors_meter(labels_NK, logits_NK)
    yield Measurement("average precision, 5 classes", ours, "s", "aim: under 2")
    yield Measurement("scikit-learn's, 5 classes", theirs, "s")
    yield Measurement("the SIXray authors' meter, 5 classes", authors, "s", f"linear, from {METER_ROWS:,} rows of one")
    yield Measurement("scikit-learn / ours", theirs / ours, "ratio", "aim: at least 1")
    yield Measurement("authors' meter / ours", authors / ours, "ratio", "aim: at least 50")
    write_tables(scratch / "corpus", CLASSES, labels_NK, logits_NK)
    del labels_NK, logits_NK
    cost = time_command(scratch / "corpus")
    yield Measurement("sixray evaluate, 1,059,231 scans in bags of 3, 5 classes", cost.seconds, "s", "aim: under 60")
    yield Measurement("sixray evaluate, processor", cost.processor_seconds, "s", _name_load())
    yield Measurement("sixray evaluate, peak memory", cost.peak_bytes / 1e9, "GB", "aim: under 2")
    classes = tuple(f"class {k:04d}" for k in range(MANY_CLASSES))
    write_tables(scratch / "many", classes, *draw_single_labels())
    cost = time_command(scratch / "many")
    yield Measurement("sixray evaluate, 50,000 scans, 1,000 classes", cost.seconds, "s", "aim: under 120")
    yield Measurement("sixray evaluate, 1,000 classes, processor", cost.processor_seconds, "s", _name_load())
    yield Measurement("sixray evaluate, 1,000 classes, peak memory", cost.peak_bytes / 1e9, "GB")


def _name_load() -> str:
    """Return how many processes ran or waited: seconds by the clock are of an idle machine only where it is about 1."""
    return f"load average {os.getloadavg()[1]:.1f} of five minutes"


def time_command(root: Path) -> Cost:
    """Return the cost of `sixray evaluate`, from Parquet to page."""
    flags = ["--predictions", root / "pred", "--data", root / "ds", "--output", root / "report"]
    return measure_command("pipelines.evaluate", flags)


def draw_single_labels() -> tuple[np.ndarray, np.ndarray]:
    """Return labels and float32 logits of scans that hold one of many classes each, as in ILSVRC2012."""
    random = np.random.default_rng(1)
    labels_NK = np.zeros((MANY_SCANS, MANY_CLASSES), np.int8)
    labels_NK[np.arange(MANY_SCANS), random.integers(0, MANY_CLASSES, MANY_SCANS)] = 1
    logits_NK = random.normal(-4, 1, labels_NK.shape).astype(np.float32)
    logits_NK[labels_NK == 1] += 3
    return labels_NK, logits_NK


def draw_scores() -> tuple[np.ndarray, np.ndarray]:
    """Return labels and float32 logits with the corpus' prevalences."""
    random = np.random.default_rng(0)
    labels_NK = (random.random((NUM_SCANS, len(CLASSES))) < PREVALENCE).astype(np.int8)
    logits_NK = (random.normal(size=labels_NK.shape) - 4 + 2.5 * labels_NK).astype(np.float32)
    return np.asfortranarray(labels_NK), np.asfortranarray(logits_NK)


def time_ours(labels_NK: np.ndarray, logits_NK: np.ndarray) -> float:
    """Return seconds for all classes."""
    start = time.perf_counter()
    for k in range(len(CLASSES)):
        ranking.average_precision(ranking.trace_curve(ranking.rank(logits_NK[:, k], labels_NK[:, k])))
    return time.perf_counter() - start


def time_scikit_learn(labels_NK: np.ndarray, logits_NK: np.ndarray) -> float:
    """Return seconds for all classes."""
    start = time.perf_counter()
    for k in range(len(CLASSES)):
        average_precision_score(labels_NK[:, k], logits_NK[:, k])
    return time.perf_counter() - start


def time_authors_meter(labels_NK: np.ndarray, logits_NK: np.ndarray) -> float:
    """Return seconds for all classes, from one class and METER_ROWS rows."""
    scores = torch.from_numpy(np.ascontiguousarray(logits_NK[:METER_ROWS, 0]))
    target = torch.from_numpy(np.where(labels_NK[:METER_ROWS, 0] == 1, 1, -1))
    start = time.perf_counter()
    authors_average_precision(scores, target)
    return (time.perf_counter() - start) * len(CLASSES) * NUM_SCANS / METER_ROWS


def authors_average_precision(output: torch.Tensor, target: torch.Tensor) -> float:
    """Return what `AveragePrecisionMeter` in MeioJane/CHR, CHR/util.py computes, step by step as there."""
    _, indices = torch.sort(output, dim=0, descending=True)
    pos_count, total_count, precision_at_i = 0.0, 0.0, 0.0
    for i in indices:
        label = target[i]
        if label == 0:
            continue
        if label == 1:
            pos_count += 1
        total_count += 1
        if label == 1:
            precision_at_i += pos_count / total_count
    return precision_at_i / pos_count


def write_tables(root: Path, classes: tuple[str, ...], labels_NK: np.ndarray, logits_NK: np.ndarray) -> None:
    """Write the tables of a dataset and of its predictions; a positive has one box, a third of them too far off."""
    infos = []
    for index, rows in enumerate(np.array_split(np.arange(len(labels_NK)), NUM_SHARDS)):
        name = shard_name("test", index, NUM_SHARDS)
        infos.append(
            ShardInfo(
                name=name,
                split="test",
                num_scans=len(rows),
                num_quarantined=0,
                image_bytes=len(rows),
                tar_bytes=len(rows),
                digest=f"{index:064d}",
            )
        )
        write_parquet(samples_url(str(root / "ds"), name), _samples(rows, classes, labels_NK[rows], name))
        write_parquet(part_url(str(root / "pred"), name), _predictions(rows, classes, logits_NK[rows]))
    manifest = DatasetManifest(
        classes=(*classes, "Hammer"),
        scored_classes=classes,
        shards=tuple(infos),
        ledger={"test": SplitLedger(listed=len(labels_NK), converted=len(labels_NK), quarantined=0)},
        options={},
        versions={},
    )
    storage.write_bytes(root / "ds" / "dataset.json", manifest.to_json())
    run = {"format": 1, "model_id": "chr-bench-0", "classes": list(classes), "dataset_digest": manifest.digest}
    run |= {"parts": [info.name for info in infos]}
    storage.write_bytes(root / "pred" / "run.json", str(run).replace("'", '"').encode())


def _samples(rows: np.ndarray, classes: tuple[str, ...], labels_NK: np.ndarray, name: str) -> pa.Table:
    boxes = [
        [dict(zip(BOX_FIELDS, (classes[k], 100, 100, 300, 250), strict=True)) for k in np.flatnonzero(of_scan)]
        for of_scan in labels_NK
    ]
    schema = samples_schema((*classes, "Hammer"))
    count = len(rows)
    labels = pa.StructArray.from_arrays(
        [*(pa.array(labels_NK[:, k]) for k in range(len(classes))), pa.nulls(count, pa.int8())],
        fields=list(schema.field("labels").type),
    )
    keys = _keys(rows)
    columns = [keys, ["test"] * count, [f"{name}.tar"] * count, rows * 1000, [1000] * count, ["0" * 64] * count]
    groups = [f"B{row // 3}" for row in rows]  # bags of three scans
    columns += [[1000] * count, [600] * count, labels, boxes, keys, pa.nulls(count, pa.string()), groups]
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column, field.type)
        for column, field in zip(columns, schema, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


BOX_FIELDS = ("class", "xmin_px", "ymin_px", "xmax_px", "ymax_px")


def _predictions(rows: np.ndarray, classes: tuple[str, ...], logits_NK: np.ndarray) -> pa.Table:
    schema = predictions_schema(classes)
    count = len(rows)
    logits = pa.StructArray.from_arrays(
        [pa.array(logits_NK[:, k]) for k in range(len(classes))], fields=list(schema.field("logits").type)
    )
    num_levels = 3 if len(classes) < MANY_CLASSES else 1
    repeated = logits.take(pa.array(np.repeat(np.arange(count), num_levels)))
    ends = pa.array(np.arange(0, num_levels * count + 1, num_levels), pa.int32())
    levels = pa.ListArray.from_arrays(ends, repeated, type=schema.field("level_logits").type)
    peak_type = schema.field("peaks").type
    x = pa.array(np.where(rows % 3 == 0, 900, 200).astype(np.float32))
    peak = pa.StructArray.from_arrays(
        [x, x, pa.array(np.ones(count, np.int8)), x], fields=list(peak_type.field(classes[0]).type)
    )
    peaks = pa.StructArray.from_arrays([peak] * len(classes), fields=list(peak_type))
    return pa.Table.from_arrays([_keys(rows), pa.array(["test"] * count), logits, levels, peaks], schema=schema)


def _keys(rows: np.ndarray) -> pa.Array:
    return pa.array([f"N{row:07d}" for row in rows])
