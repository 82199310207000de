"""Which layout does a folder of scans have: where are its images, annotations and lists?

People keep SIXray in many ways: as the release unpacks, in numbered folders, in `positive` and `negative`, in
`{train,eval}/{image,annotation}`, or in the archives as they were downloaded. What is found is said, for a wrong guess
must be seen at once; what the user names outright is not guessed.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from shards import storage
from shards.corpus import archives as packed
from shards.corpus.description import LISTS_IN_ORDER, Corpus, Layout, ListFile, Source

_IMAGE_FOLDERS = ("JPEGImage", "JPEGImages")
_ANNOTATION_FOLDERS = ("Annotation", "Annotations")
_ANNOTATION_ZIPS = ("Annotation.zip", "Annotations.zip", "positive-Annotation.zip")
_LIST_FOLDERS = ("ImageSet", "ImageSets")
_LIST_ZIPS = ("ImageSet.zip", "ImageSets.zip")
_IMAGE_ARCHIVE = re.compile(r"(?P<name>JPEGImages?)\.(zip|(?P<tar>tar|tar\.gz|tgz)(?P<number>\d\d)?)")
_NUMBERED_FOLDER = re.compile(r"\d{1,2}")
_LIST_NAME = re.compile(r"(?:train_test_)?(?P<subset>10|100|1000)(?:-\d+)?")
_WORDNET_ID = re.compile(r"n\d{8}")
"""What ILSVRC2012's class folders are called. Folders of other names may be anything: classes only on request."""
_SPLITS = {"train": "train", "val": "val", "test": "test", "eval": "test"}
"""The split of each name that lists and folders go by; `eval` is what some loaders call SIXray's test lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the user names outright; empty where it is to be found."""

    images: tuple[str, ...] = ()
    annotations: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()


@dataclass(slots=True)
class _Root:
    """One level of the corpus' folder."""

    url: str
    folders: tuple[str, ...]
    files: tuple[str, ...]
    """Those whose names mean something here; a flat corpus has a million others."""
    has_other_files: bool

    def at(self, *names: str) -> str:
        return storage.join_url(self.url, *names)


def find_corpus(url: str, layout: str, subset: str, parts: Parts | None = None) -> Corpus:
    """Find the parts of a corpus; `why` says in words what was found.

    Raises:
        ValueError: the folder is missing, or a part that the layout or subset needs is.
    """
    root = storage.normalise_url(url)
    if not storage.is_folder(root):
        raise ValueError(f"corpus must be a folder, got none there ({root})")
    found = _look(root)
    parts = parts or Parts()
    chosen, sources, lists = _choose(found, layout, parts)
    picked = _pick_lists(lists, subset)
    class_folders = _find_class_folders(sources) if chosen == "imagefolder" else ()
    builds = subset != "all" and not picked
    if builds:
        picked = _pick_lists(lists, "all")  # for their labels
    _check(found, chosen, sources, () if builds else picked, subset)
    why = _describe(root, chosen, sources, picked)
    if class_folders:
        why += f"; the {len(class_folders)} folders in them are the classes"
    if builds:
        why += f"; no list says who is in subset {subset}, so it is built by Section 3.1 of the paper"
    return Corpus(chosen, root, sources, picked, builds, why, class_folders)


def _look(root: str) -> _Root:
    folders: list[str] = []
    files: list[str] = []
    has_other_files = False
    for name, is_folder in list_names(root):
        if is_folder:
            folders.append(name)
        elif _IMAGE_ARCHIVE.fullmatch(name) or name in (*_ANNOTATION_ZIPS, *_LIST_ZIPS):
            files.append(name)
        else:
            has_other_files = True
    return _Root(root, tuple(sorted(folders)), tuple(sorted(files)), has_other_files)


