"""Where do bytes live? One layer over fsspec: listing, reading, and writes that are whole or absent."""

import errno
import hashlib
import io
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, cast

import fsspec
from fsspec.spec import AbstractBufferedFile

from shards.storage import object_stores
from shards.storage.direct_io import DirectWriter

TEMPORARY_SUFFIX = ".tmp"
_ABANDONED_AFTER_SECONDS = 24 * 3600
_READ_AHEAD_BYTES = 8 * 1024 * 1024
"""Of a remote file that is read from front to back: a request each."""
_READ_BUFFER_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file as a listing shows it."""

    url: str
    """What every function here takes: an absolute path, or a URL with its scheme."""
    size_bytes: int
    """-1 for a link to a folder or to nothing: it is there, yet there is no file to read."""


def normalise_url(url: str | Path) -> str:
    """Return an absolute local path for local files, the URL without a trailing slash for all else."""
    text = str(url)
    if text.startswith("/") and "/." not in text and "//" not in text:
        return text.rstrip("/") or "/"  # already absolute: the case of every scan of a local corpus
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    if "://" in text:
        return text.rstrip("/")
    return os.path.abspath(Path(text).expanduser())  # noqa: PTH100 (resolve() would follow symlinks)


def local_path(url: str | Path) -> Path | None:
    """Return the path of a local file or folder, None for a URL of any other store."""
    name = _local_name(url)
    return None if name is None else Path(name)


def _local_name(url: str | Path) -> str | None:
    # A name, not a Path: made and read back for each of a million files, one takes longer than its system calls.
    text = normalise_url(url)
    return None if "://" in text else text


def as_uri(url: str) -> str:
    """Return `url` with its scheme, `file://` for local paths: the form of `source_uri` columns."""
    text = normalise_url(url)
    return object_stores.mask_secrets(text) if "://" in text else f"file://{text}"


def join_url(root: str | Path, *parts: str) -> str:
    """Return `root` and `parts` joined by single slashes."""
    return "/".join([normalise_url(root).rstrip("/"), *(part.strip("/") for part in parts)])


def base_name(url: str) -> str:
    """Return what follows the last slash."""
    return url.rstrip("/").rpartition("/")[2]


def filesystem(url: str | Path) -> tuple[Any, str]:
    """Return the fsspec file system of a URL and the path within it."""
    text = normalise_url(url)
    # With more than one range at a time s3fs asks for the size first: two requests a scan instead of one.
    options = {"max_concurrency": 1} if text.startswith(("s3://", "s3a://")) else {}
    fs, path = fsspec.core.url_to_fs(text, use_listings_cache=False, **options)
    return fs, path


def check_url(url: str | Path) -> None:
    """Raise ValueError where a URL holds credentials: it would stand in manifests and logs."""
    object_stores.check_url(normalise_url(url))


def exists(url: str | Path) -> bool:
    """Say whether a file or folder is there; OSError where the store does not answer."""
    return _kind_of(url) is not None


def is_folder(url: str | Path) -> bool:
    """Say whether there is a folder (on an object store: any object below the prefix)."""
    return _kind_of(url) == "directory"


def _kind_of(url: str | Path) -> str | None:
    if (local := local_path(url)) is not None:
        return "directory" if local.is_dir() else "file" if local.exists() else None
    # Not fsspec's exists() and isdir(): they take a store that does not answer for one without the file.
    fs, path = filesystem(url)
    try:
        with object_stores.plain_errors(str(url)):
            return str(fs.info(path)["type"])
    except FileNotFoundError:
        return None


def read_bytes(url: str | Path) -> bytes:
    """Return a whole file."""
    if (name := _local_name(url)) is not None:
        with io.FileIO(name) as handle:  # no buffer between: a file is read in one call
            return handle.readall()
    fs, inner = filesystem(url)
    with object_stores.plain_errors(str(url)):
        return bytes(fs.cat_file(inner))


def read_range(url: str | Path, offset_bytes: int, size_bytes: int) -> bytes:
    """Return `size_bytes` of a file from `offset_bytes` on, fewer only where the file ends."""
    if (name := _local_name(url)) is not None:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        pieces = []
        try:  # a call gives 2 GiB at most
            while size_bytes > 0 and (piece := os.pread(descriptor, size_bytes, offset_bytes)):
                pieces.append(piece)
                offset_bytes, size_bytes = offset_bytes + len(piece), size_bytes - len(piece)
        finally:
            os.close(descriptor)
        return b"".join(pieces)
    fs, inner = filesystem(url)
    with object_stores.plain_errors(str(url)):
        try:
            return bytes(fs.cat_file(inner, start=offset_bytes, end=offset_bytes + size_bytes))
        except OSError as error:
            if error.errno == errno.EINVAL and fs.size(inner) <= offset_bytes:
                return b""  # what a disk gives from beyond the end
            raise


def open_reader(url: str | Path) -> IO[bytes]:
    """Return a file opened for reading from the start."""
    if (path := local_path(url)) is not None:
        return path.open("rb")
    fs, inner = filesystem(url)
    with object_stores.plain_errors(str(url)):
        handle = fs.open(inner, "rb", block_size=_READ_AHEAD_BYTES)
    return io.BufferedReader(object_stores.StoreReader(handle, str(url)), _READ_BUFFER_BYTES)


def sha256_of(url: str | Path) -> str:
    """Return the sha256 of a whole file in hex, read piece by piece."""
    with open_reader(url) as handle:
        digest = hashlib.sha256()
        while piece := handle.read(1024 * 1024):
            digest.update(piece)
    return digest.hexdigest()


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


def remove(url: str | Path) -> None:
    """Remove a file; nothing happens where there is none."""
    fs, path = filesystem(url)
    with suppress(FileNotFoundError), object_stores.plain_errors(str(url)):
        fs.rm_file(path)


def remove_tree(url: str | Path) -> None:
    """Remove a folder and all below it; nothing happens where there is none."""
    fs, path = filesystem(url)
    with suppress(FileNotFoundError), object_stores.plain_errors(str(url)):
        fs.rm(path, recursive=True)


def list_files(root: str | Path) -> Iterator[FileInfo]:
    """Yield every file below `root`, one at a time, in the order the store gives them.

    Symbolic links to folders are not followed, so a loop of them ends: such a link is listed itself, with size -1.
    A link to a file counts as that file.

    Raises:
        OSError: a folder cannot be listed: files that nobody saw must not count as absent.
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
        # Not join_url: a name with two slashes in a row is another object than one with one.
        yield FileInfo(f"{normalise_url(root).rstrip('/')}/{name}", size_bytes)


