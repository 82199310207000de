"""List the folders of a corpus and turn them into sources."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from shards import storage
from shards.corpus import file_kinds
from shards.corpus.description import Source
from shards.corpus.streams.tars import check_parts, split_tar_name

SPLITS = {"train": "train", "val": "val", "test": "test", "eval": "test"}
"""The split of each name that lists and folders go by; `eval` is what some loaders call SIXray's test lists."""

_OTHER_ARCHIVE = re.compile(r".+\.((zip|7z|rar)(\.\d{3})?|r\d\d|z\d\d|lzma|arj|cab)", re.IGNORECASE)

Kind = Literal["images", "annotations"]


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
        if file_kinds.is_junk(f"{name}/" if is_folder else name):
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
