"""Write the scans of a dataset for an annotation tool, shard after shard: memory does not grow with their number."""

import csv
import io
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shards import storage
from shards.annotation.formats import WRITERS
from shards.annotation.scans import PICTURES_FOLDER, ExportedScan, Suggestion
from shards.curation.sql_filter import check_condition, choose_rows
from shards.format.classes import Box
from shards.format.dataset import Dataset
from shards.format.manifest import ShardInfo
from shards.format.parquet import read_parquet
from shards.format.shard_reader import ScanRow, read_scans
from shards.images.inspect import component_extension
from shards.predictions.detections import detections_url, has_detections
from shards.predictions.parts import read_part
from shards.predictions.run import Predictions

LIST_NAME = "scans.csv"
LIST_COLUMNS = ("key", "file_name", "sha256")
_BEGUN_NAME = "unfinished.txt"
SUGGESTED_FROM = 0.5
"""Least score of a suggestion."""
_PEAK_SHARE = 0.04
"""Half of the sides of a suggestion around a peak, as a share of the scan's."""
_BATCH_SIZE = 64
_COLUMNS = [*ScanRow._fields, "labels", "boxes"]


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote."""

    url: str
    """What is to be imported later."""
    num_scans: int = 0
    num_boxes: int = 0
    num_suggestions: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    """Why scans have no picture, by key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportPlan:
    """What to write."""

    dataset: Dataset
    output: str
    format_name: str
    condition: str = ""
    """SQL over `samples`; empty: all scans."""
    keys: Collection[str] | None = None
    """Of the scans to take; None: all that the condition takes."""
    predictions: Predictions | None = None
    """Whose boxes or peaks are suggested."""
    has_pictures: bool = True


def export_scans(plan: ExportPlan) -> Exported:
    """Write an export.

    Raises:
        ValueError: the condition is none, or the folder holds something already.
    """
    begun_url = storage.join_url(plan.output, _BEGUN_NAME)
    is_empty = not storage.is_folder(plan.output) or next(iter(storage.list_files(plan.output)), None) is None
    if not is_empty and not storage.exists(begun_url):
        raise ValueError(
            f"output must be a new folder, or one with an unfinished export, got other files ({plan.output})"
        )
    if plan.condition:
        check_condition(plan.condition, plan.dataset.manifest.samples_schema)
    storage.write_bytes(begun_url, b"An export that has not ended; the same command begins it anew.\n")
    writer = WRITERS[plan.format_name](plan.output, plan.dataset.manifest.classes)
    num_scans = num_boxes = num_suggestions = 0
    unreadable: dict[str, str] = {}
    with storage.atomic_writer(storage.join_url(plan.output, LIST_NAME)) as out:
        out.write(_csv_line(LIST_COLUMNS))
        for scan, problem in _iterate(plan):
            if problem:
                unreadable[scan.key] = problem
                continue
            writer.add(scan)
            out.write(_csv_line((scan.key, scan.file_name, scan.sha256)))
            num_scans += 1
            num_boxes += len(scan.boxes)
            num_suggestions += len(scan.suggestions)
    url = writer.close()
    storage.remove(begun_url)
    return Exported(url, num_scans, num_boxes, num_suggestions, unreadable)


def _csv_line(cells: Sequence[str]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out).writerow(cells)
    return out.getvalue().encode()


def _iterate(plan: ExportPlan) -> Iterator[tuple[ExportedScan, str]]:
    """Yield each scan, and why its picture cannot be had."""
    for shard in plan.dataset.manifest.shards:
        table = _choose(plan, shard)
        rows = [ScanRow(*(row[name] for name in ScanRow._fields)) for row in table.to_pylist()]
        suggestions = _suggest(plan.predictions, shard, table)
        problems = _write_pictures(plan, shard, rows) if plan.has_pictures else {}
        for row, labels, boxes in zip(rows, table["labels"].to_pylist(), table["boxes"].to_pylist(), strict=True):
            problem, extension = problems.get(row.key, ("", ""))
            scan = ExportedScan(
                key=row.key,
                sha256=row.sha256,
                file_name=f"{row.key}.{extension}" if extension else row.source_uri,
                has_picture=bool(extension),
                width_px=row.width_px,
                height_px=row.height_px,
                labels=labels,
                boxes=tuple(map(Box.from_row, boxes)),
                suggestions=suggestions.get(row.key, ()),
            )
            yield scan, problem


