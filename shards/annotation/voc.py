"""Write and read Pascal VOC: an XML file a scan, as labelImg has them; suggestions lie in a folder of their own."""

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

import defusedxml.ElementTree

from shards import storage
from shards.annotation.scans import ExportedScan, ReturnedScan
from shards.annotation.spool import Spool
from shards.format.classes import Box

FOLDER = "Annotations"
SUGGESTIONS_FOLDER = "Suggestions"
LIST_NAME = "ImageSets/Main/default.txt"
_EDGES = ("xmin", "ymin", "xmax", "ymax")


class VocWriter:
    """Writes a file for each scan, and their list."""

    def __init__(self, folder: str, classes: Sequence[str]) -> None:
        self._folder = folder
        self._listed = Spool()
        # labelImg reads classes.txt, CVAT labelmap.txt.
        names = "".join(f"{name}\n" for name in classes)
        colours = "".join(f"{name}:::\n" for name in classes)
        storage.write_bytes(storage.join_url(folder, "classes.txt"), names.encode())
        storage.write_bytes(
            storage.join_url(folder, "labelmap.txt"), f"# label:color_rgb:parts:actions\n{colours}".encode()
        )

    def add(self, scan: ExportedScan) -> None:
        """Write the files of a scan; none of one without boxes of which it is not known that it has no item."""
        if scan.is_told_by_boxes:
            self._write(FOLDER, scan, scan.boxes)
        self._listed.write(f"{scan.key}\n")
        if scan.suggestions:
            self._write(SUGGESTIONS_FOLDER, scan, [box for box, _ in scan.suggestions])

    def _write(self, folder: str, scan: ExportedScan, boxes: Sequence[Box]) -> None:
        size = f"<size><width>{scan.width_px}</width><height>{scan.height_px}</height><depth>3</depth></size>"
        objects = "".join(_object(box) for box in boxes)
        text = f"<annotation><filename>{escape(scan.file_name)}</filename>{size}{objects}</annotation>\n"
        storage.write_bytes(storage.join_url(self._folder, folder, f"{scan.key}.xml"), text.encode())

    def close(self) -> str:
        """Write the list; return the URL of the folder with the files."""
        with storage.atomic_writer(storage.join_url(self._folder, LIST_NAME)) as out:
            self._listed.copy_to(out)
        return storage.join_url(self._folder, FOLDER)


def _object(box: Box) -> str:
    edges = "".join(f"<{name}>{edge}</{name}>" for name, edge in zip(_EDGES, box.edges_px, strict=True))
    return f"<object><name>{escape(box.class_name)}</name><bndbox>{edges}</bndbox></object>"


def read_voc(text: bytes, url: str) -> ReturnedScan:
    """Return the scan of a file; ValueError if it cannot be read."""
    try:
        root = defusedxml.ElementTree.fromstring(text)
        boxes = tuple(
            Box(item.findtext("name") or "", *(float(item.findtext(f"bndbox/{name}") or "") for name in _EDGES))
            for item in root.iter("object")
        )
    except (defusedxml.ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"annotation must be VOC XML, got {error} ({url})") from error
    name = storage.base_name(url).removesuffix(".xml")
    return ReturnedScan(name=name, sha256=None, labels=None, boxes=boxes, where=url)


def read_voc_folder(url: str) -> Iterator[ReturnedScan]:
    """Yield the scans of all files in a folder."""
    for info in storage.list_files(url):
        if info.url.endswith(".xml"):
            yield read_voc(storage.read_bytes(info.url), info.url)
