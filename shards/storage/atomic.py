"""Write files that are whole or absent."""

import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, cast

from fsspec.spec import AbstractBufferedFile

from shards.storage import object_stores
from shards.storage.direct_io import DirectWriter
from shards.storage.files import filesystem, list_files, local_path

TEMPORARY_SUFFIX = ".tmp"
_ABANDONED_AFTER_SECONDS = 24 * 3600


@contextmanager
def atomic_writer(url: str | Path) -> Iterator[IO[bytes]]:
    """Yield a file that appears under its name, whole, when the block ends, and not at all if it raises.

    A local file is written under a temporary name beside its own, synced and renamed. An object store
    shows an object only once its last part is sent; an error aborts the upload.
    """
    path = local_path(url)
    if path is None:
        with _upload(str(url)) as handle:
            yield handle
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(_temporary_name(path.name))
    try:
        with DirectWriter(temporary) as out:
            yield cast(IO[bytes], out)
            out.sync()
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def _upload(url: str) -> Iterator[IO[bytes]]:
    fs, inner = filesystem(url)
    with object_stores.plain_errors(url):
        handle = fs.open(inner, "wb")
        try:
            yield handle
            handle.close()
        except BaseException:
            # Where the store is out of reach the upload cannot be aborted either: `sweep_temporaries` does it later.
            with suppress(Exception):
                handle.discard()
            if isinstance(handle, AbstractBufferedFile):
                handle.closed = True  # or the garbage collector would close it, which means: send what is there
            raise


def write_bytes(url: str | Path, data: bytes) -> None:
    """Write a whole file in one piece: see `atomic_writer`."""
    with atomic_writer(url) as out:
        out.write(data)


def sweep_temporaries(root: str | Path) -> int:
    """Remove what killed writers left below `root`; return how many files (on S3: uploads) that were.

    A temporary file whose writer still lives, on this host or another, is left alone (on another host a
    writer counts as gone a day after its last write), so that two runs at once do not harm each other.
    """
    path = local_path(root)
    if path is None:
        fs, inner = filesystem(root)
        with object_stores.plain_errors(str(root)):
            return object_stores.abort_uploads(fs, inner, _ABANDONED_AFTER_SECONDS) if object_stores.is_s3(fs) else 0
    if not path.is_dir():
        return 0
    swept = 0
    for info in list_files(path):
        if _is_abandoned(Path(info.url)):
            Path(info.url).unlink(missing_ok=True)
            swept += 1
    return swept


def _temporary_name(name: str) -> str:
    # ".<name>.<host>.<pid>-<start>.<token>.tmp" tells a later sweep whether the writer lives. A container that starts
    # again has the same host name and process ids, so the process' start time stands there too.
    writer = f"{socket.gethostname().replace('.', '-')}.{os.getpid()}-{_start_of(os.getpid())}"
    return f".{name}.{writer}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"


def _start_of(pid: int) -> str:
    """Return when a process began, in clock ticks since boot; empty where it runs no more."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    state, *fields = stat.rpartition(")")[2].split()  # the name in parentheses before may hold spaces
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