def _choose(root: _Root, layout: str, parts: Parts) -> tuple[Layout, tuple[Source, ...], tuple[ListFile, ...]]:
    if layout == "images":
        named = [_as_source("images", url) for url in parts.images]
        return "images", tuple(named or [Source("images", root.url)]), ()
    if layout == "opixray" or (layout == "auto" and _is_opixray(root)):
        return "opixray", _find_opixray(root), ()
    if layout == "imagefolder" or (layout == "auto" and _is_ilsvrc(root)):
        return "imagefolder", _find_split_folders(root, parts), ()
    lists = _find_named_lists(parts.lists) if parts.lists else _find_lists(root, layout)
    annotations = [_as_source("annotations", url) for url in parts.annotations] or _find_annotations(root)
    images = [_as_source("images", url) for url in parts.images] or _find_images(root, bool(annotations or lists))
    says_more = bool(annotations or lists or any(item.presence or item.form in ("tar", "zip") for item in images))
    if layout == "auto" and not (images and says_more):
        return "images", (Source("images", root.url),), ()
    return "voc" if layout == "voc" else "sixray", (*images, *annotations), lists


def _is_opixray(root: _Root) -> bool:
    return any(storage.is_folder(root.at(split, f"{split}_image")) for split in ("train", "test"))


def _find_opixray(root: _Root) -> tuple[Source, ...]:
    wanted = [("images", "image"), ("annotations", "annotation")]
    return tuple(
        Source(kind, root.at(split, f"{split}_{name}"), split=split)  # type: ignore[arg-type]
        for kind, name in wanted
        for split in ("train", "test")
        if storage.is_folder(root.at(split, f"{split}_{name}"))
    )


def _is_ilsvrc(root: _Root) -> bool:
    return any(
        is_folder and _WORDNET_ID.fullmatch(name)
        for split in root.folders
        if split in _SPLITS
        for name, is_folder in list_names(root.at(split))
    )


def _find_split_folders(root: _Root, parts: Parts) -> tuple[Source, ...]:
    if parts.annotations or parts.lists:
        named = ", ".join([*parts.annotations, *parts.lists])
        raise ValueError(f"class folders must come without annotations and lists, got {named} ({root.url})")
    urls = [storage.normalise_url(url) for url in parts.images]
    for url in urls:
        if storage.base_name(url) not in _SPLITS or not storage.is_folder(url):
            raise ValueError(f"images must be the folder of a split, called one of {list(_SPLITS)}, got {url}")
    urls = urls or [root.at(name) for name in root.folders if name in _SPLITS]
    return tuple(Source("images", url, split=_SPLITS[storage.base_name(url)]) for url in urls)


def _find_class_folders(sources: Sequence[Source]) -> tuple[str, ...]:
    found: set[str] = set()
    for source in sources:
        names = {name for name, is_folder in list_names(source.url) if is_folder}
        if not names:
            raise ValueError(
                f"the folder of a split must hold a folder a class, got none there ({source.url}); sort its images "
                f"into such folders (torchvision.datasets.ImageNet unpacks ILSVRC2012's validation images so), or name "
                f"the folders to take by --images"
            )
        found |= names
    return tuple(sorted(found))


def _find_images(root: _Root, has_others: bool) -> list[Source]:
    """Return the image folders: by the release's names, by split, by number or presence, packed, or any at the root."""
    for name in _IMAGE_FOLDERS:
        if name in root.folders:
            return [Source("images", root.at(name))]
    if by_split := _find_by_split(root, "images", "image"):
        return by_split
    numbered = [name for name in root.folders if _NUMBERED_FOLDER.fullmatch(name)]
    if {"positive", "negative"} <= set(root.folders) or (numbered and "Image" in root.folders):
        names = [*numbered, *(name for name in ("Image", "positive", "negative") if name in root.folders)]
        return [
            Source("images", root.at(name), presence=name if name in ("positive", "negative") else "")  # type: ignore[arg-type]
            for name in names
        ]
    if archives := _find_archives(root):
        return archives
    if not has_others:
        return []
    known = {*_ANNOTATION_FOLDERS, *_LIST_FOLDERS}
    folders = [Source("images", root.at(name)) for name in root.folders if name not in known]
    return [*folders, *([Source("images", root.url, "files")] if root.has_other_files else [])]


