"""Which boxes does an annotation of OPIXray hold? A line an object: `name class x1 y1 x2 y2`."""

import math
from collections.abc import Mapping

from shards.corpus.annotations import MAX_ANNOTATION_BYTES, Annotation, AnnotationError
from shards.format.sample_json import Box


def parse_opixray(text: bytes, class_of: Mapping[str, str]) -> Annotation:
    """Parse an annotation.

    The name is all that stands before the last five words: it may hold spaces.

    Raises:
        AnnotationError: unreadable_annotation, unknown_class or bad_box.

    Source:
        "Occluded Prohibited Items Detection: An X-ray Security Inspection Benchmark and De-occlusion Attention Module",
        MM 2020; the release's `train_annotation/*.txt`.
    """
    if len(text) > MAX_ANNOTATION_BYTES:
        raise AnnotationError("unreadable_annotation", f"the file has more than {MAX_ANNOTATION_BYTES} bytes")
    try:
        lines = text.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise AnnotationError("unreadable_annotation", str(error)) from error
    return Annotation(tuple(_parse_line(line, class_of) for line in lines if line.strip()))


def _parse_line(line: str, class_of: Mapping[str, str]) -> Box:
    words = line.rsplit(None, 5)
    if len(words) != 6:
        raise AnnotationError("unreadable_annotation", f"a line must be 'name class x1 y1 x2 y2', got {line[:80]!r}")
    class_name = class_of.get(words[1].lower())
    if class_name is None:
        known = sorted(set(class_of.values()))
        raise AnnotationError("unknown_class", f"an object is named {words[1]!r}, known are {known}")
    try:
        xmin, ymin, xmax, ymax = (float(word) for word in words[2:])
    except ValueError as error:
        raise AnnotationError("bad_box", f"coordinates must be numbers, got {line[:80]!r}") from error
    if not (0 <= xmin < xmax < math.inf and 0 <= ymin < ymax < math.inf):
        raise AnnotationError("bad_box", f"{class_name} box must have 0 <= min < max, got {words[2:]}")
    return Box(class_name, xmin, ymin, xmax, ymax)