def _list_store(fs: Any, inner: str, root: str) -> Iterator[FileInfo]:
    folders = [inner.strip("/")]
    while folders:
        folder = folders.pop()
        # Not fsspec's walk(): it passes over inner folders that cannot be listed.
        for info in fs.ls(folder, detail=True):
            name = info["name"].strip("/")
            if name == folder:
                continue  # an object that stands for the folder itself
            if info["type"] == "directory":
                folders.append(name)
            else:
                # Joined to the caller's own spelling of the root: stores spell names with or without a first slash.
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
                    continue  # another job has renamed or removed it since
                yield FileInfo(entry.path, size)
            elif entry.is_symlink():
                yield FileInfo(entry.path, -1)
    for inner in sorted(folders):
        yield from _list_local(inner)


def list_folders(root: str | Path) -> list[str]:
    """Return the folders that lie directly in `root`, by name; hidden ones (`.name`) are left out.

    Raises:
        OSError: it cannot be listed.
    """
    fs, inner = filesystem(root)
    names = (base_name(info["name"]) for info in fs.ls(inner, detail=True) if info["type"] == "directory")
    return [join_url(root, name) for name in sorted(names) if not name.startswith(".")]


def modified_at(url: str | Path) -> datetime | None:
    """Return when a file was last written, by its store's clock; None where there is no such file."""
    fs, path = filesystem(url)
    try:
        found: datetime = fs.modified(path)
    except FileNotFoundError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link that leads to itself
            return False
        raise


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
    for info in _list_local(str(path)):
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
