"""List the folders of a corpus and turn them into sources."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from shards import storage
from shards.corpus.archives import check_parts
from shards.corpus.description import Source

SPLITS = {"train": "train", "val": "val", "test": "test", "eval": "test"}
"""The split of each name that lists and folders go by; `eval` is what some loaders call SIXray's test lists."""

_ARCHIVE = re.compile(r".+\.(zip|(tar|tar\.gz|tgz)(\d\d)?)")

Kind = Literal["images", "annotations"]


@dataclass(frozen=True, slots=True)
class RootFolder:
    """The first level of a corpus."""

    url: str
    folders: tuple[str, ...]
    archives: tuple[str, ...]
    has_other_files: bool
    """Their names are not kept: a flat corpus has a million."""

    def at(self, *names: str) -> str:
        """Return the URL of something below the folder."""
        return storage.join_url(self.url, *names)


def read_root(url: str) -> RootFolder:
    """List the first level of a corpus."""
    folders: list[str] = []
    archives: list[str] = []
    has_other_files = False
    for name, is_folder in list_names(url):
        if is_folder:
            folders.append(name)
        elif _ARCHIVE.fullmatch(name):
            archives.append(name)
        else:
            has_other_files = True
    return RootFolder(url, tuple(sorted(folders)), tuple(sorted(archives)), has_other_files)


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
    if url.endswith(".zip") and storage.exists(url):
        return Source(kind, url, "zip")
    folder, _, name = url.rpartition("/")
    pattern = re.compile(rf"{re.escape(re.sub('[0-9][0-9]$', '', name))}(\d\d)?")
    if re.search(r"\.(tar|tar\.gz|tgz)\d*$", name) and kind == "images" and storage.is_folder(folder):
        names = sorted(found for found, is_folder in list_names(folder) if not is_folder)
        parts = [storage.join_url(folder, found) for found in names if pattern.fullmatch(found)]
        if parts:
            return Source("images", parts[0], "tar", check_parts(parts))
    expected = "a folder, .zip, .tar or .tar.gz" if kind == "images" else "a folder or .zip"
    raise ValueError(f"{kind} must be {expected}, got none there ({url})")
