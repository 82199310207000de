"""Write and read COCO: one JSON file with all images and boxes; what a model suggests is a file of results.

Each image has beside COCO's keys its `sha256`, and `labels` with 1, 0 or null (unknown) a class.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import IO, Any

from shards import storage
from shards.annotation.scans import ExportedScan, ReturnedScan
from shards.annotation.spool import Spool
from shards.format.classes import Box

FILE_NAME = "annotations/instances_default.json"
RESULTS_NAME = "suggestions.json"


class CocoWriter:
    """Writes one scan after the other; boxes wait in a temporary file, since COCO lists them behind the images."""

    def __init__(self, folder: str, classes: Sequence[str]) -> None:
        self._url = storage.join_url(folder, FILE_NAME)
        self._results_url = storage.join_url(folder, RESULTS_NAME)
        self._category_of = {name: number for number, name in enumerate(classes, start=1)}
        self._images, self._boxes = Spool(), Spool()
        self._results: Spool | None = None

    def add(self, scan: ExportedScan) -> None:
        """Write the image of a scan and its boxes."""
        number = self._images.num_pieces + 1
        image = {
            "id": number,
            "file_name": scan.file_name,
            "width": scan.width_px,
            "height": scan.height_px,
            "sha256": scan.sha256,
            "labels": dict(scan.labels),
        }
        _append(self._images, image)
        for box in scan.boxes:
            shape = self._shape(number, box)
            more = {"id": self._boxes.num_pieces + 1, "area": shape["bbox"][2] * shape["bbox"][3], "iscrowd": 0}
            _append(self._boxes, shape | more)
        for box, score in scan.suggestions:
            self._results = self._results or Spool()
            _append(self._results, self._shape(number, box) | {"score": score})

    def _shape(self, image_id: int, box: Box) -> dict[str, Any]:
        left, top, right, bottom = box.edges_px
        category = self._category_of[box.class_name]
        return {"image_id": image_id, "category_id": category, "bbox": [left, top, right - left, bottom - top]}

    def close(self) -> str:
        """Write the files; return the URL of that with the boxes."""
        if self._results is not None:
            with storage.atomic_writer(self._results_url) as out:
                _write_list(out, self._results)
        categories = [{"id": number, "name": name} for name, number in self._category_of.items()]
        with storage.atomic_writer(self._url) as out:
            out.write(b'{"images": ')
            _write_list(out, self._images)
            out.write(b', "annotations": ')
            _write_list(out, self._boxes)
            out.write(f', "categories": {json.dumps(categories, ensure_ascii=False)}}}\n'.encode())
        return self._url


def _append(spool: Spool, element: dict[str, Any]) -> None:
    spool.write((",\n" if spool.num_pieces else "") + json.dumps(element, ensure_ascii=False))


def _write_list(out: IO[bytes], elements: Spool) -> None:
    out.write(b"[")
    elements.copy_to(out)
    out.write(b"]")


def read_coco(document: Any, url: str) -> Iterator[ReturnedScan]:
    """Yield the scans of a COCO document; ValueError names the image or annotation that cannot be read."""
    names = {item["id"]: str(item["name"]) for item in document["categories"]}
    boxes_of: defaultdict[Any, list[Box]] = defaultdict(list)
    for item in document["annotations"]:
        where = f"{url}, annotation {item.get('id')}"
        try:
            left, top, width, height = map(float, item["bbox"])
            name = names[item["category_id"]]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"annotation must have a known category_id and a bbox of 4 numbers, got {error!r} ({where})"
            ) from error
        boxes_of[item["image_id"]].append(Box(name, left, top, left + width, top + height))
    for image in document["images"]:
        where = f"{url}, image {image.get('id')}"
        if not isinstance(image.get("file_name"), str):
            raise ValueError(f"image must have a file_name, got {image.get('file_name')!r} ({where})")
        yield ReturnedScan(
            name=image["file_name"],
            sha256=image.get("sha256"),
            labels=image.get("labels"),
            boxes=tuple(boxes_of.pop(image.get("id"), ())),
            where=where,
        )
    if boxes_of:
        raise ValueError(f"annotations must be of images of the file, got image_id {next(iter(boxes_of))!r} ({url})")
