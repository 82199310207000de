"""Look into the folder of a corpus: its parts by their names, its splits, its label lists."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from shards import storage
from shards.corpus.archives import list_zip
from shards.corpus.description import LISTS_IN_ORDER, ListFile, Source, is_junk
from shards.corpus.streams.tars import check_parts, split_tar_name

SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "eval": "test"}
"""The split of each name that lists and folders go by; `eval` is what some loaders call SIXray's test lists."""

_OTHER_ARCHIVE = re.compile(r".+\.((zip|7z|rar)(\.\d{3})?|r\d\d|z\d\d|lzma|lz4|lzo?|z|arj|cab|ace|iso)", re.IGNORECASE)

Kind = Literal["images", "annotations"]
_LIST_NAME = re.compile(r"(?:train_test_)?(?P<subset>10|100|1000)(?:-\d+)?")


@dataclass(frozen=True, slots=True)
class RootFolder:
    """The first level of a corpus."""

    url: str
    folders: tuple[str, ...]
    archives: tuple[str, ...]
    unreadable_archives: tuple[str, ...]
    """Of formats that cannot be read in place."""
    has_other_files: bool
    """Their names are not kept: a flat corpus has a million."""

    def at(self, *names: str) -> str:
        """Return the URL of something below the folder."""
        return storage.join_url(self.url, *names)

    def named(self, *names: str) -> list[str]:
        """Return the folders and archives of these names, in the order of the names; case is ignored."""
        entries = (*self.folders, *self.archives)
        return [entry for name in names for entry in entries if entry.lower() == name.lower()]


def read_root(url: str) -> RootFolder:
    """List the first level of a corpus."""
    folders: list[str] = []
    archives: list[str] = []
    unreadable: list[str] = []
    has_other_files = False
    for name, is_folder in list_names(url):
        if is_junk(f"{name}/" if is_folder else name):
            continue
        if is_folder:
            folders.append(name)
        elif is_archive(name):
            archives.append(name)
        elif _OTHER_ARCHIVE.fullmatch(name):
            unreadable.append(name)
        else:
            has_other_files = True
    return RootFolder(url, tuple(sorted(folders)), tuple(sorted(archives)), tuple(sorted(unreadable)), has_other_files)


def is_any_archive(name: str) -> bool:
    """Return whether a file is an archive or a part of one, whether it can be read in place or not."""
    return is_archive(name) or _OTHER_ARCHIVE.fullmatch(name) is not None


def is_archive(name: str) -> bool:
    """Return whether a file is an archive that can be read in place, or a part of one."""
    return name.lower().endswith(".zip") or split_tar_name(name) is not None


def explain_archive(url: str) -> str:
    """Return how to unpack an archive that cannot be read in place."""
    name = storage.base_name(url)
    if re.fullmatch(r".+\.zip\.\d{3}", name, re.IGNORECASE):
        return f"join the parts of {url}: cat {name[:-4]}.* > {name[:-4]}"
    if re.fullmatch(r".+\.z\d\d", name, re.IGNORECASE):
        return f"join the spanned zip: zip -s 0 {name[:-4]}.zip --out whole.zip"
    return f"it cannot be read in place: unpack it (7z x {url}) and name its folder by --images"


def list_names(folder: str) -> Iterator[tuple[str, bool]]:
    """Yield the name of each entry of a folder, and whether it is a folder itself."""
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


def find_by_split(root: RootFolder, kind: Kind, name: str) -> tuple[Source, ...]:
    """Return the folders `<split>/<name>` and `<split>/<name>s`."""
    return tuple(
        Source(kind, root.at(folder, found), split=SPLITS[folder])
        for folder in root.folders
        if folder in SPLITS
        for found in (name, f"{name}s")
        if storage.is_folder(root.at(folder, found))
    )


def source_at(kind: Kind, url: str) -> Source:
    """Return what the user named: a folder, a zip, a tar, or the common beginning of a split tar."""
    url = storage.normalise_url(url)
    if storage.is_folder(url):
        return Source(kind, url)
    if url.lower().endswith(".zip") and storage.exists(url):
        return Source(kind, url, "zip")
    folder, _, name = url.rpartition("/")
    if (whole := split_tar_name(name)) and kind == "images" and storage.is_folder(folder):
        names = sorted(found for found, is_folder in list_names(folder) if not is_folder)
        parts = [found for found in names if (split_tar_name(found) or ("",))[0] == whole[0]]
        if parts:
            ordered = check_parts([storage.join_url(folder, found) for found in parts])
            return Source("images", ordered[0], "tar", ordered)
    if _OTHER_ARCHIVE.fullmatch(name) and storage.exists(url):
        raise ValueError(f"{kind} must be a folder, .zip or tar, got {url}; {explain_archive(url)}")
    expected = "a folder, .zip, .tar or .tar.gz" if kind == "images" else "a folder or .zip"
    raise ValueError(f"{kind} must be {expected}, got none there ({url})")


def find_named_lists(urls: Sequence[str]) -> tuple[ListFile, ...]:
    """Return the lists in the folders, zips and files that the user named."""
    found = tuple(item for url in urls for item in list_files_in(storage.normalise_url(url), with_names=True))
    if not found:
        raise ValueError(
            f"lists must be a folder, zip or file with train.csv or test.csv, got none ({', '.join(urls)})"
        )
    return found


def list_files_in(url: str, *, with_names: bool) -> tuple[ListFile, ...]:
    """Return the lists below a folder, in a zip, or the one file; `with_names`: also VOC's lists without labels."""
    if url.lower().endswith(".zip"):
        pairs: Iterable[tuple[str, str]] = ((url, item.name) for item in list_zip(url))
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
    stem, _, end = name.lower().rpartition(".")
    if stem not in SPLITS or end not in ("csv", "tsv", *(["txt"] if with_names else [])):
        return None
    match = _LIST_NAME.fullmatch(folders[-1]) if folders else None
    subset = match["subset"] if match else ""
    return ListFile(url, subset, SPLITS[stem], member, has_labels=end != "txt")


def pick_lists(lists: Sequence[ListFile], subset: str) -> tuple[ListFile, ...]:
    """Return the lists that a subset reads: its own, or those that belong to no subset; `all` reads every one.

    If a list exists in two spellings, `10` and `train_test_10-5`, the plain one is read.
    """
    plain = {item.subset for item in lists if _is_plain(item)}
    wanted = {"all": (*LISTS_IN_ORDER, ""), "positives": ("10", "")}.get(subset, (subset, ""))
    return tuple(item for item in lists if item.subset in wanted and (_is_plain(item) or item.subset not in plain))


def _is_plain(item: ListFile) -> bool:
    return (item.member or item.url).split("/")[-2:-1] == [item.subset]
