"""Write and read the tasks of Label Studio: boxes as annotations, what a model suggests as predictions, in per cent."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

from shards import storage
from shards.annotation.scans import ExportedScan, ReturnedScan
from shards.annotation.spool import Spool
from shards.format.classes import Box

FILE_NAME = "tasks.json"
CONFIG_NAME = "labels.xml"
_FROM, _TO = "label", "image"


class LabelStudioWriter:
    """Writes one task after the other, and the labelling configuration of the project."""

    def __init__(self, folder: str, classes: Sequence[str]) -> None:
        self._url = storage.join_url(folder, FILE_NAME)
        labels = "".join(f"<Label value={quoteattr(name)}/>" for name in classes)
        config = (
            f'<View><Image name="{_TO}" value="$image"/>'
            f'<RectangleLabels name="{_FROM}" toName="{_TO}">{labels}</RectangleLabels></View>\n'
        )
        storage.write_bytes(storage.join_url(folder, CONFIG_NAME), config.encode())
        self._tasks = Spool()

    def add(self, scan: ExportedScan) -> None:
        """Write the task of a scan."""
        data = {"image": scan.path, "sha256": scan.sha256, "labels": dict(scan.labels)}
        task: dict[str, Any] = {"data": data, "annotations": [{"result": _shapes(scan, scan.boxes)}]}
        if scan.suggestions:
            shapes = _shapes(scan, [box for box, _ in scan.suggestions])
            scored = [shape | {"score": of.score} for shape, of in zip(shapes, scan.suggestions, strict=True)]
            task["predictions"] = [{"result": scored, "score": max(of.score for of in scan.suggestions)}]
        self._tasks.write((",\n" if self._tasks.num_pieces else "") + json.dumps(task, ensure_ascii=False))

    def close(self) -> str:
        """Write the file of tasks; return its URL."""
        with storage.atomic_writer(self._url) as out:
            out.write(b"[")
            self._tasks.copy_to(out)
            out.write(b"]\n")
        return self._url


def _shapes(scan: ExportedScan, boxes: Iterable[Box]) -> list[dict[str, Any]]:
    shapes = []
    for number, box in enumerate(boxes, start=1):
        left, top, right, bottom = (100 * share for share in scan.shares_of(box))
        place = {"x": left, "y": top, "width": right - left, "height": bottom - top, "rotation": 0}
        shapes.append(
            {
                "id": f"box{number}",
                "type": "rectanglelabels",
                "from_name": _FROM,
                "to_name": _TO,
                "original_width": scan.width_px,
                "original_height": scan.height_px,
                "value": place | {"rectanglelabels": [box.class_name]},
            }
        )
    return shapes


def read_label_studio(tasks: Sequence[Any], url: str) -> Iterator[ReturnedScan]:
    """Yield the scans of an export in Label Studio's own JSON; of several annotations the last one counts."""
    for number, task in enumerate(tasks, start=1):
        where = f"{url}, task {task.get('id', number) if isinstance(task, dict) else number}"
        try:
            data = task["data"]
            kept = [one for one in task.get("annotations", []) if not one.get("was_cancelled")]
            shapes = kept[-1]["result"] if kept else []
            boxes = tuple(_read_box(shape, where) for shape in shapes if shape.get("type") == "rectanglelabels")
            yield ReturnedScan(
                name=str(data["image"]),
                sha256=data.get("sha256"),
                labels=data.get("labels"),
                boxes=boxes,
                where=where,
            )
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"task must have data.image and rectangle labels, got {error!r} ({where})") from error


def _read_box(shape: dict[str, Any], where: str) -> Box:
    value = shape["value"]
    if value.get("rotation"):
        raise ValueError(f"boxes must not be rotated, got {value['rotation']} degrees ({where})")
    width, height = shape["original_width"] / 100, shape["original_height"] / 100
    left, top = value["x"] * width, value["y"] * height
    (name,) = value["rectanglelabels"]
    return Box(name, left, top, left + value["width"] * width, top + value["height"] * height)
