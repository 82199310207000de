"""Describe the layout of COCO: JSON files that each annotate many images.

So come PIDray (`annotations/xray_test_hard.json`), CLCXray, exports of HiXray and EDS, and Roboflow's
`_annotations.coco.json` beside the images of a split. In exports of `sixray annotate` images have `labels` too: 1, 0 or
null for unknown, which COCO itself cannot say.
"""

import json
import math
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from shards import storage
from shards.corpus.annotations import as_utf8, decode_text
from shards.corpus.boxes import Annotation, AnnotationError, collect_boxes, hull_of_mask, hull_of_points
from shards.corpus.description import Corpus, Source
from shards.corpus.facts import UNLISTED, AnnotationFact, Fact, Inline, Labels, ProblemFact, RowFact
from shards.corpus.layouts.layout import Contents, Layout, Parts
from shards.corpus.tree.folders import RootFolder
from shards.corpus.tree.survey import ImageIndex, Survey, list_image, scan_key, split_of_name, split_of_path
from shards.format.classes import ClassSet
from shards.format.json_lists import scan_lists

_COCO_KEY = re.compile(rb'"(?:images|annotations|categories)"\s*:\s*\[')
_CATEGORIES_KEY = re.compile(rb'"categories"\s*:\s*\[')
_CATEGORIES = re.compile(r'"categories"\s*:\s*(?=\[)')
_IMAGES_KEY = re.compile(rb'"images"\s*:\s*\[\s*\{[^{}]*"file_name"')
_LIST_RANK = 3

Object = tuple[str, Sequence[float]]
"""Spelling of its class, and xmin, ymin, xmax, ymax."""


def inline_annotation(objects: Iterable[Object], size: Sequence[Any], problem: str = "") -> Inline:
    """Return the annotation of one scan, for `parse_inline`.

    Args:
        objects: in the scan.
        size: width and height that the annotation says; None where it says nothing.
        problem: why the annotation cannot be read; empty if it can.
    """
    document = {"objects": [[name, *corners] for name, corners in objects], "size": list(size), "problem": problem}
    return Inline(json.dumps(document))


def parse_inline(text: bytes, class_of: Mapping[str, str]) -> Annotation:
    """Parse what `inline_annotation` made; AnnotationError: unreadable_annotation."""
    document = json.loads(text)
    if document["problem"]:
        raise AnnotationError("unreadable_annotation", document["problem"])
    objects = ((name, corners) for name, *corners in document["objects"])
    return collect_boxes(objects, class_of, size=document["size"])


def _find(root: RootFolder, _parts: Parts) -> Contents:
    return _describe(root, Survey(root.url))


def _detect(root: RootFolder, parts: Parts, survey: Survey) -> Contents | None:
    contents = _describe(root, survey)
    return contents if contents.annotations and (survey.has_images or parts.images) else None


def _describe(root: RootFolder, survey: Survey) -> Contents:
    files = find_documents(survey)
    names = dict.fromkeys(name for path in files for name in read_category_names(survey.at(path)))
    return Contents(
        images=(Source("images", root.url),) if files and survey.has_images else (),
        annotations=tuple(Source("annotations", survey.at(path), "document") for path in files),
        class_names=tuple(names),
        remark=f"{len(names)} categories in {', '.join(files[:4])}{', …' * (len(files) > 4)}",
    )


