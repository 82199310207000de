"""Define a scan on its way to an annotation tool, and what comes back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from shards.format.classes import Box

PICTURES_FOLDER = "images"
"""Folder of the pictures of an export; tools name pictures by their paths below it."""


class Suggestion(NamedTuple):
    """Where a model sees an item."""

    box: Box
    score: float
    """In [0, 1]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedScan:
    """A scan for an annotation tool."""

    key: str
    sha256: str
    file_name: str
    """Of its picture, below the folder of pictures, or where the picture is if the export has none."""
    has_picture: bool
    """Whether the export has it."""
    width_px: int
    height_px: int
    labels: Mapping[str, int | None]
    boxes: tuple[Box, ...]
    suggestions: tuple[Suggestion, ...] = ()

    @property
    def is_told_by_boxes(self) -> bool:
        """Whether a format that has boxes alone can say what is in it, where no box means no item.

        It cannot say it of an unlabelled scan, nor of one with an item that has no box.
        """
        labels = set(self.labels.values())
        return bool(self.boxes) or (0 in labels and 1 not in labels)

    @property
    def path(self) -> str:
        """Of its picture, below the export's folder or where the picture is."""
        return f"{PICTURES_FOLDER}/{self.file_name}" if self.has_picture else self.file_name

    def shares_of(self, box: Box) -> tuple[float, float, float, float]:
        """Return left, top, right and bottom of a box as shares of the scan's width and height."""
        left, top, right, bottom = box.edges_px
        return left / self.width_px, top / self.height_px, right / self.width_px, bottom / self.height_px


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnedScan:
    """A scan as an annotation tool has it."""

    name: str
    """Of its picture, without folders and extension."""
    sha256: str | None
    """None if the tool did not keep it."""
    labels: Mapping[str, int | None] | None
    """None if the tool has boxes alone."""
    boxes: tuple[Box, ...]
    where: str
    """File and place, for messages."""
