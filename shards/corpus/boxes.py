"""Make boxes of the objects of an annotation, repairing what is clearly meant; fit them to their image.

A repair is recorded as (kind, description) and counted in `dataset.json`. An object that is dropped is no sign of
absence: see `Annotation.is_partial`.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from shards.format.classes import Box

Repair = tuple[str, str]
"""Kind and description."""
UNKNOWN_CLASS = "unknown_class"
_EMPTY_BOX = "empty_box"
_DROPPING = frozenset({UNKNOWN_CLASS, _EMPTY_BOX})

_SIZE_TOLERANCE_PX = 1.0
"""Sizes that differ by rounding."""
_EDGE_PX = 2.0
_EDGE_FRACTION = 0.01
"""A box may pass the edge by this part of the image's side, or by 2 pixels: coordinates that count from 1, were rounded
outwards, or scaled by a rounded factor. What passes it further was drawn on another picture."""


class AnnotationError(ValueError):
    """An annotation that cannot be trusted; `reason` is the fixed word of its quarantine row."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Annotation:
    """The boxes of an annotation file."""

    boxes: tuple[Box, ...]
    repairs: tuple[Repair, ...] = ()
    size: tuple[float, float] | None = None
    """Width and height of the image that it is of; None if it does not say."""
    is_relative: bool = False
    """Whether its coordinates are fractions of the image's width and height."""

    @property
    def class_names(self) -> frozenset[str]:
        """The classes with at least one box."""
        return frozenset(box.class_name for box in self.boxes)

    @property
    def is_partial(self) -> bool:
        """Whether an object was dropped: then a class without a box may be present all the same."""
        return any(kind in _DROPPING for kind, _ in self.repairs)

    @property
    def unknown_class(self) -> str:
        """Description of an object of no known class; empty if there is none."""
        return next((detail for kind, detail in self.repairs if kind == UNKNOWN_CLASS), "")


