"""Describe the layout of OPIXray and HiXray and parse their annotations: `name class x1 y1 x2 y2` for each object."""

import math
from collections.abc import Mapping

from shards import storage
from shards.corpus.annotations import MAX_ANNOTATION_BYTES, decode_text
from shards.corpus.boxes import Annotation, AnnotationError, collect_boxes
from shards.corpus.description import Source
from shards.corpus.layouts.layout import Contents, Layout, Parts
from shards.corpus.tree.folders import Kind, RootFolder
from shards.corpus.tree.survey import Survey


def parse_opixray(text: bytes, class_of: Mapping[str, str]) -> Annotation:
    """Parse an annotation.

    The name is everything before the last five words: it may hold spaces.

    Raises:
        AnnotationError: unreadable_annotation or bad_box.

    Source:
        "Occluded Prohibited Items Detection: An X-ray Security Inspection Benchmark and De-occlusion Attention Module",
        MM 2020; the release's `train_annotation/*.txt`.
    """
    if len(text) > MAX_ANNOTATION_BYTES:
        raise AnnotationError("unreadable_annotation", f"the file has more than {MAX_ANNOTATION_BYTES} bytes")
    try:
        lines = decode_text(text).splitlines()
    except UnicodeDecodeError as error:
        raise AnnotationError("unreadable_annotation", str(error)) from error
    if not any(map(str.strip, lines)):
        raise AnnotationError("unreadable_annotation", "the file is empty, which proves no absence")
    return collect_boxes((_parse_line(line) for line in lines if line.strip()), class_of)


def _parse_line(line: str) -> tuple[str, list[float]]:
    words = line.rsplit(None, 5)
    if len(words) != 6:
        raise AnnotationError("unreadable_annotation", f"a line must be 'name class x1 y1 x2 y2', got {line[:80]!r}")
    try:
        corners = [float(word) for word in words[2:]]
    except ValueError as error:
        raise AnnotationError("bad_box", f"coordinates must be numbers, got {line[:80]!r}") from error
    if not all(map(math.isfinite, corners)):
        raise AnnotationError("bad_box", f"coordinates must be finite, got {line[:80]!r}")
    return words[1], corners


def _find(root: RootFolder, _parts: Parts) -> Contents:
    return Contents(
        images=_find_folders(root, "images", "image"), annotations=_find_folders(root, "annotations", "annotation")
    )


def _find_folders(root: RootFolder, kind: Kind, name: str) -> tuple[Source, ...]:
    urls = {split: root.at(split, f"{split}_{name}") for split in ("train", "test") if split in root.folders}
    return tuple(Source(kind, url, split=split) for split, url in urls.items() if storage.is_folder(url))


def _detect(root: RootFolder, parts: Parts, _survey: Survey) -> Contents | None:
    contents = _find(root, parts)
    return contents if contents.images else None


OPIXRAY = Layout(
    name="opixray",
    expected="folders train/train_image or test/test_image",
    find=_find,
    detect=_detect,
    parse_annotation=parse_opixray,
    class_set="opixray",
    has_any_classes=True,
    boxes_are_exhaustive=True,
)
