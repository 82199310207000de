"""Read and remove files on local disks and object stores, through one layer over fsspec."""

import errno
import hashlib
import io
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import fsspec

from shards.storage import disk, object_stores

_READ_AHEAD_BYTES = 8 * 1024 * 1024
"""Size of the requests when a remote file is read sequentially."""
_READ_BUFFER_BYTES = 1024 * 1024


def normalise_url(url: str | Path) -> str:
    """Return an absolute local path for local files, the URL without a trailing slash for all else."""
    text = str(url)
    if text.startswith("/") and "/." not in text and "//" not in text:
        return text.rstrip("/") or "/"  # fast path: every scan of a local corpus
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    if "://" in text:
        return text.rstrip("/")
    return os.path.abspath(Path(text).expanduser())  # noqa: PTH100 (resolve() would follow symlinks)


def local_path(url: str | Path) -> Path | None:
    """Return the path of a local file or folder, None for a remote URL."""
    name = _local_name(url)
    return None if name is None else Path(name)


def _local_name(url: str | Path) -> str | None:
    # A str, not a Path: creating one for each of a million files takes longer than the system calls.
    text = normalise_url(url)
    return None if "://" in text else text


def as_uri(url: str) -> str:
    """Return `url` with its scheme, `file://` for local paths: the form of `source_uri` columns."""
    text = normalise_url(url)
    return object_stores.mask_secrets(text) if "://" in text else f"file://{text}"


def join_url(root: str | Path, *parts: str) -> str:
    """Return `root` and `parts` joined by single slashes."""
    return "/".join([normalise_url(root).rstrip("/"), *(part.strip("/") for part in parts)])


def path_below(url: str, folder: str) -> str:
    """Return the path of a file below a folder, empty if it is the folder itself; the whole path if it is not below it.

    Both as `normalise_url` returns them.
    """
    return f"{url}/".removeprefix(f"{folder.rstrip('/')}/").strip("/")


def base_name(url: str) -> str:
    """Return what follows the last slash."""
    return url.rstrip("/").rpartition("/")[2]


def filesystem(url: str | Path) -> tuple[Any, str]:
    """Return the fsspec file system of a URL and the path within it."""
    text = normalise_url(url)
    # With more concurrency s3fs asks for the size first: two requests per scan instead of one.
    options = {"max_concurrency": 1} if text.startswith(("s3://", "s3a://")) else {}
    if text.startswith(("http://", "https://")):
        raise ValueError(
            f"URL must be a local path or of a store that can list its files (s3://, gs://), got "
            f"{object_stores.mask_secrets(text)}; download it first"
        )
    try:
        fs, path = fsspec.core.url_to_fs(text, use_listings_cache=False, **options)
    except ImportError as error:
        raise ValueError(
            f"storage of {text.partition(':')[0]}:// must have its library installed, got none "
            f"({object_stores.mask_secrets(text)}): {error}"
        ) from error
    return fs, path


def last_change(url: str | Path, *, with_folders: bool = True) -> float | None:
    """Return when a local file, or anything in a local folder, was last changed; None for a store or if absent.

    The time of the last change of the inode, so that a file which was replaced by an older one counts too. With the
    folders themselves a file that was removed counts.
    """
    if (name := _local_name(url)) is None or not os.path.lexists(name):
        return None
    if not Path(name).is_dir():
        return Path(name).stat().st_ctime
    newest = 0.0
    for folder, _, files in os.walk(name):
        folders = [folder] if with_folders else []
        for path in (*folders, *(f"{folder}/{file}" for file in files)):
            newest = max(newest, os.lstat(path).st_ctime)
    return newest


def check_url(url: str | Path) -> None:
    """Raise ValueError if a URL holds credentials, which would end up in manifests and logs."""
    object_stores.check_url(normalise_url(url))


def exists(url: str | Path) -> bool:
    """Return whether a file or folder exists; OSError if the store does not answer."""
    return _kind_of(url) is not None


def is_folder(url: str | Path) -> bool:
    """Return whether a folder exists (on an object store: any object below the prefix)."""
    return _kind_of(url) == "directory"


