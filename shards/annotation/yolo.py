"""Write and read YOLO: a text file a scan with the number of a class, centre and size of each box, as shares."""

from collections.abc import Iterator, Mapping, Sequence

import yaml

from shards import storage
from shards.annotation.scans import ExportedScan, ReturnedScan
from shards.format.classes import Box

FOLDER = "labels"
SUGGESTIONS_FOLDER = "suggestions"
DATA_NAME = "data.yaml"


class YoloWriter:
    """Writes a file for each scan, and `data.yaml` with the classes."""

    def __init__(self, folder: str, classes: Sequence[str]) -> None:
        self._folder = folder
        self._number_of = {name: number for number, name in enumerate(classes)}
        document = {"path": ".", "train": "images", "val": "images", "names": dict(enumerate(classes))}
        text = yaml.safe_dump(document, allow_unicode=True, sort_keys=False)
        storage.write_bytes(storage.join_url(folder, DATA_NAME), text.encode())

    def add(self, scan: ExportedScan) -> None:
        """Write the files of a scan: an empty one if it has no item, none if that is not known."""
        if scan.is_told_by_boxes:
            self._write(FOLDER, scan, [self._line(scan, box) for box in scan.boxes])
        if scan.suggestions:
            self._write(
                SUGGESTIONS_FOLDER, scan, [f"{self._line(scan, box)} {score:.6f}" for box, score in scan.suggestions]
            )

    def _write(self, folder: str, scan: ExportedScan, lines: Sequence[str]) -> None:
        text = "".join(f"{line}\n" for line in lines)
        storage.write_bytes(storage.join_url(self._folder, folder, f"{scan.key}.txt"), text.encode())

    def _line(self, scan: ExportedScan, box: Box) -> str:
        left, top, right, bottom = scan.shares_of(box)
        shares = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
        return " ".join([str(self._number_of[box.class_name]), *(f"{share:.10f}" for share in shares)])

    def close(self) -> str:
        """Return the URL of the folder of the export."""
        return self._folder


def read_yolo_folder(url: str, sizes_px: Mapping[str, tuple[int, int]]) -> Iterator[ReturnedScan]:
    """Yield the scans of an export's folder, which has `data.yaml` and `labels/`.

    Args:
        url: of the folder.
        sizes_px: width and height of the scan of each name; YOLO says places as shares of them.
    """
    document = yaml.safe_load(storage.read_bytes(storage.join_url(url, DATA_NAME)))
    names = document.get("names") if isinstance(document, dict) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict):
        raise ValueError(f"{DATA_NAME} must have the names of classes, got {names!r} ({url})")
    for info in storage.list_files(storage.join_url(url, FOLDER)):
        if not info.url.endswith(".txt") or (name := storage.base_name(info.url).removesuffix(".txt")) == "classes":
            continue
        if name not in sizes_px:
            raise ValueError(f"labels must be of scans of the dataset, got {name!r} ({info.url})")
        lines = storage.read_bytes(info.url).decode().splitlines()
        boxes = tuple(
            _read_line(line, names, sizes_px[name], f"{info.url} line {number}")
            for number, line in enumerate(lines, start=1)
            if line.strip()
        )
        yield ReturnedScan(name=name, sha256=None, labels=None, boxes=boxes, where=info.url)


def _read_line(line: str, names: Mapping[int, str], size_px: tuple[int, int], where: str) -> Box:
    try:
        number, x, y, width, height = line.split()
        name = names[int(number)]
        x, width = (float(share) * size_px[0] for share in (x, width))  # type: ignore[assignment]
        y, height = (float(share) * size_px[1] for share in (y, height))  # type: ignore[assignment]
    except (KeyError, ValueError) as error:
        raise ValueError(f"a line must be the number of a class and 4 shares, got {line!r} ({where})") from error
    return Box(str(name), x - width / 2, y - height / 2, x + width / 2, y + height / 2)  # type: ignore[operator]
