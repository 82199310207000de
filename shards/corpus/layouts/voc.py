"""Describe the layout of PASCAL VOC: the release's folders, or XML files beside images as labelImg writes them."""

from collections.abc import Iterator

from shards.corpus.description import Corpus, Source
from shards.corpus.facts import Fact
from shards.corpus.layouts.layout import Contents, Layout, Parts, list_files
from shards.corpus.layouts.sixray import IMAGE_FOLDERS, find_release, holds_xml, splits_by_folder
from shards.corpus.tree.folders import RootFolder
from shards.corpus.tree.survey import Survey, list_pairs
from shards.format.classes import ClassSet


def _find(root: RootFolder, parts: Parts) -> Contents:
    found = find_release(root, parts, with_names=True)
    survey = Survey(root.url)
    is_release = found.images and not splits_by_folder(found)
    return found if is_release or not survey.with_extension("xml") else _beside(root)


def _beside(root: RootFolder) -> Contents:
    return Contents(images=(Source("images", root.url),), keeps_folders_in_keys=True, remark="XML files beside images")


def _detect(root: RootFolder, parts: Parts, survey: Survey) -> Contents | None:
    found = find_release(root, parts, with_names=True)
    if found.images and any(map(holds_xml, found.annotations)) and not splits_by_folder(found):
        return found
    is_annotated = any(b"<annotation" in survey.read_start(path) for path in survey.with_extension("xml")[:3])
    return _beside(root) if is_annotated and survey.has_images and not (parts.images or parts.lists) else None


def _list_source(source: Source, corpus: Corpus, classes: ClassSet, drafts_url: str) -> Iterator[Fact]:
    if corpus.keeps_folders_in_keys:
        yield from list_pairs(source, "xml")
    else:
        yield from list_files(source, corpus, classes, drafts_url)


VOC = Layout(
    name="voc",
    expected=f"a folder {' or '.join(IMAGE_FOLDERS)}, or XML files beside images",
    find=_find,
    detect=_detect,
    list_source=_list_source,
    class_set="",
    has_any_classes=True,
    boxes_are_exhaustive=True,
)
