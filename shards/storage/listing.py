"""List files and folders on local disks and object stores."""

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.storage import object_stores
from shards.storage.files import base_name, filesystem, join_url, local_path, normalise_url


@dataclass(frozen=True, slots=True)
class FileInfo:
    """An entry of a listing."""

    url: str
    """An absolute path, or a URL with its scheme."""
    size_bytes: int
    """-1 for a link to a folder or a dangling link, which cannot be read."""


def list_files(root: str | Path) -> Iterator[FileInfo]:
    """Yield every file below `root`, in the store's order.

    Symbolic links to folders are not followed but listed, with size -1. A link to a file counts as that file.

    Raises:
        OSError: a folder cannot be listed.
    """
    path = local_path(root)
    if path is not None:
        yield from _list_local(str(path))
        return
    fs, inner = filesystem(root)
    with object_stores.plain_errors(str(root)):
        yield from _list_s3(fs, inner, str(root)) if object_stores.is_s3(fs) else _list_store(fs, inner, str(root))


def _list_s3(fs: Any, inner: str, root: str) -> Iterator[FileInfo]:
    for name, size_bytes in object_stores.list_s3(fs, inner):
        # Not join_url: names that differ in repeated slashes are different objects.
        yield FileInfo(f"{normalise_url(root).rstrip('/')}/{name}", size_bytes)


def _list_store(fs: Any, inner: str, root: str) -> Iterator[FileInfo]:
    folders = [inner.strip("/")]
    while folders:
        folder = folders.pop()
        # fsspec's walk() skips folders that cannot be listed.
        for info in fs.ls(folder, detail=True):
            name = info["name"].strip("/")
            if name == folder:
                continue  # the folder's own placeholder object
            if info["type"] == "directory":
                folders.append(name)
            else:
                # Joined to the root as given: stores return names with or without a leading slash.
                yield FileInfo(join_url(root, name.removeprefix(inner.strip("/"))), int(info["size"]))


def _list_local(folder: str) -> Iterator[FileInfo]:
    folders: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif _is_file(entry):
                try:
                    size = entry.stat().st_size
                except FileNotFoundError:
                    continue  # renamed or removed meanwhile
                yield FileInfo(entry.path, size)
            elif entry.is_symlink():
                yield FileInfo(entry.path, -1)
    for inner in sorted(folders):
        yield from _list_local(inner)


def list_folders(root: str | Path) -> list[str]:
    """Return the folders directly in `root`, sorted by name, without hidden ones (`.name`).

    Raises:
        OSError: it cannot be listed.
    """
    fs, inner = filesystem(root)
    names = (base_name(info["name"]) for info in fs.ls(inner, detail=True) if info["type"] == "directory")
    return [join_url(root, name) for name in sorted(names) if not name.startswith(".")]


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link to itself
            return False
        raise
