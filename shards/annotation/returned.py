"""Turn what an annotation tool gives back into corrections: what a person changed, and nothing else.

A scan is known by its sha256, as the tool kept it or as the list of the export beside the file has it. A box that lies
within a hundredth of a pixel of the dataset's is that box.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from shards import storage
from shards.annotation.export import LIST_COLUMNS, LIST_NAME
from shards.annotation.formats import read_annotations
from shards.annotation.scans import ReturnedScan
from shards.curation.corrections import LABELLED, Correction
from shards.format.classes import Box
from shards.format.dataset import Dataset

TOLERANCE_PX = 0.01


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came back."""

    corrections: tuple[Correction, ...]
    num_scans: int


def compare_returned(url: str, dataset: Dataset, *, author: str, time: str) -> Comparison:
    """Return the corrections in a file or folder of an annotation tool.

    Args:
        url: see `formats.read_annotations`.
        dataset: the one that was exported.
        author: who changed it.
        time: ISO 8601, of the import.

    Raises:
        ValueError: a scan is not in the dataset or has other bytes there, a class is unknown, a box lies outside its
            scan; names file and place.
    """
    listed = _read_list(url)
    returned = list(read_annotations(url, lambda: _read_sizes(dataset)))
    keys = {key for scan in returned for key in _possible_keys(scan, listed)}
    rows = {row["key"]: row for _, table in dataset.find_samples(keys, LABELLED) for row in table.to_pylist()}
    corrections: list[Correction] = []
    reason = f"changed in {storage.base_name(url)}"
    for scan in returned:
        row = _find_row(scan, rows, listed)
        labels, boxes = _changes(scan, row, dataset.manifest.classes)
        if labels or boxes is not None:
            corrections.append(
                Correction(
                    key=row["key"],
                    sha256=row["sha256"],
                    labels=labels,
                    boxes=boxes,
                    author=author,
                    time=time,
                    reason=reason,
                )
            )
    return Comparison(tuple(corrections), len(returned))


def _read_sizes(dataset: Dataset) -> dict[str, tuple[int, int]]:
    table = dataset.read_samples(columns=["key", "width_px", "height_px"])
    keys, widths, heights = (table[name].to_pylist() for name in table.column_names)
    return dict(zip(keys, zip(widths, heights, strict=True), strict=True))


def _read_list(url: str) -> dict[str, tuple[str, str]]:
    """Return key and sha256 of each file name of the export, if its list lies in the folder or above it."""
    folder = url
    for _ in range(3):
        list_url = storage.join_url(folder, LIST_NAME)
        if storage.exists(list_url):
            reader = csv.DictReader(io.StringIO(storage.read_bytes(list_url).decode(), newline=""))
            if tuple(reader.fieldnames or ()) != LIST_COLUMNS:
                raise ValueError(f"list must have the columns {LIST_COLUMNS}, got {reader.fieldnames} ({list_url})")
            return {_stem(line["file_name"]): (line["key"], line["sha256"]) for line in reader}
        folder = folder.rstrip("/").rpartition("/")[0]
    return {}


def _stem(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2].rpartition(".")[0] or name


def _possible_keys(scan: ReturnedScan, listed: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    for name in (scan.name, _stem(scan.name)):
        yield listed.get(name, (name, ""))[0]


def _find_row(
    scan: ReturnedScan, rows: Mapping[str, dict[str, Any]], listed: Mapping[str, tuple[str, str]]
) -> dict[str, Any]:
    stem = scan.name if scan.name in listed or scan.name in rows else _stem(scan.name)
    key, listed_sha256 = listed.get(stem, (stem, None))
    sha256 = scan.sha256 or listed_sha256
    row = rows.get(key)
    if row is None:
        raise ValueError(f"scans must be of the dataset, got {key!r}, which it lacks ({scan.where})")
    if sha256 is None:
        raise ValueError(
            f"a scan must have the sha256 of its image, got none of {key!r} ({scan.where}); put {LIST_NAME} of the "
            f"export into the folder of the file"
        )
    if sha256 != row["sha256"]:
        raise ValueError(
            f"scan {key!r} must have sha256 {row['sha256']}, got {sha256} ({scan.where}); its image was replaced since "
            f"the export, annotate it again"
        )
    return row


def _changes(
    scan: ReturnedScan, row: Mapping[str, Any], classes: Sequence[str]
) -> tuple[dict[str, int | None], tuple[Box, ...] | None]:
    """Return the labels that change, and all boxes if any changes."""
    named = {box.class_name for box in scan.boxes} | set(scan.labels or ())
    if unknown := sorted(named - set(classes)):
        raise ValueError(f"classes must be of {list(classes)}, got {', '.join(unknown)} ({scan.where})")
    before = list(map(Box.from_row, row["boxes"]))
    after = list(_match(scan.boxes, before))
    labels = {name: value for name, value in (scan.labels or {}).items() if value != row["labels"][name]}
    if sorted(map(repr, after)) == sorted(map(repr, before)):
        return labels, None
    # A box says that its item is there; the last one removed says that it is not, unless the label was changed too.
    for name in classes:
        had, has = (any(box.class_name == name for box in boxes) for boxes in (before, after))
        wanted = 1 if has else 0 if had else None
        if wanted is not None and name not in labels and row["labels"][name] != wanted:
            labels[name] = wanted
    return labels, tuple(_within(box, row, scan.where) for box in after)


def _match(boxes: Sequence[Box], before: Sequence[Box]) -> Iterator[Box]:
    """Yield boxes; one that was there already is that one to the last bit."""
    left = list(before)
    for box in boxes:
        same = next((of for of in left if of.class_name == box.class_name and _distance(of, box) <= TOLERANCE_PX), None)
        if same is None:
            yield box
        else:
            left.remove(same)
            yield same


def _distance(one: Box, other: Box) -> float:
    return float(max(abs(a - b) for a, b in zip(astuple(one)[1:], astuple(other)[1:], strict=True)))


def _within(box: Box, row: Mapping[str, Any], where: str) -> Box:
    """Return a box within its scan: tools round at the edges."""
    width, height = row["width_px"], row["height_px"]
    found = Box(
        box.class_name,
        min(max(box.xmin_px, 0.0), width),
        min(max(box.ymin_px, 0.0), height),
        min(max(box.xmax_px, 0.0), width),
        min(max(box.ymax_px, 0.0), height),
    )
    if _distance(found, box) > 1 or found.xmin_px >= found.xmax_px or found.ymin_px >= found.ymax_px:
        raise ValueError(f"a box must lie within {width} x {height} px and have an area, got {box} ({where})")
    return found
