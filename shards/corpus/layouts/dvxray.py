"""Describe the layout of DvXray: two views of a bag, `P1_OL.png` and `P1_SD.png`, and one JSON file for both."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from shards import storage
from shards.corpus.description import Corpus, Source
from shards.corpus.facts import AnnotationFact, Fact, ImageFact, Inline
from shards.corpus.layouts.coco import Object, inline_annotation, parse_inline
from shards.corpus.layouts.folders import RootFolder
from shards.corpus.layouts.layout import Contents, Layout, Parts
from shards.corpus.layouts.survey import Survey, list_image, scan_key
from shards.format.classes import ClassSet
from shards.format.keys import stem_of

VIEWS = ("OL", "SD")
"""Overlook and side."""
_VIEW = re.compile(rf"(?P<pair>.+)_(?P<view>{'|'.join(VIEWS)})", re.IGNORECASE)


def _find(root: RootFolder, _parts: Parts) -> Contents:
    return _find_contents(Survey(root.url))


def _find_contents(survey: Survey) -> Contents:
    images = (Source("images", survey.url),) if survey.has_images else ()
    return Contents(images=images, remark="pairs of views with a JSON file each")


def _detect(_root: RootFolder, _parts: Parts, survey: Survey) -> Contents | None:
    has_views = any(_VIEW.fullmatch(stem_of(path)) for path in survey.paths)
    has_objects = any(b'"objects"' in survey.read_start(path) for path in survey.sample("json"))
    return _find_contents(survey) if has_views and has_objects else None


def list_dvxray(source: Source, _corpus: Corpus, _classes: ClassSet, _drafts_url: str) -> Iterator[Fact]:
    """Yield the views of each pair, in one group, and what its JSON file says of each view."""
    documents: list[tuple[str, str]] = []
    views: dict[str, list[tuple[str, str]]] = {}
    for info in storage.list_files(source.url):
        path = info.url.removeprefix(source.url).strip("/")
        fact = list_image(source, path, info.url, info.size_bytes)
        if isinstance(fact, ImageFact) and (match := _VIEW.fullmatch(fact.key)):
            views.setdefault(match["pair"], []).append((fact.key, match["view"]))
            fact = fact._replace(group=match["pair"])
        if fact is not None:
            yield fact
        elif path.endswith(".json"):
            documents.append((scan_key(path), info.url))
    for pair, url in documents:
        text = storage.read_bytes(url)
        for key, view in views.get(pair, [(f"{pair}_{view}", view) for view in VIEWS]):
            yield AnnotationFact(key, url, _read_view(text, view))


def _read_view(text: bytes, view: str) -> Inline:
    """Return the annotation of one view: `objects` is a list, or the word None for a bag without items."""
    try:
        found = json.loads(text)["objects"]
        objects = [] if found in ("None", []) else [_read_object(item, view) for item in found]
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        return inline_annotation((), (), f"objects cannot be read: {error!r}")
    return inline_annotation(objects, ())


def _read_object(item: Mapping[str, Any], view: str) -> Object:
    """Return class and corners of an object; an empty box if it is not boxed in this view."""
    corners = next(value for name, value in item.items() if name.lower().startswith(f"{view.lower()}_b"))
    if corners in (None, [], "None"):
        return str(item["label"]), (0.0, 0.0, 0.0, 0.0)
    xmin, ymin, xmax, ymax = map(float, corners)
    if not all(map(math.isfinite, (xmin, ymin, xmax, ymax))):
        raise ValueError(f"coordinates must be finite, got {corners}")
    return str(item["label"]), (xmin, ymin, xmax, ymax)


DVXRAY = Layout(
    name="dvxray",
    expected="a folder with images …_OL and …_SD and a JSON file for each pair",
    find=_find,
    detect=_detect,
    list_source=list_dvxray,
    parse_annotation=parse_inline,
    class_set="dvxray",
    has_any_classes=True,
    boxes_are_exhaustive=True,
    has_lists=False,
    takes_parts=False,
    keeps_folders_in_keys=True,
)
