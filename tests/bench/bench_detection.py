"""Measure the average precision of detections: a million scans from their tables, and beside pycocotools.

A scan has five detections of random classes. A box has three more near it. pycocotools is linear in the scans and timed
on fewer; both get the same arrays there, theirs as the lists that it takes.
"""

import resource
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from model.evaluation.detection import rate_detections
from model.evaluation.scans.scored_scans import join_predictions
from model.metrics.detection import average_precisions, find_true_detections, keep_highest
from shards.format.dataset import open_dataset
from shards.format.parquet import read_parquet
from shards.predictions.detections import DETECTIONS, Detections, write_detections
from shards.predictions.parts import part_url
from shards.predictions.run import open_predictions
from tests.bench.bench_evaluate import CLASSES, NUM_SCANS, draw_scores, write_tables
from tests.bench.measure import Measurement
from tests.model.coco_precision import rate_by_coco

NUM_BESIDE, NUM_A_SCAN, NUM_NEAR = 20_000, 5, 3
BOX = np.array([100.0, 100, 300, 250])


def run(scratch: Path) -> Iterator[Measurement]:
    """Time the figures of five classes, table included, then those of one class beside pycocotools."""
    labels_NK, logits_NK = draw_scores()
    write_tables(scratch, CLASSES, labels_NK, logits_NK)
    found = draw_detections(labels_NK)
    predictions, dataset = open_predictions(str(scratch / "pred")), open_dataset(str(scratch / "ds"))
    begin = 0
    for name in predictions.run["parts"]:
        keys = read_parquet(part_url(predictions.url, name), ["key"])["key"].combine_chunks()
        rows = np.arange(begin, begin + len(keys))
        write_detections(predictions.url, name, found.make_table(rows, keys, "test"))
        begin += len(keys)
    predictions = replace(predictions, run=predictions.run | {DETECTIONS: {"num_detections": len(found.row_D)}})
    scans = join_predictions(predictions, dataset, "test")
    before_bytes = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    figures = rate_detections(scans, predictions)
    seconds = time.perf_counter() - started
    more_bytes = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_bytes
    assert figures is not None and figures.mean_ap50
    size = f"{NUM_SCANS:,} scans, {len(found.row_D):,} detections, {len(scans.box_scan_B):,} boxes, 5 classes"
    yield Measurement("AP50 and AP50:95, from Parquet", seconds, "s", size)
    yield Measurement("peak memory above that of the joined scans", more_bytes / 1e9, "GB")
    yield from compare()


def draw_detections(labels_NK: np.ndarray) -> Detections:
    """Return detections of scans as `bench_evaluate.write_tables` writes them: each item has the box BOX."""
    random = np.random.default_rng(0)
    true_row, true_class = np.nonzero(labels_NK)
    row_D = np.r_[np.repeat(np.arange(len(labels_NK)), NUM_A_SCAN), np.repeat(true_row, NUM_NEAR)]
    class_D = np.r_[
        random.integers(0, len(CLASSES), NUM_A_SCAN * len(labels_NK)), np.repeat(true_class, NUM_NEAR)
    ].astype(np.int64)
    num_near = NUM_NEAR * len(true_row)
    corners = random.uniform(0, 500, (len(row_D) - num_near, 2))
    edges_D4 = np.r_[
        np.hstack([corners, corners + random.uniform(20, 200, corners.shape)]),
        BOX + random.normal(0, 15, (num_near, 4)),
    ]
    score_D = random.random(len(row_D))
    score_D[len(corners) :] = 0.5 + score_D[len(corners) :] / 2
    order = np.lexsort((-score_D, row_D))
    return Detections(CLASSES, row_D[order], class_D[order], score_D[order], edges_D4[order])


def compare() -> Iterator[Measurement]:
    """Time one class of fewer scans, a tenth of them with the item, beside pycocotools."""
    labels_NK = (np.random.default_rng(1).random((NUM_BESIDE, len(CLASSES))) < 0.1).astype(np.int8)
    found = draw_detections(labels_NK)
    own = found.class_D == 0
    row_D, score_D, edges_D4 = found.row_D[own], found.score_D[own], found.edges_D4[own]
    scan_B = np.flatnonzero(labels_NK[:, 0])
    edges_B4 = np.tile(BOX, (len(scan_B), 1))
    started = time.perf_counter()
    kept = keep_highest(row_D, score_D)
    is_true_TD = find_true_detections(row_D[kept], edges_D4[kept], scan_B, edges_B4)
    ours_T = average_precisions(score_D[kept], is_true_TD, len(scan_B))
    ours = time.perf_counter() - started
    detections = list(zip(row_D.tolist(), score_D.tolist(), *edges_D4.T.tolist(), strict=True))
    boxes = list(zip(scan_B.tolist(), *edges_B4.T.tolist(), strict=True))
    started = time.perf_counter()
    theirs_T = rate_by_coco(NUM_BESIDE, detections, boxes)
    theirs = time.perf_counter() - started
    size = f"{NUM_BESIDE:,} scans, {len(row_D):,} detections, {len(boxes):,} boxes, one class"
    yield Measurement("ours, one class", ours, "s", size)
    yield Measurement("pycocotools, one class", theirs, "s", size)
    yield Measurement("pycocotools / ours", theirs / ours, "ratio")
    yield Measurement(
        "largest difference of an average precision", float(abs(ours_T - theirs_T).max()), "", "aim: 1e-6"
    )
