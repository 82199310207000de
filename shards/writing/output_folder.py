"""Refuse an output folder that holds other files, and remove those of an earlier plan."""

import re
import tarfile

from shards import storage
from shards.corpus.streams.spool import SPOOL_NAME
from shards.format.manifest import DATASET_FILE, MANIFEST_NAME, SHARD_NAME, DatasetManifest, expected_files
from shards.format.tar import BLOCK_BYTES, make_header
from shards.writing.shard_writer import DRAFTS_FOLDER, JOB_NAME

_DRAFT_FILE = re.compile(
    rf"{DRAFTS_FOLDER}/({SHARD_NAME.pattern}\.parquet|{SPOOL_NAME}|{re.escape(JOB_NAME)})|(.*/)?\.[^/]+\.tmp"
)


def check_output(output: str) -> None:
    """Raise ValueError if a folder holds a file that no conversion writes.

    Others call their shards `train-00000-of-00010.tar` too, so names are not enough. A tar without rows counts as left
    by a stopped conversion only if its first member has the header that `shards.format.tar` writes.
    """
    storage.check_url(output)
    root = storage.normalise_url(output)
    if not storage.is_folder(root):
        if storage.exists(root):
            raise ValueError(f"output must be a folder, got a file ({root})")
        return
    names = {info.url.removeprefix(root).lstrip("/") for info in storage.list_files(root)}
    for name in sorted(names):
        if not _is_own_name(name) or (name.endswith(".tar") and _is_foreign_tar(root, name, names)):
            raise ValueError(f"output must be an empty folder or a dataset, got one with {name!r} ({root})")


def _is_own_name(name: str) -> bool:
    return bool(DATASET_FILE.fullmatch(name) or _DRAFT_FILE.fullmatch(name))


def _is_foreign_tar(root: str, name: str, names: set[str]) -> bool:
    rows = f"{storage.base_name(name).removesuffix('.tar')}.parquet"
    if names & {f"samples/{rows}", f"{DRAFTS_FOLDER}/{rows}"}:
        return False
    header = storage.read_range(storage.join_url(root, name), 0, BLOCK_BYTES)
    try:
        first = tarfile.TarInfo.frombuf(header, "ascii", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError):
        return True
    return header != make_header(first.name, first.size)


def remove_surplus(output: str, manifest: DatasetManifest) -> None:
    """Remove files of an earlier plan (other shard size, another subset) and check that those of this one exist."""
    expected = expected_files(output, manifest)
    found = {}
    for info in storage.list_files(output):
        if info.url in expected:
            found[info.url] = info.size_bytes
        elif _is_own_name(info.url.removeprefix(output).lstrip("/")) and not info.url.endswith(".tmp"):
            storage.remove(info.url)
    for url, size_bytes in expected.items():
        if size_bytes is not None and found.get(url) != size_bytes and not url.endswith(MANIFEST_NAME):
            raise ValueError(f"shard must have {size_bytes} bytes, got {found.get(url)} ({url}); run the job again")