def _choose(plan: ExportPlan, shard: ShardInfo) -> pa.Table:
    table = plan.dataset.read_samples(shards=[shard])
    if plan.keys is not None:
        table = table.filter(pc.is_in(table["key"], pa.array(plan.keys, pa.string())))
    if plan.condition:
        table = table.take(pa.array(choose_rows(table, plan.condition), pa.int64()))
    return table.select(_COLUMNS)


def _write_pictures(plan: ExportPlan, shard: ShardInfo, rows: Sequence[ScanRow]) -> dict[str, tuple[str, str]]:
    """Write the pictures of a shard; return for each key why there is none, or the extension of its file."""
    found: dict[str, tuple[str, str]] = {}
    for scans in read_scans(plan.dataset.tar_url(shard), rows, _BATCH_SIZE):
        for scan in scans:
            if scan.image is None:
                assert scan.refusal is not None
                found[scan.row.key] = (f"{scan.refusal.reason}: {scan.refusal.detail}", "")
                continue
            extension = component_extension(scan.image)
            name = f"{scan.row.key}.{extension}"
            storage.write_bytes(storage.join_url(plan.output, PICTURES_FOLDER, name), bytes(scan.image))
            found[scan.row.key] = ("", extension)
    return found


def _suggest(predictions: Predictions | None, shard: ShardInfo, table: pa.Table) -> dict[str, tuple[Suggestion, ...]]:
    """Return the boxes of at least `SUGGESTED_FROM` by key: the model's own, else one around the peak of each class."""
    if predictions is None or shard.name not in predictions.run["parts"]:
        return {}
    predictions.check_bytes([shard.name])
    keys = table["key"].combine_chunks()
    widths, heights = (table[name].to_pylist() for name in ("width_px", "height_px"))
    sizes = dict(zip(keys.to_pylist(), zip(widths, heights, strict=True), strict=True))
    if has_detections(predictions):
        return _suggest_detections(read_parquet(detections_url(predictions.url, shard.name)), sizes)
    part = read_part(predictions.url, shard.name, ["key", "logits", "peaks"])
    found = {}
    for row in part.filter(pc.is_in(part["key"], keys)).to_pylist():
        found[row["key"]] = tuple(
            Suggestion(_around(name, row["peaks"][name], *sizes[row["key"]]), score)
            for name, logit in row["logits"].items()
            if logit is not None
            and row["peaks"][name] is not None
            and (score := float(1 / (1 + np.exp(-logit)))) >= SUGGESTED_FROM
        )
    return found


def _suggest_detections(table: pa.Table, sizes: Mapping[str, tuple[int, int]]) -> dict[str, tuple[Suggestion, ...]]:
    chosen = pc.is_in(table["key"], pa.array(sizes, pa.string()))
    found: defaultdict[str, tuple[Suggestion, ...]] = defaultdict(tuple)
    for row in table.filter(pc.and_(chosen, pc.greater_equal(table["score"], SUGGESTED_FROM))).to_pylist():
        width, height = sizes[row["key"]]
        left, right = (min(max(row[name], 0.0), width) for name in ("xmin_px", "xmax_px"))
        top, bottom = (min(max(row[name], 0.0), height) for name in ("ymin_px", "ymax_px"))
        if left < right and top < bottom:  # detectors draw boxes beyond the scan, tools refuse them
            found[row["key"]] += (Suggestion(Box(row["class"], left, top, right, bottom), row["score"]),)
    return found


def _around(name: str, peak: dict[str, Any], width_px: int, height_px: int) -> Box:
    x, y = peak["x_px"], peak["y_px"]
    half_x, half_y = _PEAK_SHARE * width_px, _PEAK_SHARE * height_px
    return Box(name, max(x - half_x, 0.0), max(y - half_y, 0.0), min(x + half_x, width_px), min(y + half_y, height_px))
