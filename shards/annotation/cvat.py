"""Write and read CVAT's XML for images, version 1.1; what a model suggests becomes boxes of the source `auto`."""

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape, quoteattr

import defusedxml.ElementTree

from shards import storage
from shards.annotation.scans import ExportedScan, ReturnedScan
from shards.annotation.spool import Spool
from shards.format.classes import Box

FILE_NAME = "annotations.xml"
_SUGGESTED = "suggestion"
_EDGES = ("xtl", "ytl", "xbr", "ybr")
_ATTRIBUTE = (
    f"<attributes><attribute><name>{_SUGGESTED}</name><mutable>False</mutable><input_type>text</input_type>"
    "<default_value></default_value><values></values></attribute></attributes>"
)


class CvatWriter:
    """Writes one image after the other."""

    def __init__(self, folder: str, classes: Sequence[str]) -> None:
        self._url = storage.join_url(folder, FILE_NAME)
        self._classes = classes
        self._images = Spool()

    def add(self, scan: ExportedScan) -> None:
        """Write the image of a scan and its boxes."""
        size = f'width="{scan.width_px}" height="{scan.height_px}"'
        boxes = [_box(box, "manual", "") for box in scan.boxes]
        boxes += [_box(box, "auto", f"{score:.4f}") for box, score in scan.suggestions]
        head = f'<image id="{self._images.num_pieces}" name={quoteattr(scan.file_name)} {size}>'
        self._images.write(f"{head}\n{''.join(boxes)}</image>\n")

    def close(self) -> str:
        """Write the file; return its URL."""
        labels = "".join(f"<label><name>{escape(name)}</name>{_ATTRIBUTE}</label>" for name in self._classes)
        head = f"<version>1.1</version><meta><task><labels>{labels}</labels></task></meta>"
        with storage.atomic_writer(self._url) as out:
            out.write(f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>{head}\n'.encode())
            self._images.copy_to(out)
            out.write(b"</annotations>\n")
        return self._url


def _box(box: Box, source: str, suggestion: str) -> str:
    edges = " ".join(f'{name}="{edge}"' for name, edge in zip(_EDGES, box.edges_px, strict=True))
    return (
        f'<box label={quoteattr(box.class_name)} source="{source}" occluded="0" {edges} z_order="0">'
        f'<attribute name="{_SUGGESTED}">{suggestion}</attribute></box>\n'
    )


def read_cvat(text: bytes, url: str) -> Iterator[ReturnedScan]:
    """Yield the images of a file; a suggestion that nobody took, still of the source `auto`, is no box."""
    root = defusedxml.ElementTree.fromstring(text)
    for image in root.iter("image"):
        where = f"{url}, image {image.get('id')}"
        try:
            boxes = tuple(
                Box(box.attrib["label"], *(float(box.attrib[name]) for name in _EDGES))
                for box in image.iter("box")
                if not (box.get("source") == "auto" and box.findtext(f"attribute[@name='{_SUGGESTED}']"))
            )
            yield ReturnedScan(name=image.attrib["name"], sha256=None, labels=None, boxes=boxes, where=where)
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"image must have a name and boxes with label and edges, got {error!r} ({where})"
            ) from error
