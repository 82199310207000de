"""Describe the layout of the SIXray release and the ways in which it is often rearranged.

Besides the release as it unpacks: numbered folders, `positive` and `negative`, `{train,eval}/{image,annotation}`, and
the archives as they were downloaded.
"""

import re
from collections.abc import Iterator
from itertools import islice

from shards import storage
from shards.corpus import facts
from shards.corpus.annotations import parse_annotation
from shards.corpus.boxes import UNKNOWN_CLASS, AnnotationError
from shards.corpus.description import Corpus, ListFile, Source, extension_of
from shards.corpus.facts import AnnotationFact
from shards.corpus.layouts.layout import Contents, Layout, Parts
from shards.corpus.read_annotations import read_text
from shards.corpus.streams.tars import check_parts, split_tar_name
from shards.corpus.tree.folders import (
    RootFolder,
    find_by_split,
    find_named_lists,
    list_files_in,
    list_names,
    source_at,
)
from shards.corpus.tree.survey import Survey, split_of_name
from shards.format.classes import load_class_set

IMAGE_FOLDERS = ("JPEGImage", "JPEGImages")
ANNOTATION_FOLDERS = ("Annotation", "Annotations")
_ANNOTATION_ZIPS = ("Annotation.zip", "Annotations.zip", "positive-Annotation.zip")
LIST_FOLDERS = ("ImageSet", "ImageSets")
_LIST_ZIPS = ("ImageSet.zip", "ImageSets.zip")
_IMAGE_ARCHIVE = re.compile(r"JPEGImages?\.(zip|(tar|tgz|tbz|txz|tzst).*)", re.IGNORECASE)
_MAX_UNKNOWN = 0.25
"""Share of objects that may be of other classes, such as misspelt ones."""
_NUM_TRIED = 20
"""Annotations that are read to tell the layout."""
_NUMBERED_FOLDER = re.compile(r"\d{1,2}")


def find_release(root: RootFolder, parts: Parts, *, with_names: bool = False) -> Contents:
    """Find images, annotations and lists by the release's names; `with_names`: also lists of names alone."""
    lists = find_named_lists(parts.lists) if parts.lists else _find_lists(root, with_names)
    annotations = tuple(source_at("annotations", url) for url in parts.annotations) or _find_annotations(root)
    images = tuple(source_at("images", url) for url in parts.images) or _find_images(root, bool(annotations or lists))
    return Contents(images=images, annotations=annotations, lists=lists)


def _detect(root: RootFolder, parts: Parts, _survey: Survey) -> Contents | None:
    found = find_release(root, parts)
    if not found.lists and not all(map(_may_be_sixray, found.annotations)):
        return None
    if not found.lists and found.annotations and (_find_lists(root, with_names=True) or _has_main(root)):
        return None  # lists of names alone are VOC's
    if splits_by_folder(found):
        return None
    has_labels = bool(found.annotations or found.lists or any(image.presence for image in found.images))
    is_packed = any(image.form in ("tar", "zip") for image in found.images)
    return found if found.images and (has_labels or is_packed) else None


SIXRAY = Layout(
    name="sixray",
    expected=f"a folder {' or '.join(IMAGE_FOLDERS)}, or one of the other places that the README names",
    find=find_release,
    detect=_detect,
)


def splits_by_folder(found: Contents) -> bool:
    """Return whether images and annotations alike lie in folders of splits, such as `images/train`, without lists."""
    sources = (*found.images, *found.annotations)
    if found.lists or not found.annotations or any(source.form != "folder" or source.split for source in sources):
        return False
    return all(any(is_dir and split_of_name(name) for name, is_dir in list_names(source.url)) for source in sources)


def holds_xml(source: Source) -> bool:
    """Return whether a source of annotations has XML files, or nothing yet."""
    names = [fact.url for fact in islice(_list_annotations(source), _NUM_TRIED)]
    return not names or any(extension_of(name.partition("::")[0]) == "xml" for name in names)


def _has_main(root: RootFolder) -> bool:
    return any(storage.is_folder(root.at(name, "Main")) for name in root.named(*LIST_FOLDERS))


def _may_be_sixray(source: Source) -> bool:
    """Return whether the first annotations are XML and nearly all of their objects, if any, of SIXray's classes."""
    if not holds_xml(source):
        return False
    num_unknown = num_known = 0
    for fact in islice(_list_annotations(source), _NUM_TRIED):
        try:
            found = parse_annotation(read_text(fact.url, fact.place), load_class_set("sixray").spellings)
        except AnnotationError:
            continue
        num_known += len(found.boxes)
        num_unknown += sum(kind == UNKNOWN_CLASS for kind, _ in found.repairs)
    return num_unknown <= _MAX_UNKNOWN * (num_known + num_unknown)


def _list_annotations(source: Source) -> Iterator[AnnotationFact]:
    found = facts.list_source(source, Corpus("sixray", source.url, ()), "")
    return (fact for fact in found if isinstance(fact, AnnotationFact))


def _find_images(root: RootFolder, has_others: bool) -> tuple[Source, ...]:
    """Return the image folders: by the release's names, by split, by number or presence, packed, or any at the root."""
    for name in root.named(*IMAGE_FOLDERS):
        return (Source("images", root.at(name)),)
    if by_split := find_by_split(root, "images", "image"):
        return by_split
    numbered = [name for name in root.folders if _NUMBERED_FOLDER.fullmatch(name)]
    if {"positive", "negative"} <= set(root.folders) or (numbered and "Image" in root.folders):
        plain = [*numbered, *(["Image"] if "Image" in root.folders else [])]
        return (
            *(Source("images", root.at(name)) for name in plain),
            *(Source("images", root.at(n), presence=n) for n in ("positive", "negative") if n in root.folders),
        )
    if archives := _find_archives(root):
        return archives
    if not has_others:
        return ()
    known = root.named(*ANNOTATION_FOLDERS, *LIST_FOLDERS)
    folders = [Source("images", root.at(name)) for name in root.folders if name not in known]
    return (*folders, *([Source("images", root.url, "files")] if root.has_other_files else []))


def _find_archives(root: RootFolder) -> tuple[Source, ...]:
    zips: list[str] = []
    tars: dict[str, list[str]] = {}
    for name in root.archives:
        if _IMAGE_ARCHIVE.fullmatch(name):
            if whole := split_tar_name(name):
                tars.setdefault(whole[0], []).append(root.at(name))
            else:
                zips.append(root.at(name))
    return (
        *(Source("images", url, "zip") for url in zips),
        *(Source("images", parts[0], "tar", parts) for parts in map(check_parts, tars.values())),
    )


def _find_annotations(root: RootFolder) -> tuple[Source, ...]:
    for name in root.named(*ANNOTATION_FOLDERS):
        return (Source("annotations", root.at(name)),)
    by_split = find_by_split(root, "annotations", "annotation")
    zips = (Source("annotations", root.at(name), "zip") for name in root.named(*_ANNOTATION_ZIPS))
    return by_split or tuple(zips)


def _find_lists(root: RootFolder, with_names: bool) -> tuple[ListFile, ...]:
    for name in root.named(*LIST_FOLDERS, *_LIST_ZIPS):
        found = list_files_in(root.at(name), with_names=with_names)
        if found:
            return found
    return ()
