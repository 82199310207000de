"""Describe the layout of ILSVRC2012 and of torchvision's `ImageFolder`: `<split>/<class>/…`, one class an image."""

import re
from collections.abc import Iterator, Sequence

from shards import storage
from shards.corpus.description import Corpus, Source, is_junk, make_key
from shards.corpus.facts import JUNK, Fact, ImageFact, ProblemFact, RowFact, SkippedFact
from shards.corpus.layouts.layout import Contents, Layout, Parts
from shards.corpus.tree.folders import SPLITS, RootFolder, list_names
from shards.corpus.tree.survey import Survey
from shards.format.classes import ClassSet

_WORDNET_ID = re.compile(r"n\d{8}")
"""The class folders of ILSVRC2012. Folders of other names may be anything: they are classes only on request."""


def _find(root: RootFolder, parts: Parts) -> Contents:
    if parts.annotations or parts.lists:
        named = ", ".join([*parts.annotations, *parts.lists])
        raise ValueError(f"class folders must come without annotations and lists, got {named} ({root.url})")
    urls = [storage.normalise_url(url) for url in parts.images]
    for url in urls:
        if storage.base_name(url) not in SPLITS or not storage.is_folder(url):
            raise ValueError(f"images must be the folder of a split, called one of {list(SPLITS)}, got {url}")
    urls = urls or [root.at(name) for name in root.folders if name in SPLITS]
    class_names = _find_class_folders(urls)
    return Contents(
        images=tuple(Source("images", url, split=SPLITS[storage.base_name(url)]) for url in urls),
        class_names=class_names,
        remark=f"the {len(class_names)} folders in them are the classes",
    )


def _find_class_folders(split_urls: Sequence[str]) -> tuple[str, ...]:
    found: set[str] = set()
    for url in split_urls:
        names = {name for name, is_folder in list_names(url) if is_folder and not is_junk(f"{name}/")}
        if not names:
            raise ValueError(
                f"the folder of a split must hold a folder a class, got none there ({url}); sort its images "
                f"into such folders (torchvision.datasets.ImageNet unpacks ILSVRC2012's validation images so), or name "
                f"the folders to take by --images"
            )
        found |= names
    return tuple(sorted(found))


def _detect(root: RootFolder, parts: Parts, _survey: Survey) -> Contents | None:
    has_wordnet_folders = any(
        is_folder and _WORDNET_ID.fullmatch(name)
        for split in root.folders
        if split in SPLITS
        for name, is_folder in list_names(root.at(split))
    )
    return _find(root, parts) if has_wordnet_folders else None


def list_class_folders(source: Source, _corpus: Corpus, classes: ClassSet, _drafts_url: str) -> Iterator[Fact]:
    """Yield an image and a row of labels, exactly one of them 1, for each image below the folder of a split.

    Its class is the first folder of its path, however deep it lies. Its key is the whole path including the split, so
    that files of one name in two splits or classes stay apart.
    """
    names = list(classes.scored)
    # One tuple a class, so that a pickled batch of facts holds each of them once.
    labels_of = {name: tuple(int(name == other) for other in names) for name in names}
    for info in storage.list_files(source.url):
        below = storage.path_below(info.url, source.url)
        folder = below.rpartition("/")[0].partition("/")[0]
        key = make_key(f"{storage.base_name(source.url)}/{below}", keeps_folders=True)
        class_name = classes.spellings.get(folder.lower())
        if is_junk(below):
            yield SkippedFact(key, info.url, JUNK)
        elif info.size_bytes < 0:
            yield ImageFact(key, info.url, info.size_bytes, source.split)
        elif class_name is None:
            detail = f"the class folder {folder!r} is none of the classes" if folder else "it lies in no class folder"
            yield ProblemFact(key, info.url, "unknown_class", detail, source.split)
        else:
            yield ImageFact(key, info.url, info.size_bytes, source.split)
            folder_url = storage.join_url(source.url, folder)
            yield RowFact(key, folder_url, 0, source.split, labels_of[class_name], "")


IMAGEFOLDER = Layout(
    name="imagefolder",
    expected=f"a folder {', '.join(SPLITS)}, and a folder a class in it",
    find=_find,
    detect=_detect,
    list_source=list_class_folders,
    has_lists=False,
    keeps_folders_in_keys=True,
)