def find_documents(survey: Survey) -> list[str]:
    """Return the paths of the COCO files of instances below a corpus.

    Where one is called so, only `instances_…` are: captions and key points of the same images lie beside them.

    Raises:
        ValueError: there is none, but one that is cut.
    """
    by_folder: dict[str, list[str]] = defaultdict(list)
    for path in survey.with_extension("json"):
        by_folder[path.rpartition("/")[0]].append(path)
    # A folder with a JSON file an image has thousands; three tell.
    tried = [path for paths in by_folder.values() for path in (paths if len(paths) <= 30 else paths[:3])]
    begun = [path for path in tried if _COCO_KEY.search(survey.read_start(path))]
    found = [path for path in begun if _CATEGORIES_KEY.search(as_utf8(storage.read_bytes(survey.at(path))))]
    if not found and (cut := next((path for path in begun if _IMAGES_KEY.search(survey.read_start(path))), "")):
        raise ValueError(
            f"COCO file must have images, annotations and categories, got no categories ({survey.at(cut)}); is it cut? "
            f"download or export it again, or take the images without it by --layout images"
        )
    return [path for path in found if "instances" in path.rpartition("/")[2]] or found


def read_category_names(url: str) -> list[str]:
    """Return the names of the categories of a file, by id, without the group that Roboflow puts first.

    Raises:
        ValueError: they cannot be read.
    """
    try:
        text = decode_text(storage.read_bytes(url))  # of the whole: a few bytes of GBK may be UTF-8 too
        (*_, match) = _CATEGORIES.finditer(text)
        categories, _ = json.JSONDecoder().raw_decode(text, match.end())
        categories = sorted(categories, key=lambda item: int(item["id"]))
        groups = {item.get("supercategory") for item in categories[1:]}
        is_group = categories and categories[0].get("supercategory") == "none" and categories[0]["name"] in groups
        return [str(item["name"]) for item in categories[bool(is_group) :]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"categories must be a list of id and name, got {error!r} ({url}); export it again") from error


def list_coco(source: Source, corpus: Corpus, classes: ClassSet, _drafts_url: str) -> Iterator[Fact]:
    """Yield the images of a corpus, or split and annotation of each image that a file names."""
    if source.kind == "annotations":
        yield from _list_document(source.url, corpus.url, classes)
        return
    for info in storage.list_files(source.url):
        path = storage.path_below(info.url, source.url)
        if fact := list_image(source, path, info.url, info.size_bytes):
            yield fact


class _Entry(NamedTuple):
    """An object as a document has it."""

    category_id: str
    corners: tuple[float, ...]
    problem: str = ""
    """Why its box cannot be read; empty if it can."""


class _Document:
    """What a file says: little of each entry, so that a file of a million images takes little memory."""

    def __init__(self, text: str, classes: ClassSet) -> None:
        self._classes = classes
        self.names: dict[str, str] = {}
        self.images: list[tuple[str, str, tuple[Any, Any], Labels]] = []
        """Id, file name, width and height, and labels if it has any."""
        self.bad_images: list[str] = []
        """What is wrong with entries of images that cannot be read."""
        self.entries: defaultdict[str, list[_Entry]] = defaultdict(list)
        """By the id of their image."""
        take = {"categories": self._take_category, "images": self._take_image, "annotations": self._take_entry}
        members = scan_lists(text, take)
        if lacking := [name for name in ("images", "categories") if name not in members]:
            raise KeyError(lacking[0])
        self.has_entries = "annotations" in members
        """The lists of test images without ground truth have none."""

    def _take_category(self, item: Mapping[str, Any]) -> None:
        self.names[_id_of(item["id"])] = str(item["name"])

    def _take_image(self, item: Mapping[str, Any]) -> None:
        try:
            size = (item.get("width"), item.get("height"))
            labels = _read_labels(item.get("labels"), self._classes)
            self.images.append((_id_of(item["id"]), str(item["file_name"]), size, labels))
        except (KeyError, TypeError, AttributeError):
            self.bad_images.append(f"an image must have an id and a file_name, got {str(item)[:200]}")

    def _take_entry(self, item: Mapping[str, Any]) -> None:
        category = sys.intern(_id_of(item.get("category_id")))
        try:
            entry = _Entry(category, _read_corners(item))
        except (ValueError, TypeError, KeyError, IndexError) as error:
            entry = _Entry(category, (), f"annotation {item.get('id')} has no box that can be read: {error!r}")
        self.entries[_id_of(item.get("image_id"))].append(entry)