class SeenClasses(dict[str, str]):
    """Takes every name of a class for one, and counts them."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def get(self, name: str, _default: Any = None) -> str:  # type: ignore[override]
        """Return the name."""
        self.counts[name] += 1
        return name


def collect_boxes(
    objects: Iterable[tuple[str, Sequence[float]]],
    class_of: Mapping[str, str],
    *,
    size: Sequence[Any] = (),
    is_relative: bool = False,
) -> Annotation:
    """Return the boxes of objects, given as spelling and xmin, ymin, xmax, ymax.

    Reversed corners are turned; empty boxes and objects of unknown classes are dropped.

    Args:
        objects: coordinates are finite, and may lie outside the image: see `fit_boxes`.
        class_of: class name by spelling in lower case, see `shards.format.classes.ClassSet.spellings`.
        size: width and height of the image as the annotation says, in any form.
        is_relative: whether coordinates are fractions of them.
    """
    boxes: list[Box] = []
    repairs: list[Repair] = []
    for spelling, corners in objects:
        name = spelling.strip()
        class_name = (class_of.get(name) or class_of.get(name.lower())) if name else None
        if class_name is None:
            known = sorted(set(class_of.values()))
            repairs.append((UNKNOWN_CLASS, f"an object is named {name[:80]!r}, known are {known}"))
            continue
        xmin, ymin, xmax, ymax = corners
        if xmin > xmax or ymin > ymax:
            repairs.append(("reversed_box", f"{class_name} box must have min < max, got {list(corners)}"))
        box = Box(class_name, min(xmin, xmax), min(ymin, ymax), max(xmin, xmax), max(ymin, ymax))
        if xmin == xmax or ymin == ymax:
            repairs.append((_EMPTY_BOX, f"{class_name} box must have an area, got {list(corners)}"))
        else:
            boxes.append(box)
    return Annotation(tuple(boxes), tuple(repairs), _parse_size(size), is_relative)


def _parse_size(values: Sequence[Any]) -> tuple[float, float] | None:
    """Return width and height if they are numbers above 0; some tools write 0 for what they do not know."""
    try:
        width, height = map(float, values)
    except (TypeError, ValueError):
        return None
    return (width, height) if 0 < width < math.inf and 0 < height < math.inf else None


def fit_boxes(annotation: Annotation, width_px: int, height_px: int) -> tuple[Annotation, str]:
    """Return the annotation with its boxes in pixels of the image, clipped to it, and why it is of another image.

    An annotation is of another image, or of this one before it was resized or turned, if it says another size or a box
    lies far outside. Empty if it is of this image.
    """
    boxes: list[Box] = []
    repairs = list(annotation.repairs)
    misfit = _compare_size(annotation, width_px, height_px)
    for box in annotation.boxes:
        if annotation.is_relative:
            box = _scale(box, width_px, height_px)
        if box.xmin_px >= 0 and box.ymin_px >= 0 and box.xmax_px <= width_px and box.ymax_px <= height_px:
            boxes.append(box)  # nearly every box
            continue
        clipped = replace(
            box,
            xmin_px=max(box.xmin_px, 0.0),
            ymin_px=max(box.ymin_px, 0.0),
            xmax_px=min(box.xmax_px, float(width_px)),
            ymax_px=min(box.ymax_px, float(height_px)),
        )
        detail = f"{box} leaves the image of {width_px} x {height_px} pixels"
        if _is_far_outside(box, width_px, height_px):
            misfit = misfit or detail
        is_empty = clipped.xmin_px >= clipped.xmax_px or clipped.ymin_px >= clipped.ymax_px
        repairs.append((_EMPTY_BOX if is_empty else "clipped_box", detail))
        if not is_empty:
            boxes.append(clipped)
    return Annotation(tuple(boxes), tuple(repairs)), misfit


def _compare_size(annotation: Annotation, width_px: int, height_px: int) -> str:
    if annotation.size is None or not annotation.boxes or annotation.is_relative:
        return ""
    width, height = annotation.size
    if abs(width - width_px) <= _SIZE_TOLERANCE_PX and abs(height - height_px) <= _SIZE_TOLERANCE_PX:
        return ""
    return f"the annotation is of {width:g} x {height:g} pixels, the image has {width_px} x {height_px}"


def _scale(box: Box, width_px: int, height_px: int) -> Box:
    return Box(
        box.class_name, box.xmin_px * width_px, box.ymin_px * height_px, box.xmax_px * width_px, box.ymax_px * height_px
    )


def _is_far_outside(box: Box, width_px: int, height_px: int) -> bool:
    edge_x, edge_y = (max(_EDGE_PX, _EDGE_FRACTION * side) for side in (width_px, height_px))
    return (
        min(box.xmin_px / edge_x, box.ymin_px / edge_y) < -1
        or box.xmax_px > width_px + edge_x
        or box.ymax_px > height_px + edge_y
    )


def hull_of_points(values: Sequence[float]) -> tuple[float, float, float, float]:
    """Return the corners of the box around points, given as x, y, x, y, …"""
    numbers = [float(value) for value in values]
    if len(numbers) < 4 or len(numbers) % 2:
        raise ValueError(f"points must be pairs of numbers, got {len(numbers)} numbers")
    return min(numbers[::2]), min(numbers[1::2]), max(numbers[::2]), max(numbers[1::2])


def hull_of_mask(mask: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """Return the corners of the box around a run-length encoded mask, column by column, compressed or not.

    Source:
        cocoapi, `common/maskApi.c`: rleFrString and rleToBbox.
    """
    height, width = map(int, mask["size"])
    counts = mask["counts"]
    runs = _decompress(counts) if isinstance(counts, str) else [int(count) for count in counts]
    ends = list(accumulate(runs))
    if not ends or ends[-1] > height * width or min(runs) < 0:
        raise ValueError(f"runs must fill {width} x {height} pixels, got {ends[-1:]}")
    xs: list[int] = []
    ys: list[int] = []
    for start, end in zip(ends[::2], ends[1::2], strict=False):
        if start == end:
            continue
        first, last = divmod(start, height), divmod(end - 1, height)
        xs += [first[0], last[0]]
        ys += [first[1], last[1]] if first[0] == last[0] else [0, height - 1]
    if not xs:
        return 0.0, 0.0, 0.0, 0.0
    return float(min(xs)), float(min(ys)), float(max(xs) + 1), float(max(ys) + 1)


def _decompress(text: str) -> list[int]:
    runs: list[int] = []
    at = 0
    while at < len(text):
        value = shift = 0
        more = True
        while more:
            digit = ord(text[at]) - 48
            value |= (digit & 0x1F) << shift
            more = bool(digit & 0x20)
            at += 1
            shift += 5
        if digit & 0x10:
            value |= -1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return runs
