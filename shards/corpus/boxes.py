"""Make boxes of the objects of an annotation, repairing what is clearly meant; fit them to their image.

A repair is recorded as (kind, description) and counted in `dataset.json`. An object that is dropped is no sign of
absence: see `Annotation.is_partial`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from shards.format.sample_json import Box

Repair = tuple[str, str]
"""Kind and description."""
UNKNOWN_CLASS = "unknown_class"
_EMPTY_BOX = "empty_box"
_DROPPING = frozenset({UNKNOWN_CLASS, _EMPTY_BOX})

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


def collect_boxes(objects: Iterable[tuple[str, Sequence[float]]], class_of: Mapping[str, str]) -> Annotation:
    """Return the boxes of objects, given as spelling and xmin, ymin, xmax, ymax.

    Reversed corners are turned; empty boxes and objects of unknown classes are dropped.

    Args:
        objects: coordinates are finite, and may lie outside the image: see `fit_boxes`.
        class_of: class name by spelling in lower case, see `shards.format.classes.ClassSet.spellings`.
    """
    boxes: list[Box] = []
    repairs: list[Repair] = []
    for spelling, corners in objects:
        class_name = class_of.get(spelling.strip().lower())
        if class_name is None:
            known = sorted(set(class_of.values()))
            repairs.append((UNKNOWN_CLASS, f"an object is named {spelling.strip()[:80]!r}, known are {known}"))
            continue
        xmin, ymin, xmax, ymax = corners
        if xmin > xmax or ymin > ymax:
            repairs.append(("reversed_box", f"{class_name} box must have min < max, got {list(corners)}"))
        box = Box(class_name, min(xmin, xmax), min(ymin, ymax), max(xmin, xmax), max(ymin, ymax))
        if xmin == xmax or ymin == ymax:
            repairs.append((_EMPTY_BOX, f"{class_name} box must have an area, got {list(corners)}"))
        else:
            boxes.append(box)
    return Annotation(tuple(boxes), tuple(repairs))


def fit_boxes(annotation: Annotation, width_px: int, height_px: int) -> tuple[Annotation, str]:
    """Return the annotation with its boxes clipped to the image, and a description of a box that lies far outside.

    If the description is not empty, the annotation belongs to a picture of another size.
    """
    boxes: list[Box] = []
    repairs = list(annotation.repairs)
    misfit = ""
    for box in annotation.boxes:
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


def _is_far_outside(box: Box, width_px: int, height_px: int) -> bool:
    edge_x, edge_y = (max(_EDGE_PX, _EDGE_FRACTION * side) for side in (width_px, height_px))
    return (
        min(box.xmin_px / edge_x, box.ymin_px / edge_y) < -1
        or box.xmax_px > width_px + edge_x
        or box.ymax_px > height_px + edge_y
    )
