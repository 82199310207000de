"""Parse the PASCAL VOC XML annotations of the SIXray release."""

import math
from collections.abc import Mapping
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml import DefusedXmlException

from shards.corpus.boxes import Annotation, AnnotationError, collect_boxes

MAX_ANNOTATION_BYTES = 1_000_000
"""The release's largest annotation has 4 kB."""


def parse_annotation(text: bytes, class_of: Mapping[str, str]) -> Annotation:
    """Parse an annotation.

    Only `object` elements right below the root are items, unlike `<owner><name>` and `<source><annotation>`.

    Args:
        text: the file's bytes.
        class_of: class name by spelling in lower case, see `shards.format.classes.ClassSet.spellings`.

    Raises:
        AnnotationError: unreadable_xml (not XML, entities, too large), or bad_box (coordinates are no numbers).
    """
    if len(text) > MAX_ANNOTATION_BYTES:
        raise AnnotationError("unreadable_xml", f"the file has more than {MAX_ANNOTATION_BYTES} bytes")
    try:
        root = defusedxml.ElementTree.fromstring(text, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise AnnotationError("unreadable_xml", f"{type(error).__name__}: {error}") from error
    if root.tag != "annotation":
        raise AnnotationError("unreadable_xml", f"the root element is <{root.tag}>, expected <annotation>")
    return collect_boxes(map(_parse_object, root.findall("object")), class_of)


def _parse_object(item: Element) -> tuple[str, list[float]]:
    corners = [_parse_coordinate(item, name) for name in ("xmin", "ymin", "xmax", "ymax")]
    return item.findtext("name") or "", corners


def _parse_coordinate(item: Element, name: str) -> float:
    text = item.findtext(f"bndbox/{name}")
    try:
        value = float(text or "")
    except ValueError as error:
        raise AnnotationError("bad_box", f"<{name}> must be a number, got {text!r}") from error
    if not math.isfinite(value):
        raise AnnotationError("bad_box", f"<{name}> must be finite, got {text!r}")
    return value