def _kind_of(url: str | Path) -> str | None:
    if (local := local_path(url)) is not None:
        return "directory" if local.is_dir() else "file" if local.exists() else None
    # fsspec's exists() and isdir() return False if the store does not answer.
    fs, path = filesystem(url)
    try:
        with object_stores.plain_errors(str(url)):
            return str(fs.info(path)["type"])
    except FileNotFoundError:
        return None


def read_bytes(url: str | Path) -> bytes:
    """Return a whole file."""
    if (name := _local_name(url)) is not None:
        with io.FileIO(name) as handle:  # unbuffered: one read call per file
            return handle.readall()
    fs, inner = filesystem(url)
    with object_stores.plain_errors(str(url)):
        return bytes(fs.cat_file(inner))


def read_range(url: str | Path, offset_bytes: int, size_bytes: int) -> bytes:
    """Return `size_bytes` of a file from `offset_bytes` on, fewer only at the end of the file."""
    if (name := _local_name(url)) is not None:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        pieces = []
        try:  # one call returns at most 2 GiB
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
                return b""  # as on a disk
            raise


def read_range_into(path: str, offset_bytes: int, buffer: memoryview) -> int:
    """Fill a buffer from a local file, from `offset_bytes` on; return how many bytes there were for it."""
    num_bytes = 0
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:  # one call reads at most 2 GiB
        while num_bytes < len(buffer) and (
            num := os.preadv(descriptor, [buffer[num_bytes:]], offset_bytes + num_bytes)
        ):
            num_bytes += num
    finally:
        os.close(descriptor)
    return num_bytes


def open_reader(url: str | Path) -> IO[bytes]:
    """Return a file opened for reading from the start."""
    if (path := local_path(url)) is not None:
        return path.open("rb")
    fs, inner = filesystem(url)
    with object_stores.plain_errors(str(url)):
        handle = fs.open(inner, "rb", block_size=_READ_AHEAD_BYTES)
    return io.BufferedReader(object_stores.StoreReader(handle, str(url)), _READ_BUFFER_BYTES)


def sha256_of(url: str | Path) -> str:
    """Return the sha256 of a whole file in hex, read in pieces."""
    with open_reader(url) as handle:
        digest = hashlib.sha256()
        while piece := handle.read(1024 * 1024):
            digest.update(piece)
    return digest.hexdigest()


def remove(url: str | Path) -> None:
    """Remove a file if it exists; the removal survives a power cut."""
    if (local := local_path(url)) is not None:
        with suppress(FileNotFoundError):
            disk.remove_file(local)
            disk.sync_folder(local.parent)
        return
    fs, path = filesystem(url)
    with suppress(FileNotFoundError), object_stores.plain_errors(str(url)):
        fs.rm_file(path)


def remove_tree(url: str | Path) -> None:
    """Remove a folder and everything below it, if it exists."""
    if (local := local_path(url)) is not None:
        with suppress(FileNotFoundError):
            disk.remove_tree(local)
            disk.sync_folder(local.parent)
        return
    fs, path = filesystem(url)
    with suppress(FileNotFoundError), object_stores.plain_errors(str(url)):
        fs.rm(path, recursive=True)


def written_at(url: str | Path) -> datetime | None:
    """Return when a file was last written, by the store's clock; None if it does not exist.

    On a disk programs may set this time: `rsync -a` and `cp -p` set it to that of the original.
    """
    fs, path = filesystem(url)
    try:
        with object_stores.plain_errors(str(url)):
            found: datetime = fs.modified(path)
    except FileNotFoundError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def arrived_at(url: str | Path) -> datetime | None:
    """Return when a file came to be as it is, by the store's clock; None if it does not exist.

    On a disk the later of its last write and the last change of its inode, which no program sets back: a file that
    `rsync -a` brings with an old time has arrived today.
    """
    written = written_at(url)
    changed = last_change(url)
    return written if written is None or changed is None else max(written, datetime.fromtimestamp(changed, UTC))