def _find_by_split(root: _Root, kind: str, name: str) -> list[Source]:
    return [
        Source(kind, root.at(folder, found), split=_SPLITS[folder])  # type: ignore[arg-type]
        for folder in root.folders
        if folder in _SPLITS
        for found in (name, f"{name}s")
        if storage.is_folder(root.at(folder, found))
    ]


def _find_archives(root: _Root) -> list[Source]:
    zips = [name for name in root.files if _IMAGE_ARCHIVE.fullmatch(name) and name.endswith(".zip")]
    tars = [name for name in root.files if _IMAGE_ARCHIVE.fullmatch(name) and not name.endswith(".zip")]
    groups: dict[str, list[str]] = {}
    for name in tars:
        groups.setdefault(re.sub(r"\d\d$", "", name), []).append(root.at(name))
    return [
        *(Source("images", root.at(name), "zip") for name in zips),
        *(Source("images", urls[0], "tar", packed.check_parts(urls)) for urls in groups.values()),
    ]


def _find_annotations(root: _Root) -> list[Source]:
    for name in _ANNOTATION_FOLDERS:
        if name in root.folders:
            return [Source("annotations", root.at(name))]
    by_split = _find_by_split(root, "annotations", "annotation")
    return by_split or [Source("annotations", root.at(name), "zip") for name in root.files if name in _ANNOTATION_ZIPS]


def _find_lists(root: _Root, layout: str) -> tuple[ListFile, ...]:
    for name in (*_LIST_FOLDERS, *_LIST_ZIPS):
        if name in root.folders or name in root.files:
            found = _lists_in(root.at(name), with_names=layout == "voc")
            if found:
                return found
    return ()


def _find_named_lists(urls: Sequence[str]) -> tuple[ListFile, ...]:
    found = tuple(item for url in urls for item in _lists_in(storage.normalise_url(url), with_names=True))
    if not found:
        raise ValueError(
            f"lists must be a folder, zip or file with train.csv or test.csv, got none ({', '.join(urls)})"
        )
    return found


def _lists_in(url: str, *, with_names: bool) -> tuple[ListFile, ...]:
    """Return the lists below a folder, in a zip, or the one file; `with_names`: VOC's lists of names alone too."""
    if url.endswith(".zip"):
        pairs: Iterable[tuple[str, str]] = ((url, item.name) for item in packed.list_zip(url))
    elif storage.is_folder(url):
        pairs = ((info.url, "") for info in storage.list_files(url))
    else:
        pairs = [(url, "")] if storage.exists(url) else []
    found = [_as_list(file, member, with_names) for file, member in pairs]
    return tuple(sorted((item for item in found if item is not None), key=_list_order))


def _list_order(item: ListFile) -> tuple[int, str, str]:
    order = [*LISTS_IN_ORDER, ""]
    return order.index(item.subset), item.split, item.uri


def _as_list(url: str, member: str, with_names: bool) -> ListFile | None:
    *folders, name = (member or url).split("/")
    stem, _, end = name.rpartition(".")
    if stem not in _SPLITS or end not in (("csv", "txt") if with_names else ("csv",)):
        return None
    match = _LIST_NAME.fullmatch(folders[-1]) if folders else None
    subset = match["subset"] if match else ""
    return ListFile(url, subset, _SPLITS[stem], member, has_labels=end == "csv")


def _pick_lists(lists: tuple[ListFile, ...], subset: str) -> tuple[ListFile, ...]:
    """Return the lists that a subset reads: its own, or those that belong to no subset; `all` reads every one.

    Of two spellings of one list, `10` and `train_test_10-5`, the plain one counts.
    """
    plain = {item.subset for item in lists if (item.member or item.url).split("/")[-2:-1] == [item.subset]}
    kept = [
        item
        for item in lists
        if item.subset not in plain or (item.member or item.url).split("/")[-2:-1] == [item.subset]
    ]
    wanted = {"all": (*LISTS_IN_ORDER, ""), "positives": ("10", "")}.get(subset, (subset, ""))
    return tuple(item for item in kept if item.subset in wanted)


