"""Describe the layout of YOLO: a text file for each image, with a line `number x y width height` for each object.

Coordinates are fractions of the image's size; a line may be a polygon instead. `data.yaml`, `obj.data` and `obj.names`
or `classes.txt` name classes and splits. An empty file is an image without objects; an image without a file is not
labelled.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from shards import storage
from shards.corpus.annotations import MAX_ANNOTATION_BYTES, decode_text
from shards.corpus.boxes import Annotation, AnnotationError, collect_boxes
from shards.corpus.description import Corpus, Source, is_junk, is_no_image
from shards.corpus.facts import Fact, RowFact
from shards.corpus.layouts.layout import Contents, Layout, Parts
from shards.corpus.tree.folders import SPLITS, RootFolder
from shards.corpus.tree.survey import ImageIndex, Survey, list_pairs, read_lines, scan_key, split_of_path
from shards.format.classes import ClassSet

_ROW = re.compile(rb"\s*\d+(?:\.0+)?(?:[ \t]+-?\d*\.?\d+(?:[eE][-+]?\d+)?){4,}\s*$")
_IMAGE_PATH = re.compile(r".+\.(jpe?g|png|bmp|jfif|tiff?|webp)", re.IGNORECASE)
_NAME_FILES = re.compile(r"(?:.*\.names|(?:predefined_)?classes\.txt|labels\.txt|class_?names\.txt)", re.IGNORECASE)
_LABEL_FOLDER = re.compile(r"(?:^|[_. -])(?:labels?|annotations?)(?:$|[_. -])", re.IGNORECASE)
_LIST_RANK = 3
_MAX_FRACTION = 1.5
"""Coordinates above are pixels."""


def class_of_number(number: int) -> str:
    """Return what stands for a class of which only the number is known."""
    return f"class_{number}"


def parse_yolo(text: bytes, class_of: Mapping[str, str]) -> Annotation:
    """Parse an annotation: boxes by centre and size, or the hulls of polygons.

    Raises:
        AnnotationError: unreadable_annotation.
    """
    if len(text) > MAX_ANNOTATION_BYTES:
        raise AnnotationError("unreadable_annotation", f"the file has more than {MAX_ANNOTATION_BYTES} bytes")
    try:
        lines = decode_text(text).splitlines()
        objects = [_parse_row(line) for line in lines if line.strip()]
    except ValueError as error:  # of decoding too
        raise AnnotationError("unreadable_annotation", str(error)) from error
    return collect_boxes(objects, class_of, is_relative=True)


def _parse_row(line: str) -> tuple[str, list[float]]:
    words = line.split()
    try:
        number, *values = map(float, words)
    except ValueError:
        number, values = -1.0, []
    is_row = number >= 0 and number.is_integer() and (len(values) == 4 or (len(values) >= 6 and len(values) % 2 == 0))
    if not is_row or not all(math.isfinite(value) for value in values):
        raise ValueError(f"a line must be 'number x y width height' or 'number x y x y …', got {line[:80]!r}")
    if max(map(abs, values)) > _MAX_FRACTION:
        raise ValueError(f"coordinates must be fractions of the image's size, got {line[:80]!r}")
    if len(values) > 4:
        corners = [min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])]
    else:
        x, y, width, height = values
        corners = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    return class_of_number(int(number)), corners


@dataclass(frozen=True)
class _Description:
    """What the files of a corpus say of its classes and splits."""

    path: str = ""
    names: Mapping[int, str] = field(default_factory=dict)
    splits: Sequence[tuple[str, str]] = ()
    """Split, and path of a folder or list of images, as written."""
    problem: str = ""
    """Why the classes that it should say cannot be read."""


def _find(root: RootFolder, _parts: Parts) -> Contents:
    survey = Survey(root.url)
    return _find_contents(root, survey, _describe(survey))


def _detect(root: RootFolder, parts: Parts, survey: Survey) -> Contents | None:
    description = _describe(survey)
    has_rows = any(_has_rows(survey, path) for path in survey.sample("txt"))
    is_yolo = has_rows or (description.names and description.splits)
    return _find_contents(root, survey, description) if is_yolo and (survey.has_images or parts.images) else None


def _has_rows(survey: Survey, path: str) -> bool:
    first = survey.read_start(path).removeprefix(b"\xef\xbb\xbf").partition(b"\n")[0]
    return _ROW.match(first) is not None


def _find_contents(root: RootFolder, survey: Survey, description: _Description) -> Contents:
    lists = tuple(_find_splits(survey, description))
    names = [description.names[number] for number in sorted(description.names)]
    by = (
        f"{description.path} names {len(names)} classes" if names else "no file names the classes, --classes A,B,C does"
    )
    by += f"; {description.problem}" if description.problem else ""
    return Contents(
        images=(Source("images", root.url),) if survey.has_images else (),
        annotations=lists,
        class_names=tuple(names),
        class_numbers=tuple((class_of_number(number), name) for number, name in sorted(description.names.items())),
        remark=f"text files with the numbers of classes beside them; {by}",
    )


def _describe(survey: Survey) -> _Description:
    """Return what the first file that names classes says, and the splits of the first that names any."""
    found = [_read_yaml(survey, path) for path in survey.with_extension("yaml", "yml")]
    found += [_read_darknet(survey, path) for path in survey.with_extension("data")]
    name_files = [path for path in survey.paths if _NAME_FILES.fullmatch(path.rpartition("/")[2])]
    found += [_Description(path, dict(enumerate(read_lines(survey.at(path))))) for path in name_files]
    lists = [path for path in survey.with_extension("txt") if _split_of_list(path) and _lists_images(survey, path)]
    found.append(_Description("", {}, tuple((_split_of_list(path), path) for path in lists)))
    named = next((item for item in found if item.names), _Description())
    split = next((item for item in found if item.splits), _Description())
    # Paths are relative to the file that has them.
    folder = split.path.rpartition("/")[0]
    splits = tuple((name, f"{folder}/{path}" if folder else path) for name, path in split.splits)
    problem = "" if named.names else next((item.problem for item in found if item.problem), "")
    return _Description(named.path, named.names, splits, problem)


def _split_of_list(path: str) -> str:
    return SPLITS.get(path.rpartition("/")[2].removesuffix(".txt").lower(), "")


def _lists_images(survey: Survey, path: str) -> bool:
    return any(_IMAGE_PATH.fullmatch(line) for line in read_lines(survey.at(path))[:1])


def _read_yaml(survey: Survey, path: str) -> _Description:
    try:
        text = decode_text(survey.read_start(path))
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        return _Description(path, problem=" ".join(f"{path} is no YAML: {error}".split()))
    names = document.get("names") if isinstance(document, dict) else None
    if not isinstance(names, list | dict):
        return _Description(path, problem=f"names in {path} must be a list, got {names!r}" if names else "")
    numbered = enumerate(names) if isinstance(names, list) else ((int(number), name) for number, name in names.items())
    base = str(document.get("path") or "")
    splits = [(SPLITS[key], value) for key in SPLITS for value in _as_list(document.get(key))]
    return _Description(
        path,
        {number: str(name) for number, name in numbered},
        tuple((split, f"{base}/{value}" if base else value) for split, value in splits),
    )


def _as_list(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else [str(value)] if value else []


def _read_darknet(survey: Survey, path: str) -> _Description:
    """Read `obj.data`: lines `train = data/train.txt` and `names = data/obj.names`."""
    pairs = [line.partition("=") for line in read_lines(survey.at(path))]
    values = {key.strip().lower(): value.strip() for key, _, value in pairs}
    names_path = _resolve(survey, values.get("names", ""), path.rpartition("/")[0])
    names = dict(enumerate(read_lines(survey.at(names_path)))) if names_path else {}
    return _Description(path, names, tuple((SPLITS[key], values[key]) for key in SPLITS if values.get(key)))


def _find_splits(survey: Survey, description: _Description) -> Iterator[Source]:
    """Yield the lists and folders of images that splits are given by; a folder whose name says its split needs none."""
    seen: set[str] = set()
    for split, written in description.splits:
        path = _resolve(survey, written)
        if not path or path in seen:
            continue  # on another disk, or a val that is the train split again
        seen.add(path)
        if path.endswith(".txt") or split_of_path(f"{path}/") != split:
            yield Source("annotations", survey.at(path), "list", split=split)


def _resolve(survey: Survey, written: str, folder: str = "") -> str:
    """Return the path below the corpus that a path on another machine means; empty if there is none."""
    words = [word for word in f"{folder}/{written}".replace("\\", "/").split("/") if word not in ("", ".", "..")]
    candidates = ["/".join(words[at:]) for at in range(len(words))]
    return next((path for path in candidates if storage.exists(survey.at(path))), "")


def _list_source(source: Source, corpus: Corpus, _classes: ClassSet, _drafts_url: str) -> Iterator[Fact]:
    if source.kind == "images":
        yield from list_pairs(source, "txt", is_annotation=_is_annotation)
    elif source.url.endswith(".txt"):
        yield from _list_rows(source, corpus)
    else:
        folder = storage.path_below(source.url, corpus.url)
        for info in storage.list_files(source.url):
            path = f"{folder}/{storage.path_below(info.url, source.url)}"
            if not is_no_image(path) and not is_junk(path):
                yield RowFact(scan_key(path), source.url, _LIST_RANK, source.split, (), "")


def _is_annotation(path: str) -> bool:
    *folders, name = path.split("/")
    return bool(folders) and any(map(_LABEL_FOLDER.search, folders)) and not _NAME_FILES.fullmatch(name)


def _list_rows(source: Source, corpus: Corpus) -> Iterator[Fact]:
    index = ImageIndex.below(corpus.url)
    for line in read_lines(source.url):
        yield index.list_row(line, source, _LIST_RANK)


YOLO = Layout(
    name="yolo",
    expected="a folder of images with text files beside them, or in folders images and labels",
    find=_find,
    detect=_detect,
    list_source=_list_source,
    parse_annotation=parse_yolo,
    class_set="",
    has_any_classes=True,
    boxes_are_exhaustive=True,
    has_lists=False,
    takes_parts=False,
    keeps_folders_in_keys=True,
)
