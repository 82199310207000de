"""Encode the labels and boxes of a sample as its JSON component."""

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Box:
    """A box in pixels of the image as stored, x to the right, y down."""

    class_name: str
    xmin_px: float
    ymin_px: float
    xmax_px: float
    ymax_px: float

    def to_row(self) -> dict[str, Any]:
        """Return the box with float32 coordinates, as in `samples` and `<key>.json`."""
        coordinates = {name: _as_float32(getattr(self, name)) for name in _COORDINATES}
        return {"class": self.class_name, **coordinates}


_COORDINATES = ("xmin_px", "ymin_px", "xmax_px", "ymax_px")


def sample_json(row: dict[str, Any]) -> bytes:
    """Return `<key>.json` for a row of `samples`: labels and boxes for users who have only the tar."""
    boxes = [{"class": box["class"]} | {name: _as_float32(box[name]) for name in _COORDINATES} for box in row["boxes"]]
    labels_text = _encode_labels(tuple(row["labels"].items()))
    return (
        f'{{"key":{_encode(row["key"])},"width_px":{row["width_px"]},"height_px":{row["height_px"]}'
        f',"labels":{labels_text},"boxes":{_encode(boxes) if boxes else "[]"}}}'
    ).encode()


_encode = json.JSONEncoder(separators=(",", ":")).encode


@lru_cache(maxsize=4096)
def _encode_labels(labels: tuple[tuple[str, int | None], ...]) -> str:
    # A million scans have a few hundred combinations of labels, and encoding them is most of the work.
    return _encode(dict(labels))


def _as_float32(value: float) -> float:
    # The shortest decimal that names the float32: 17.318, not 17.31800079345703.
    return float(str(np.float32(value)))
