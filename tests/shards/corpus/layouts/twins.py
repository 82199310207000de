"""Write the same generated scans in every layout, and compare what a dataset says of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.corpora import jpeg_bytes, png_bytes, rows_of

CLASSES = ("Folding knife", "Gun", "Knife")
SPLITS = ("train", "val", "test")

Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class Truth:
    """A scan and what is in it."""

    name: str
    split: str
    size: tuple[int, int]
    boxes: tuple[tuple[str, Corners], ...]

    @property
    def image(self) -> bytes:
        number = int(self.name[1:])
        return (jpeg_bytes if self.extension == "jpg" else png_bytes)(number, self.size)

    @property
    def extension(self) -> str:
        return "jpg" if int(self.name[1:]) % 2 else "png"

    @property
    def file_name(self) -> str:
        return f"{self.name}.{self.extension}"


def make_truth(num_scans: int = 12, seed: int = 0) -> list[Truth]:
    """Return scans of all splits, every third of them without items, with boxes on quarters of a pixel."""
    rng = np.random.default_rng(seed)
    scans = []
    for number in range(num_scans):
        width, height = (int(side) for side in rng.integers(32, 80, 2))
        boxes = []
        for _ in range(0 if number % 3 == 0 else int(rng.integers(1, 4))):
            xmin, ymin = rng.integers(0, 4 * (width - 8)) / 4, rng.integers(0, 4 * (height - 8)) / 4
            xmax, ymax = xmin + rng.integers(4, 32) / 4, ymin + rng.integers(4, 32) / 4
            boxes.append(
                (CLASSES[int(rng.integers(len(CLASSES)))], (float(xmin), float(ymin), float(xmax), float(ymax)))
            )
        scans.append(Truth(f"s{number:03d}", SPLITS[number % 3 - 1], (width, height), tuple(boxes)))
    assert {name for scan in scans for name, _ in scan.boxes} == set(CLASSES)
    return scans


def put(path: Path, data: bytes | str | Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        data if isinstance(data, bytes) else (data if isinstance(data, str) else json.dumps(data)).encode()
    )


def coco_document(scans: Sequence[Truth], *, in_folder: str = "", first_id: int = 7) -> dict[str, Any]:
    """Return the COCO document of some scans; ids are neither in order nor from 0."""
    numbers = {name: 30 - 10 * at for at, name in enumerate(CLASSES)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for at, scan in enumerate(scans):
        width, height = scan.size
        name = f"{in_folder}{scan.file_name}"
        images.append({"id": first_id + at, "file_name": name, "width": width, "height": height})
        for label, (xmin, ymin, xmax, ymax) in scan.boxes:
            bbox = [xmin, ymin, xmax - xmin, ymax - ymin]
            entry = {"id": len(annotations), "image_id": first_id + at, "category_id": numbers[label], "bbox": bbox}
            annotations.append(entry | {"area": bbox[2] * bbox[3], "iscrowd": 0, "segmentation": []})
    categories = [{"id": number, "name": name, "supercategory": "item"} for name, number in numbers.items()]
    return {"images": images, "annotations": annotations[::-1], "categories": categories}


def write_coco(root: Path, scans: Sequence[Truth]) -> None:
    for split in SPLITS:
        mine = [scan for scan in scans if scan.split == split]
        for scan in mine:
            put(root / split / scan.file_name, scan.image)
        put(root / f"annotations/instances_{split}.json", coco_document(mine))


def write_roboflow(root: Path, scans: Sequence[Truth]) -> None:
    folders = {"train": "train", "val": "valid", "test": "test"}
    for split, folder in folders.items():
        mine = [scan for scan in scans if scan.split == split]
        for scan in mine:
            put(root / folder / scan.file_name, scan.image)
        put(root / folder / "_annotations.coco.json", coco_document(mine))


def yolo_rows(scan: Truth, *, as_polygons: bool = False) -> str:
    lines = []
    for label, (xmin, ymin, xmax, ymax) in scan.boxes:
        width, height = scan.size
        left, top, right, bottom = xmin / width, ymin / height, xmax / width, ymax / height
        if as_polygons:
            values = [left, top, right, top, right, bottom, left, bottom]
        else:
            values = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
        lines.append(" ".join([str(CLASSES.index(label)), *map(repr, values)]))
    return "".join(f"{line}\n" for line in lines)


def write_yolo(root: Path, scans: Sequence[Truth]) -> None:
    for scan in scans:
        put(root / f"images/{scan.split}/{scan.file_name}", scan.image)
        put(root / f"labels/{scan.split}/{scan.name}.txt", yolo_rows(scan))
    names = "".join(f"  {at}: {name}\n" for at, name in enumerate(CLASSES))
    put(
        root / "data.yaml",
        f"path: ../somewhere/else\ntrain: images/train\nval: images/val\ntest: images/test\nnames:\n{names}",
    )


def write_yolo_polygons(root: Path, scans: Sequence[Truth]) -> None:
    folders = {"train": "train", "val": "valid", "test": "test"}
    for scan in scans:
        put(root / folders[scan.split] / "images" / scan.file_name, scan.image)
        put(root / folders[scan.split] / "labels" / f"{scan.name}.txt", yolo_rows(scan, as_polygons=True))
    put(
        root / "data.yaml",
        f"train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnames: {list(CLASSES)}\n",
    )


def write_darknet(root: Path, scans: Sequence[Truth]) -> None:
    for scan in scans:
        put(root / "obj_train_data" / scan.file_name, scan.image)
        put(root / "obj_train_data" / f"{scan.name}.txt", yolo_rows(scan))
    for split in SPLITS:
        mine = [f"data/obj_train_data/{scan.file_name}\n" for scan in scans if scan.split == split]
        put(root / f"{split}.txt", "".join(mine))
    put(root / "obj.names", "\n".join(CLASSES))
    put(
        root / "obj.data",
        "classes = 3\ntrain = data/train.txt\nvalid = data/val.txt\ntest = data/test.txt\nnames = data/obj.names\n",
    )


def write_labelme(root: Path, scans: Sequence[Truth]) -> None:
    for scan in scans:
        shapes = []
        for at, (label, (xmin, ymin, xmax, ymax)) in enumerate(scan.boxes):
            points = (
                [[xmax, ymin], [xmin, ymax]] if at % 2 else [[xmin, ymin], [xmax, ymin], [xmin, ymax], [xmax, ymax]]
            )
            shapes.append({"label": label, "points": points, "shape_type": "rectangle" if at % 2 else "polygon"})
        width, height = scan.size
        document: dict[str, Any] = {
            "version": "5.0",
            "flags": {},
            "shapes": shapes,
            "imagePath": scan.file_name,
            "imageData": None,
        }
        put(root / scan.split / scan.file_name, scan.image)
        put(root / scan.split / f"{scan.name}.json", document | {"imageWidth": width, "imageHeight": height})


def voc_document(scan: Truth) -> str:
    objects = "".join(
        f"<object><name>{label}</name><bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax>"
        f"<ymax>{ymax}</ymax></bndbox></object>"
        for label, (xmin, ymin, xmax, ymax) in scan.boxes
    )
    size = f"<size><width>{scan.size[0]}</width><height>{scan.size[1]}</height><depth>3</depth></size>"
    return f"<annotation><filename>{scan.file_name}</filename>{size}{objects}</annotation>"


def write_labelimg(root: Path, scans: Sequence[Truth]) -> None:
    for scan in scans:
        put(root / scan.split / scan.file_name, scan.image)
        put(root / scan.split / f"{scan.name}.xml", voc_document(scan))


def write_voc_in_splits(root: Path, scans: Sequence[Truth]) -> None:
    for scan in scans:
        put(root / f"images/{scan.split}/{scan.file_name}", scan.image)
        put(root / f"annotations/{scan.split}/{scan.name}.xml", voc_document(scan))


def write_voc(root: Path, scans: Sequence[Truth]) -> None:
    for scan in scans:
        put(root / "JPEGImages" / scan.file_name, scan.image)
        put(root / "Annotations" / f"{scan.name}.xml", voc_document(scan))
    for split in SPLITS:
        put(root / f"ImageSets/Main/{split}.txt", "".join(f"{scan.name}\n" for scan in scans if scan.split == split))


def write_hixray(root: Path, scans: Sequence[Truth]) -> None:
    """Write the folders of OPIXray, which have neither val nor a file without objects."""
    for scan in scans:
        put(root / scan.split / f"{scan.split}_image" / scan.file_name, scan.image)
        lines = (
            f"{scan.file_name} {label.replace(' ', '_')} {' '.join(map(repr, box))}\n" for label, box in scan.boxes
        )
        put(root / scan.split / f"{scan.split}_annotation/{scan.name}.txt", "".join(lines))


def write_dvxray(root: Path, scans: Sequence[Truth]) -> None:
    """Write two scans that follow each other as the views of a pair; each item is boxed in one of them."""
    for at in range(0, len(scans), 2):
        pair = f"P{at:05d}"
        objects = [
            {"label": label, "ol_bb": list(box) if view == 0 else None, "sd_bb": list(box) if view else None}
            for view, scan in enumerate(scans[at : at + 2])
            for label, box in scan.boxes
        ]
        for view, scan in zip(("OL", "SD"), scans[at : at + 2], strict=True):
            put(root / f"DvXray/{pair}_{view}.{scan.extension}", scan.image)
        put(root / f"DvXray/{pair}.json", {"objects": objects or "None"})


def found_in(dataset: Path) -> dict[str, dict[str, Any]]:
    """Return what a dataset says of each scan, by file name without folders."""
    return {row["source_uri"].rpartition("/")[2].partition(".")[0]: row for row in rows_of(dataset)}


def boxes_of(row: Mapping[str, Any]) -> list[tuple[str, Corners]]:
    sides = ("xmin_px", "ymin_px", "xmax_px", "ymax_px")
    return [(box["class"], tuple(round(float(box[side]), 2) for side in sides)) for box in row["boxes"]]  # type: ignore[misc]