def _as_source(kind: str, url: str) -> Source:
    """Return what a path that the user names is: a folder, a zip, a tar, or the common beginning of a split tar."""
    url = storage.normalise_url(url)
    if storage.is_folder(url):
        return Source(kind, url)  # type: ignore[arg-type]
    if url.endswith(".zip") and storage.exists(url):
        return Source(kind, url, "zip")  # type: ignore[arg-type]
    folder, _, name = url.rpartition("/")
    pattern = re.compile(rf"{re.escape(re.sub('[0-9][0-9]$', '', name))}(\d\d)?")
    if re.search(r"\.(tar|tar\.gz|tgz)\d*$", name) and kind == "images" and storage.is_folder(folder):
        names = sorted(found for found, is_folder in list_names(folder) if not is_folder)
        parts = [storage.join_url(folder, found) for found in names if pattern.fullmatch(found)]
        if parts:
            return Source("images", parts[0], "tar", packed.check_parts(parts))
    expected = "a folder, .zip, .tar or .tar.gz" if kind == "images" else "a folder or .zip"
    raise ValueError(f"{kind} must be {expected}, got none there ({url})")


def _check(root: _Root, layout: str, sources: Sequence[Source], lists: Sequence[ListFile], subset: str) -> None:
    if not any(source.kind == "images" for source in sources):
        expected = {
            "opixray": "folders train/train_image or test/test_image",
            "imagefolder": f"a folder {', '.join(_SPLITS)}, and a folder a class in it",
            "voc": f"a folder {' or '.join(_IMAGE_FOLDERS)}",
            "sixray": f"a folder {' or '.join(_IMAGE_FOLDERS)}, or one of the other places that the README names",
        }[layout]
        raise ValueError(f"{layout} corpus must have {expected}, got none ({root.url}); name it by --images")
    if subset == "all":
        return
    if layout in ("images", "imagefolder"):
        raise ValueError(f"subset must be 'all' for a corpus without lists, got {subset!r} ({root.url})")
    splits = {item.split for item in lists}
    if lists and not {"train", "test"} <= splits:
        names = ", ".join(sorted(item.uri for item in lists))
        raise ValueError(f"subset {subset!r} must have lists of train and test, got {names} alone ({root.url})")


def _describe(root: str, layout: str, sources: Sequence[Source], lists: Sequence[ListFile]) -> str:
    def names(items: Iterable[str]) -> str:
        short = [item.removeprefix(root).strip("/") or "the folder itself" for item in items]
        return f"{short[0]} to {short[-1]} ({len(short)})" if len(short) > 6 else ", ".join(short) or "none"

    images = [source.parts or (source.url,) for source in sources if source.kind == "images"]
    annotations = [source.url for source in sources if source.kind == "annotations"]
    listed = [item.member or item.url for item in lists]
    text = f"layout {layout}: images in {names(url for urls in images for url in urls)}"
    if layout == "imagefolder":
        return text
    if layout == "images":
        return f"{text}; neither annotations nor lists are beside them, so labels stay unknown"
    return f"{text}; annotations in {names(annotations)}; lists {names(listed)}"


def list_names(folder: str) -> Iterator[tuple[str, bool]]:
    """Yield the name of everything right in a folder, and whether it is a folder itself."""
    path = storage.local_path(folder)
    if path is not None:
        with os.scandir(path) as entries:
            yield from ((entry.name, entry.is_dir()) for entry in entries)
        return
    fs, inner = storage.filesystem(folder)
    for info in fs.ls(inner, detail=True):
        name = info["name"].rstrip("/")
        if name.strip("/") != inner.strip("/"):
            yield storage.base_name(name), info["type"] == "directory"
