"""Parse the PASCAL VOC XML annotations of the SIXray release."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml import DefusedXmlException

from shards.format.sample_json import Box

MAX_ANNOTATION_BYTES = 1_000_000
"""The release's largest annotation has 4 kB."""


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

    @property
    def class_names(self) -> frozenset[str]:
        """The classes with at least one box."""
        return frozenset(box.class_name for box in self.boxes)


def parse_annotation(text: bytes, class_of: Mapping[str, str]) -> Annotation:
    """Parse an annotation.

    Only `object` elements right below the root are items, unlike `<owner><name>` and `<source><annotation>`.

    Args:
        text: the file's bytes.
        class_of: class name by spelling in lower case, see `shards.format.classes.ClassSet.spellings`.

    Raises:
        AnnotationError: unreadable_xml (not XML, entities, too large), unknown_class or bad_box.
    """
    if len(text) > MAX_ANNOTATION_BYTES:
        raise AnnotationError("unreadable_xml", f"the file has more than {MAX_ANNOTATION_BYTES} bytes")
    try:
        root = defusedxml.ElementTree.fromstring(text, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise AnnotationError("unreadable_xml", f"{type(error).__name__}: {error}") from error
    if root.tag != "annotation":
        raise AnnotationError("unreadable_xml", f"the root element is <{root.tag}>, expected <annotation>")
    return Annotation(tuple(_parse_object(item, class_of) for item in root.findall("object")))


def _parse_object(item: Element, class_of: Mapping[str, str]) -> Box:
    spelling = (item.findtext("name") or "").strip()
    class_name = class_of.get(spelling.lower())
    if class_name is None:
        known = sorted(set(class_of.values()))
        raise AnnotationError("unknown_class", f"an object is named {spelling!r}, known are {known}")
    values = [_parse_coordinate(item, name) for name in ("xmin", "ymin", "xmax", "ymax")]
    xmin, ymin, xmax, ymax = values
    if not (0 <= xmin < xmax and 0 <= ymin < ymax):
        raise AnnotationError("bad_box", f"{class_name} box must have 0 <= min < max, got {values}")
    return Box(class_name, xmin, ymin, xmax, ymax)


def _parse_coordinate(item: Element, name: str) -> float:
    text = item.findtext(f"bndbox/{name}")
    try:
        value = float(text or "")
    except ValueError as error:
        raise AnnotationError("bad_box", f"<{name}> must be a number, got {text!r}") from error
    if not math.isfinite(value):
        raise AnnotationError("bad_box", f"<{name}> must be finite, got {text!r}")
    return value
