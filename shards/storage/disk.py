"""Change the local disk, so that what was done survives a power cut: files are synced, and folders with their names.

All changes of local files go through these functions; `tests.simulation` cuts the power between any two of them.
"""

import os
import shutil
from pathlib import Path
from typing import IO, cast

from shards.storage.direct_io import DirectWriter


def create_file(path: Path) -> IO[bytes]:
    """Open a new file for writing; its full blocks are on their way to the disk while more are written."""
    return cast(IO[bytes], DirectWriter(path))


def sync_file(handle: IO[bytes]) -> None:
    """Wait until the content of a file is on the disk."""
    handle.flush()
    os.fdatasync(handle.fileno())


def rename_file(source: Path, target: Path) -> None:
    """Rename a file within its folder, in place of an existing one."""
    source.replace(target)


def set_written_at(path: Path, seconds: float) -> None:
    """Set the time of a file's last write, in seconds since 1970; a power cut may undo it."""
    os.utime(path, (seconds, seconds))


def remove_file(path: Path) -> None:
    """Remove a file; FileNotFoundError if it is not there."""
    path.unlink()


def remove_tree(path: Path) -> None:
    """Remove a folder with everything below it, or a file; FileNotFoundError if it is not there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def make_folder(path: Path) -> None:
    """Make a folder, whose parent is there."""
    path.mkdir(exist_ok=True)


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk: until then a rename or a removal may be undone."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
