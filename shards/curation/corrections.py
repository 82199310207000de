"""Read and write corrections of labels and boxes, and say what each of them changes.

A file of corrections is CSV with a line for each scan: `key`, `sha256` of its image, `labels` (a JSON object with the
classes that change: 1 present, 0 absent, null unknown), `boxes` (a JSON list of all boxes that the scan has then, each
`[class, xmin, ymin, xmax, ymax]` in pixels; empty: they stay), `author`, `time` (ISO 8601) and `reason`.
"""

import csv
import datetime
import io
import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from shards import storage
from shards.format.classes import Box
from shards.format.dataset import Dataset
from shards.format.manifest import corrections_url
from shards.format.parquet import CORRECTIONS_SCHEMA, keep_parquet, read_parquet

LABELLED = ("key", "sha256", "width_px", "height_px", "labels", "boxes")
"""Columns of `samples` that a correction is compared with."""
COLUMNS = ("key", "sha256", "labels", "boxes", "author", "time", "reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What a person changed in one scan."""

    key: str
    sha256: str
    """Of the image that the person saw."""
    labels: Mapping[str, int | None]
    """The classes that change: 1, 0 or None (unknown)."""
    boxes: tuple[Box, ...] | None = None
    """All boxes of the scan from now on; None: they stay."""
    author: str
    time: str
    """ISO 8601."""
    reason: str

    def change(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the labels and boxes of a row of `samples` that differ from this correction."""
        labels = {**row["labels"], **self.labels}
        boxes = row["boxes"] if self.boxes is None else [box.to_row() for box in self.boxes]
        wanted = {"labels": labels, "boxes": boxes}
        return {name: value for name, value in wanted.items() if value != _plain(row[name])}


def _plain(value: Any) -> Any:
    """Return boxes with the decimals that `Box.to_row` gives, so that equal float32 are equal."""
    if not isinstance(value, list):
        return value
    return [Box.from_row(box).to_row() for box in value]


def read_corrections(url: str) -> list[Correction]:
    """Return the corrections in a file.

    Raises:
        ValueError: a line is not as described above, or a scan has two; names file and line.
    """
    try:
        text = storage.read_bytes(url).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"corrections must be in UTF-8, got {error} ({url}); save the file as CSV UTF-8") from error
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))  # a scan may have many boxes
    reader = csv.reader(io.StringIO(text, newline=""))
    header = next(reader, [])
    if tuple(header) != COLUMNS:
        raise ValueError(f"corrections must have the columns {','.join(COLUMNS)}, got {','.join(header)} ({url})")
    found: dict[str, Correction] = {}
    for cells in reader:
        where = f"{url} line {reader.line_num}"
        correction = _parse(cells, where)
        if correction.key in found:
            raise ValueError(f"a scan must have one correction, got a second one of {correction.key!r} ({where})")
        found[correction.key] = correction
    return list(found.values())


def write_corrections(url: str, corrections: Iterable[Correction]) -> None:
    """Write corrections as a file, in the order of their keys."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for of in sorted(corrections, key=lambda of: of.key):
        boxes = "" if of.boxes is None else json.dumps([_as_list(box) for box in of.boxes], ensure_ascii=False)
        labels = json.dumps(dict(of.labels), ensure_ascii=False)
        writer.writerow([of.key, of.sha256, labels, boxes, of.author, of.time, of.reason])
    storage.write_bytes(url, out.getvalue().encode())


def _as_list(box: Box) -> list[Any]:
    return [box.class_name, *box.edges_px]


def _parse(cells: Sequence[str], where: str) -> Correction:
    if len(cells) != len(COLUMNS):
        raise ValueError(f"a line of corrections must have {len(COLUMNS)} cells, got {len(cells)} ({where})")
    values = dict(zip(COLUMNS, cells, strict=True))
    for name in ("key", "sha256", "author"):
        if not values[name]:
            raise ValueError(f"{name} must be given, got an empty cell ({where})")
    try:
        datetime.datetime.fromisoformat(values["time"])
    except ValueError as error:
        raise ValueError(f"time must be in ISO 8601, got {values['time']!r} ({where})") from error
    return Correction(
        key=values["key"],
        sha256=values["sha256"],
        labels=_parse_labels(values["labels"], where),
        boxes=_parse_boxes(values["boxes"], where) if values["boxes"] else None,
        author=values["author"],
        time=values["time"],
        reason=values["reason"],
    )


def _parse_labels(text: str, where: str) -> dict[str, int | None]:
    labels = _parse_json(text or "{}", "labels", where)
    good = isinstance(labels, dict) and all(
        value is None or (isinstance(value, int) and not isinstance(value, bool) and value in (0, 1))
        for value in labels.values()
    )
    if not good:
        raise ValueError(f"labels must be a JSON object of 1, 0 or null a class, got {text!r} ({where})")
    return dict(labels)


def _parse_boxes(text: str, where: str) -> tuple[Box, ...]:
    boxes = _parse_json(text, "boxes", where)
    if not isinstance(boxes, list):
        raise ValueError(f"boxes must be a JSON list, got {text!r} ({where})")
    return tuple(_parse_box(box, where) for box in boxes)


def _parse_box(box: Any, where: str) -> Box:
    if isinstance(box, list) and len(box) == 5 and isinstance(box[0], str):
        edges = box[1:]
        if all(isinstance(edge, int | float) and not isinstance(edge, bool) and math.isfinite(edge) for edge in edges):
            left, top, right, bottom = map(float, edges)
            if left < right and top < bottom:
                return Box(box[0], left, top, right, bottom)
    raise ValueError(
        f"a box must be [class, xmin, ymin, xmax, ymax], xmin < xmax and ymin < ymax, got {json.dumps(box)} ({where})"
    )


def _parse_json(text: str, name: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} must be JSON, got {text!r} ({where}): {error}") from error


def find_changes(inputs: Sequence[Dataset], corrections: Sequence[Correction], where: str) -> list[dict[str, Any]]:
    """Return the rows of the table of corrections for what changes in the datasets' scans.

    Args:
        inputs: of several scans with one key, the one whose image was corrected is meant.
        corrections: at most one a key.
        where: the file of the corrections, for messages.

    Raises:
        ValueError: a correction is of no scan, of other bytes, of an unknown class, or has boxes outside the image.
    """
    rows_of: dict[str, list[tuple[dict[str, Any], Sequence[str]]]] = {of.key: [] for of in corrections}
    for dataset in inputs if corrections else ():
        for _, table in dataset.find_samples(rows_of, LABELLED):
            for row in table.to_pylist():
                rows_of[row["key"]].append((row, dataset.manifest.classes))
    if absent := sorted(key for key, rows in rows_of.items() if not rows):
        raise ValueError(
            f"corrections must be of scans of the input, got {len(absent)} of others: {', '.join(absent[:5])} ({where})"
        )
    changes = []
    for correction in corrections:
        rows = rows_of[correction.key]
        row, classes = next((found for found in rows if found[0]["sha256"] == correction.sha256), rows[0])
        try:
            _check_against(correction, row, classes)
        except ValueError as error:
            raise ValueError(f"{error} ({where})") from error
        changes += [found] if (found := _describe_change(correction, row)) else []
    return changes


def earlier_rows(dataset: Dataset) -> list[dict[str, Any]]:
    """Return the rows of the table of a dataset's corrections, none if it has no such table."""
    if not dataset.manifest.corrections:
        return []
    rows: list[dict[str, Any]] = read_parquet(corrections_url(dataset.url)).to_pylist()
    return rows


def write_table(dataset_url: str, rows: Sequence[Mapping[str, Any]] | None) -> dict[str, Any]:
    """Write the table of a dataset's corrections, or remove it if rows are None; return what the manifest says."""
    url = corrections_url(dataset_url)
    if rows is None:
        storage.remove(url)
        return {}
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=CORRECTIONS_SCHEMA)
    return {"count": len({row["key"] for row in rows}), "sha256": keep_parquet(url, table)}


def _check_against(correction: Correction, row: Mapping[str, Any], classes: Collection[str]) -> None:
    """Raise ValueError if a correction does not fit the scan of a row: other bytes, classes or places of boxes."""
    who = f"correction of {correction.key!r}"
    if correction.sha256 != row["sha256"]:
        raise ValueError(
            f"{who} must be of the image with sha256 {row['sha256']}, got one of {correction.sha256}; the scan was "
            f"replaced since, look at it again"
        )
    named = {*correction.labels, *(box.class_name for box in correction.boxes or ())}
    if unknown := sorted(named - set(classes)):
        raise ValueError(f"{who} must name classes of {sorted(classes)}, got {', '.join(unknown)}")
    labels = {**row["labels"], **correction.labels}
    if correction.boxes is None:
        boxed = {box["class"] for box in row["boxes"]} & set(correction.labels)
    else:
        boxed = {box.class_name for box in correction.boxes}
    if absent := sorted(name for name in boxed if labels[name] == 0):
        raise ValueError(
            f"{who} must not leave a box of a class that its labels say is absent, got {', '.join(absent)}; give the "
            f"boxes too"
        )
    for box in correction.boxes or ():
        if not (
            box.xmin_px >= 0 and box.ymin_px >= 0 and box.xmax_px <= row["width_px"] and box.ymax_px <= row["height_px"]
        ):
            raise ValueError(
                f"{who} must have its boxes within {row['width_px']} x {row['height_px']} px, got {_as_list(box)}"
            )


def _describe_change(correction: Correction, row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the row of the table of corrections for what changes in a scan; None if nothing does."""
    change = correction.change(row)
    if not change:
        return None
    found: dict[str, Any] = {"key": correction.key, "sha256": correction.sha256}
    for name in ("labels", "boxes"):
        before, after = _plain(row[name]), change.get(name, _plain(row[name]))
        found |= {f"{name}_before": json.dumps(before), f"{name}_after": json.dumps(after)}
    return found | {"author": correction.author, "time": correction.time, "reason": correction.reason}
