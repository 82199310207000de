"""List the formats of annotation tools, and read a file or folder in whichever of them it is."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import defusedxml.ElementTree

from shards import storage
from shards.annotation import coco, cvat, label_studio, voc, yolo
from shards.annotation.scans import ExportedScan, ReturnedScan


class Writer(Protocol):
    """Writes an export."""

    def add(self, scan: ExportedScan) -> None:
        """Write one scan."""
        ...

    def close(self) -> str:
        """Finish the export; return the URL of what is to be imported later."""
        ...


WRITERS: Mapping[str, Callable[[str, Sequence[str]], Writer]] = {
    "coco": coco.CocoWriter,
    "cvat": cvat.CvatWriter,
    "label-studio": label_studio.LabelStudioWriter,
    "voc": voc.VocWriter,
    "yolo": yolo.YoloWriter,
}
"""Format -> writer, made of a folder and the names of the classes."""


def read_annotations(url: str, read_sizes: Callable[[], Mapping[str, tuple[int, int]]]) -> Iterator[ReturnedScan]:
    """Yield the scans that an annotation tool wrote: a file of COCO, CVAT or Label Studio, a folder of VOC or YOLO.

    Args:
        url: of the file or folder.
        read_sizes: returns width and height in pixels of the scan of each name; YOLO says places as shares of them.

    Raises:
        ValueError: it is none of these, or cannot be read; names what is wrong.
    """
    if storage.is_folder(url):
        if storage.exists(storage.join_url(url, yolo.DATA_NAME)):
            return yolo.read_yolo_folder(url, read_sizes())
        return voc.read_voc_folder(url)
    data = storage.read_bytes(url)
    try:
        if data.lstrip()[:1] == b"<":
            return cvat.read_cvat(data, url)
        document = json.loads(data)
    except (ValueError, RecursionError, defusedxml.ElementTree.ParseError) as error:
        raise ValueError(f"file must be COCO, CVAT's XML or Label Studio's JSON, got {error} ({url})") from error
    if isinstance(document, list):
        return label_studio.read_label_studio(document, url)
    if isinstance(document, dict) and {"images", "annotations", "categories"} <= document.keys():
        return coco.read_coco(document, url)
    raise ValueError(
        f"file must be COCO (images, annotations, categories) or a list of Label Studio's tasks, got neither ({url})"
    )
