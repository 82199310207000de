"""Write files atomically: they appear whole or not at all."""

import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from fsspec.spec import AbstractBufferedFile

from shards.storage import disk, object_stores
from shards.storage.files import filesystem, local_path
from shards.storage.listing import list_files

TEMPORARY_SUFFIX = ".tmp"
_ABANDONED_AFTER_SECONDS = 24 * 3600


@contextmanager
def atomic_writer(url: str | Path) -> Iterator[IO[bytes]]:
    """Yield a file that appears under its name when the block ends, and not at all if it raises.

    A local file is written under a temporary name in the same folder, synced and renamed, and the folder is synced: it
    survives a power cut. An object appears when its upload is completed; an error aborts the upload.
    """
    path = local_path(url)
    if path is None:
        with _upload(str(url)) as handle:
            yield handle
        return
    _make_folders(path.parent)
    temporary = path.with_name(_temporary_name(path.name))
    try:
        with disk.create_file(temporary) as out:
            yield out
            disk.sync_file(out)
        disk.rename_file(temporary, path)
        disk.sync_folder(path.parent)
    except BaseException:
        with suppress(FileNotFoundError):
            disk.remove_file(temporary)
        raise


def _make_folders(path: Path) -> None:
    if not path.is_dir():
        _make_folders(path.parent)
        disk.make_folder(path)
        disk.sync_folder(path.parent)


@contextmanager
def _upload(url: str) -> Iterator[IO[bytes]]:
    fs, inner = filesystem(url)
    with object_stores.plain_errors(url):
        handle = fs.open(inner, "wb")
        try:
            yield handle
            handle.close()
        except BaseException:
            # If the store cannot be reached, `sweep_temporaries` aborts the upload later.
            with suppress(Exception):
                handle.discard()
            if isinstance(handle, AbstractBufferedFile):
                handle.closed = True  # else the garbage collector closes it, which completes the upload
            raise


def write_bytes(url: str | Path, data: bytes) -> None:
    """Write a whole file atomically."""
    with atomic_writer(url) as out:
        out.write(data)


def set_written_at(url: str | Path, seconds: float) -> None:
    """Set the time of a local file's last write, in seconds since 1970; a store keeps its own."""
    if (path := local_path(url)) is not None:
        disk.set_written_at(path, seconds)


def sweep_temporaries(root: str | Path) -> int:
    """Remove temporary files that killed writers left below `root`; return how many (on S3: uploads).

    The file of a running writer is left alone, so that concurrent runs do not disturb each other; a writer on another
    host counts as dead a day after its last write. The removals are on the disk when this returns: else a power cut
    could bring a file back into a dataset that was finished in the meantime.
    """
    path = local_path(root)
    if path is None:
        fs, inner = filesystem(root)
        with object_stores.plain_errors(str(root)):
            return object_stores.abort_uploads(fs, inner, _ABANDONED_AFTER_SECONDS) if object_stores.is_s3(fs) else 0
    if not path.is_dir():
        return 0
    abandoned = [Path(info.url) for info in list_files(path) if _is_abandoned(Path(info.url))]
    for temporary in abandoned:
        with suppress(FileNotFoundError):
            disk.remove_file(temporary)
    for folder in {temporary.parent for temporary in abandoned}:
        with suppress(FileNotFoundError):  # another run has removed it
            disk.sync_folder(folder)
    return len(abandoned)


def _temporary_name(name: str) -> str:
    # ".<name>.<host>.<pid>-<start>.<token>.tmp" lets a later sweep check whether the writer still runs. A restarted
    # container has the same host name and process ids, hence the start time.
    return f".{name}.{this_process()}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"


def this_process() -> str:
    """Return a name of this process: `<host>.<pid>-<start>`, without other dots."""
    return f"{socket.gethostname().replace('.', '-')}.{os.getpid()}-{_start_of(os.getpid())}"


def has_ended(process: str) -> bool:
    """Return whether a process named by `this_process` is known to have ended, or is this one."""
    host, _, number = process.partition(".")
    pid, _, start = number.partition("-")
    is_here = host == this_process().partition(".")[0] and pid.isdigit()
    return process == this_process() or (is_here and _start_of(int(pid)) != start)


def _start_of(pid: int) -> str:
    """Return when a process started, in clock ticks since boot; empty if it no longer runs."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    state, *fields = stat.rpartition(")")[2].split()  # the process name in parentheses may contain spaces
    return "" if state in "ZX" else fields[18]


def _is_abandoned(path: Path) -> bool:
    if not (path.name.startswith(".") and path.name.endswith(TEMPORARY_SUFFIX)):
        return False
    parts = path.name.removesuffix(TEMPORARY_SUFFIX).split(".")
    if len(parts) < 5 or not re.fullmatch(r"\d+-\d+", parts[-2]):
        return False
    if parts[-3] == socket.gethostname().replace(".", "-"):
        pid, _, start = parts[-2].partition("-")
        return _start_of(int(pid)) != start
    try:
        return time.time() - path.stat().st_mtime > _ABANDONED_AFTER_SECONDS
    except FileNotFoundError:
        return False
