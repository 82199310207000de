"""Describe the layout of labelme: a JSON file beside each image, with shapes drawn by hand."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from shards import storage
from shards.corpus.annotations import decode_text
from shards.corpus.boxes import Annotation, AnnotationError, collect_boxes
from shards.corpus.description import Corpus, Source
from shards.corpus.facts import Fact
from shards.corpus.layouts.layout import Contents, Layout, Parts
from shards.corpus.tree.folders import RootFolder
from shards.corpus.tree.survey import Survey, list_pairs, scan_key
from shards.format.classes import ClassSet

MAX_LABELME_BYTES = 128 * 1024 * 1024
"""A file may hold its image."""

_LABELME_KEY = re.compile(rb'"(?:shapes|imagePath|imageData)"\s*:')
_HULL_TYPES = frozenset(("polygon", "rectangle", "rotation", "mask", "linestrip"))


def parse_labelme(text: bytes, class_of: Mapping[str, str]) -> Annotation:
    """Parse an annotation: the box of a rectangle, or around a polygon, mask or circle.

    Raises:
        AnnotationError: unreadable_annotation.
    """
    document = _load(text)
    try:
        objects = [(_label_of(shape["label"]), _read_corners(shape)) for shape in document["shapes"]]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise AnnotationError("unreadable_annotation", f"a shape cannot be read: {error!r}") from error
    return collect_boxes(objects, class_of, size=(document.get("imageWidth"), document.get("imageHeight")))


def _load(text: bytes) -> Any:
    if len(text) > MAX_LABELME_BYTES:
        raise AnnotationError("unreadable_annotation", f"the file has more than {MAX_LABELME_BYTES} bytes")
    try:
        document = json.loads(decode_text(text))
    except (ValueError, RecursionError) as error:
        raise AnnotationError("unreadable_annotation", f"{type(error).__name__}: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("shapes"), list):
        raise AnnotationError("unreadable_annotation", "the file has no list of shapes, as labelme writes it")
    return document


def _label_of(value: Any) -> str:
    return "" if value is None else str(value)


def _read_corners(shape: Mapping[str, Any]) -> tuple[float, float, float, float]:
    kind = shape.get("shape_type") or "polygon"
    points = [(float(x), float(y)) for x, y in shape["points"]]
    if not all(map(math.isfinite, (value for point in points for value in point))) or len(points) < 2:
        raise ValueError(f"points must be at least two pairs of finite numbers, got {points[:4]}")
    if kind == "circle":
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        return x - radius, y - radius, x + radius, y + radius
    if kind not in _HULL_TYPES:
        raise ValueError(f"shape_type must be circle or one of {sorted(_HULL_TYPES)}, got {kind!r}")
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _find(root: RootFolder, _parts: Parts) -> Contents:
    return _find_contents(Survey(root.url))


def _find_contents(survey: Survey) -> Contents:
    images = (Source("images", survey.url),) if survey.has_images else ()
    return Contents(images=images, remark="JSON files of labelme beside images")


def _detect(_root: RootFolder, parts: Parts, survey: Survey) -> Contents | None:
    is_labelme = any(_LABELME_KEY.search(survey.read_start(path)) for path in survey.sample("json"))
    return _find_contents(survey) if is_labelme and (survey.has_images or parts.images) else None


def _list_source(source: Source, _corpus: Corpus, _classes: ClassSet, _drafts_url: str) -> Iterator[Fact]:
    yield from list_pairs(source, "json", key_of_lone=_read_key, is_annotation=lambda path: True)


def _read_key(url: str, path: str) -> str:
    """Return the key of the image that an annotation names: it was renamed, or is called otherwise on purpose."""
    try:
        name = str(_load(storage.read_bytes(url)).get("imagePath") or path)
    except AnnotationError:
        return scan_key(path)
    return scan_key(f"{path.rpartition('/')[0]}/{storage.base_name(name.replace(chr(92), '/'))}")


LABELME = Layout(
    name="labelme",
    expected="a folder of images with JSON files beside them",
    find=_find,
    detect=_detect,
    list_source=_list_source,
    parse_annotation=parse_labelme,
    max_annotation_bytes=MAX_LABELME_BYTES,
    class_set="",
    has_any_classes=True,
    boxes_are_exhaustive=True,
    has_lists=False,
    takes_parts=False,
    keeps_folders_in_keys=True,
)