def _list_document(url: str, root_url: str, classes: ClassSet) -> Iterator[Fact]:
    try:
        document = _Document(decode_text(storage.read_bytes(url)), classes)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"COCO file must have images, annotations and categories, got {error!r} ({url})") from error
    path = storage.path_below(url, root_url)
    split = split_of_name(path.rpartition("/")[2]) or split_of_path(path)
    index = ImageIndex.below(root_url)
    names_of: defaultdict[str, set[str]] = defaultdict(set)
    for image_id, name, *_ in document.images:
        names_of[image_id].add(name)
    for image_id, name, size, labels in document.images:
        entries = document.entries.get(image_id, [])
        keys = index.find_keys(name, split, path.rpartition("/")[0])
        key = min(keys, default=scan_key(name))
        if len(keys) > 1:
            detail = f"file_name {name!r} may be any of {', '.join(sorted(keys)[:3])}"
            yield ProblemFact(key, url, "unreadable_annotation", detail, split)
            continue
        if split or labels:
            yield RowFact(key, url, _LIST_RANK, split or split_of_path(name) or UNLISTED, labels, "")
        if len(names_of[image_id]) > 1:
            yield AnnotationFact(key, url, inline_annotation((), size, f"several images have the id {image_id}"))
        elif document.has_entries:
            yield AnnotationFact(key, url, _annotate(entries, document.names, size))
    for number, detail in enumerate(document.bad_images):
        yield ProblemFact(scan_key(f"bad image {number}"), url, "unreadable_annotation", detail)
    for image_id in sorted(document.entries.keys() - names_of.keys()):
        entries = document.entries[image_id]
        detail = f"{len(entries)} annotations are of image_id {image_id}, which the file does not list"
        yield ProblemFact(scan_key(f"image_id={image_id}"), url, "unreadable_annotation", detail)


def _read_labels(labels: Any, classes: ClassSet) -> Labels:
    """Return the labels of the scored classes; empty if an image has none of ours."""
    if not isinstance(labels, dict) or not all(str(name).lower() in classes.spellings for name in labels):
        return ()
    known = {classes.spellings[name.lower()]: label for name, label in labels.items() if label in (0, 1, None)}
    return tuple(known.get(name) for name in classes.scored) if len(known) == len(labels) else ()


def _id_of(value: Any) -> str:
    """Return an id as text: pandas writes 7.0 for 7, others write "7"."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _annotate(entries: Sequence[_Entry], names: Mapping[str, str], size: Sequence[Any]) -> Inline:
    if problem := next((entry.problem for entry in entries if entry.problem), ""):
        return inline_annotation((), size, problem)
    objects = ((names.get(entry.category_id, f"category_id {entry.category_id}"), entry.corners) for entry in entries)
    return inline_annotation(objects, size)


def _read_corners(entry: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the corners of the box, else of the hull of the segmentation."""
    if not entry.get("bbox") and not entry.get("segmentation"):
        raise ValueError("there is neither bbox nor segmentation")
    if entry.get("bbox"):
        xmin, ymin, width, height = map(float, entry["bbox"])
        corners: tuple[float, ...] = (xmin, ymin, xmin + width, ymin + height)
    elif isinstance(entry["segmentation"], dict):
        corners = hull_of_mask(entry["segmentation"])
    else:
        corners = hull_of_points([value for polygon in entry["segmentation"] for value in polygon])
    if not all(map(math.isfinite, corners)):
        raise ValueError(f"coordinates must be finite, got {corners}")
    return corners


COCO = Layout(
    name="coco",
    expected="a folder with images, and a JSON file with images, annotations and categories",
    find=_find,
    detect=_detect,
    list_source=list_coco,
    parse_annotation=parse_inline,
    class_set="",
    boxes_are_exhaustive=True,
    has_lists=False,
    takes_parts=False,
    keeps_folders_in_keys=True,
)
