"""Find the parts of a corpus, in the layout that is named or detected."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from shards import storage
from shards.corpus.description import Corpus, ListFile
from shards.corpus.layouts.folders import RootFolder, explain_archive, read_root
from shards.corpus.layouts.imagefolder import IMAGEFOLDER
from shards.corpus.layouts.images import IMAGES
from shards.corpus.layouts.layout import Contents, Layout, Parts
from shards.corpus.layouts.list_files import pick_lists
from shards.corpus.layouts.opixray import OPIXRAY
from shards.corpus.layouts.sixray import ANNOTATION_FOLDERS, LIST_FOLDERS, SIXRAY
from shards.corpus.layouts.voc import VOC

# `auto` tries the last one first: SIXRAY is recognized by the least.
LAYOUTS = {layout.name: layout for layout in (SIXRAY, OPIXRAY, VOC, IMAGEFOLDER, IMAGES)}
LAYOUT_CHOICES = ("auto", *LAYOUTS)


def find_corpus(url: str, layout: str, subset: str, parts: Parts | None = None) -> Corpus:
    """Find the parts of a corpus; `why` describes what was found.

    Raises:
        ValueError: the folder is missing, or a part that the layout or subset needs is.
    """
    root_url = storage.normalise_url(url)
    if not storage.is_folder(root_url):
        raise ValueError(f"corpus must be a folder, got none there ({root_url})")
    root = read_root(root_url)
    parts = parts or Parts()
    chosen, contents = _choose(root, layout, parts)
    lists = pick_lists(contents.lists, subset)
    _check(root, chosen, contents, lists, subset)
    builds_subset = subset != "all" and not lists
    if builds_subset:
        lists = pick_lists(contents.lists, "all")  # for their labels
    why = _describe(root_url, chosen, contents, lists)
    if builds_subset:
        why += f"; no list says who is in subset {subset}, so it is built by Section 3.1 of the paper"
    return Corpus(
        chosen.name,
        root_url,
        tuple(replace(source, zip_encoding=parts.zip_encoding) for source in (*contents.images, *contents.annotations)),
        lists,
        builds_subset,
        why,
        contents.class_folders,
        chosen.keeps_folders_in_keys,
    )


def _choose(root: RootFolder, name: str, parts: Parts) -> tuple[Layout, Contents]:
    if name != "auto":
        return LAYOUTS[name], LAYOUTS[name].find(root, parts)
    for layout in reversed(LAYOUTS.values()):
        contents = layout.detect(root, parts)
        if contents is not None:
            return layout, contents
    return IMAGES, IMAGES.find(root, parts)


def _check(root: RootFolder, layout: Layout, contents: Contents, lists: Sequence[ListFile], subset: str) -> None:
    if root.unreadable_archives and _lies_beside_nothing(root, contents):
        url = root.at(root.unreadable_archives[0])
        raise ValueError(f"images must be files, or in a zip or tar, got none but {url}; {explain_archive(url)}")
    if not contents.images:
        message = f"{layout.name} corpus must have {layout.expected}, got none ({root.url}); name it by --images"
        raise ValueError(message)
    if subset == "all":
        return
    if not layout.has_lists:
        raise ValueError(f"subset must be 'all' for a corpus without lists, got {subset!r} ({root.url})")
    if lists and not {"train", "test"} <= {item.split for item in lists}:
        names = ", ".join(sorted(item.uri for item in lists))
        raise ValueError(f"subset {subset!r} must have lists of train and test, got {names} alone ({root.url})")


def _lies_beside_nothing(root: RootFolder, contents: Contents) -> bool:
    """Return whether there are no images but what may be within the archives at the root."""
    if contents.images and any(source.url != root.url for source in contents.images):
        return False
    return not root.has_other_files and not set(root.folders) - {*ANNOTATION_FOLDERS, *LIST_FOLDERS}


def _describe(root_url: str, layout: Layout, contents: Contents, lists: Sequence[ListFile]) -> str:
    def names(items: Iterable[str]) -> str:
        short = [item.removeprefix(root_url).strip("/") or "the folder itself" for item in items]
        return f"{short[0]} to {short[-1]} ({len(short)})" if len(short) > 6 else ", ".join(short) or "none"

    images = names(url for source in contents.images for url in source.parts or (source.url,))
    text = f"layout {layout.name}: images in {images}"
    if not layout.has_lists:
        return f"{text}; {contents.remark}"
    annotations = names(source.url for source in contents.annotations)
    return f"{text}; annotations in {annotations}; lists {names(item.member or item.url for item in lists)}"
