"""Describe the layout of DvXray: two views of a bag, `P1_OL.png` and `P1_SD.png`, and one JSON file for both.

Lists of splits, `train.txt` with a pair a line or `DvXray_train.txt` with the two views and the labels, are what the
authors' `get_split.py` writes. Their labels are those of the JSON files.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from shards import storage
from shards.corpus.annotations import decode_text
from shards.corpus.description import Corpus, Source, extension_of
from shards.corpus.facts import AnnotationFact, Fact, ImageFact, Inline
from shards.corpus.layouts.coco import Object, inline_annotation, parse_inline
from shards.corpus.layouts.layout import Contents, Layout, Parts
from shards.corpus.tree.folders import RootFolder
from shards.corpus.tree.survey import ImageIndex, Survey, list_image, read_lines, scan_key, split_of_name
from shards.format.classes import ClassSet
from shards.format.keys import stem_of

VIEWS = ("OL", "SD")
"""Overlook and side."""
_LIST_RANK = 3
_VIEW = re.compile(rf"(?P<pair>.+)_(?P<view>{'|'.join(VIEWS)})", re.IGNORECASE)


def _find(root: RootFolder, _parts: Parts) -> Contents:
    return _find_contents(Survey(root.url))


def _find_contents(survey: Survey) -> Contents:
    images = (Source("images", survey.url),) if survey.has_images else ()
    lists = tuple(
        Source("annotations", survey.at(path), "list", split=split)
        for path in survey.with_extension("txt")
        if (split := split_of_name(storage.base_name(path)))
    )
    named = f"; splits in {', '.join(storage.base_name(item.url) for item in lists[:4])}" if lists else ""
    return Contents(images=images, annotations=lists, remark=f"pairs of views with a JSON file each{named}")


def _detect(_root: RootFolder, _parts: Parts, survey: Survey) -> Contents | None:
    has_views = any(_VIEW.fullmatch(stem_of(path)) for path in survey.paths)
    has_objects = any(b'"objects"' in survey.read_start(path) for path in survey.sample("json"))
    return _find_contents(survey) if has_views and has_objects else None


def list_dvxray(source: Source, corpus: Corpus, _classes: ClassSet, _drafts_url: str) -> Iterator[Fact]:
    """Yield the views of each pair, in one group, and what its JSON file says of each view; or the split of a list."""
    if source.kind == "annotations":
        yield from _list_rows(source, corpus)
        return
    documents: list[tuple[str, str]] = []
    views: dict[str, list[tuple[str, str]]] = {}
    for info in storage.list_files(source.url):
        path = storage.path_below(info.url, source.url)
        fact = list_image(source, path, info.url, info.size_bytes)
        if isinstance(fact, ImageFact) and (match := _VIEW.fullmatch(fact.key)):
            views.setdefault(match["pair"], []).append((fact.key, match["view"]))
            fact = fact._replace(group=match["pair"])
        if fact is not None:
            yield fact
        elif extension_of(path) == "json":
            documents.append((scan_key(path), info.url))
    for pair, url in documents:
        text = storage.read_bytes(url)
        for key, view in views.get(pair, [(f"{pair}_{view}", view) for view in VIEWS]):
            yield AnnotationFact(key, url, _read_view(text, view))


def _list_rows(source: Source, corpus: Corpus) -> Iterator[Fact]:
    index = ImageIndex.below(corpus.url)
    seen: set[str] = set()
    for line in read_lines(source.url):
        for name in _views_of(line.split()):
            row = index.list_row(name, source, _LIST_RANK)
            if row.key not in seen:
                yield row
            seen.add(row.key)


def _views_of(words: Sequence[str]) -> list[str]:
    """Return the names of the views that a line means: it has both, or the name of their pair."""
    views = [word for word in words if _VIEW.fullmatch(stem_of(word))]
    return views or [f"{_without_extension(words[0])}_{view}.png" for view in VIEWS]


def _without_extension(name: str) -> str:
    return re.sub(r"\.(json|png|jpe?g)$", "", name, flags=re.IGNORECASE)


def _read_view(text: bytes, view: str) -> Inline:
    """Return the annotation of one view: `objects` is a list, or the word None for a bag without items."""
    try:
        found = json.loads(decode_text(text))["objects"]
        objects = [] if found in ("None", []) else [_read_object(item, view) for item in found]
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
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
