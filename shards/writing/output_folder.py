"""Decide what to do about an output folder that is not empty: another's files, a dataset, an unfinished job."""

import json
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from shards import storage
from shards.corpus.policy import Policy
from shards.corpus.read_scan import RETRYABLE_REASONS
from shards.corpus.streams.spool import SPOOL_NAME
from shards.format.dataset import open_dataset
from shards.format.json_document import DamagedDocumentError
from shards.format.manifest import CARD_FILES, DATASET_FILE, MANIFEST_NAME, SHARD_NAME, DatasetManifest, expected_files
from shards.format.tar import BLOCK_BYTES, make_header
from shards.verify.quick import verify_quickly
from shards.writing.shard_writer import DRAFTS_FOLDER, JOB_NAME

_NOT_COMPARED = ("found",)
"""Options that say what was found, not what was asked for."""
_RETRIED_REASONS = RETRYABLE_REASONS | {"checksum_mismatch", "truncated_shard"}
_DEFAULTS: Mapping[str, Any] = {name: getattr(Policy(), name) for name in Policy.__dataclass_fields__}
_DRAFT_FILE = re.compile(
    rf"{DRAFTS_FOLDER}/({SHARD_NAME.pattern}\.parquet|{SPOOL_NAME}|{re.escape(JOB_NAME)})|(.*/)?\.[^/]+\.tmp"
)


def find_finished(
    output: str, options: Mapping[str, Any], newest_input: Callable[[], float | None], *, overwrite: bool
) -> DatasetManifest | None:
    """Return the manifest of the output if the same job has finished and nothing has changed since, else None.

    Args:
        output: folder of the dataset.
        options: of the job, as the manifest records them.
        newest_input: returns when the inputs were last changed, None if that is unknown; see `storage.last_change`.
        overwrite: whether another dataset, or the unfinished one of another job, may be replaced.

    Raises:
        ValueError: the folder holds either and must not be replaced.
    """
    manifest_url = storage.join_url(output, MANIFEST_NAME)
    if overwrite:
        return None
    if not storage.exists(manifest_url):
        _check_job(output, options)
        return None
    try:
        dataset = open_dataset(output)
    except DamagedDocumentError:
        return None
    if different := _compare(dataset.manifest.options, options):
        raise ValueError(_refusal(output, "the finished dataset of another command", different))
    if dataset.manifest.options.get("inputs") != options.get("inputs"):
        return None  # an input was made anew
    finished, changed = storage.last_change(manifest_url), newest_input()
    if finished is None or changed is None or changed >= finished:
        return None
    if (storage.last_change(output, with_folders=False) or 0) > finished:
        return None  # a file of the dataset was changed after the manifest, so all of them are read again
    reasons = {reason for counts in dataset.manifest.ledger.values() for reason in counts.quarantined_by_reason}
    return None if reasons & _RETRIED_REASONS or verify_quickly(dataset) else dataset.manifest


@contextmanager
def claim_output(output: str, options: Mapping[str, Any]) -> Iterator[None]:
    """Mark an output folder as that of this job while the block runs.

    Another job that is told to write there is refused, unless it is the same one.
    """
    url = storage.join_url(output, DRAFTS_FOLDER, JOB_NAME)
    storage.write_bytes(url, json.dumps({"process": storage.this_process(), "options": options}).encode())
    try:
        yield
    finally:
        storage.remove(url)
        if (folder := storage.local_path(output)) is not None:
            for empty in (folder / DRAFTS_FOLDER, folder):
                with suppress(OSError):
                    empty.rmdir()


def _check_job(output: str, options: Mapping[str, Any]) -> None:
    try:
        job = json.loads(storage.read_bytes(storage.join_url(output, DRAFTS_FOLDER, JOB_NAME)))
    except FileNotFoundError:
        return
    if storage.has_ended(job["process"]):
        return
    if different := _compare(job["options"], options):
        text = f"that of another job, begun by {job['process']}, which may be running"
        raise ValueError(_refusal(output, text, different))


def _compare(existing: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each option that differs; one that an older release did not know has its default there."""
    asked = json.loads(json.dumps(asked))
    existing, asked = _without_digests(existing), _without_digests(asked)
    different = []
    for name in sorted(existing.keys() | asked.keys()):
        old, new = (of.get(name, _DEFAULTS.get(name)) or None for of in (existing, asked))
        if name not in _NOT_COMPARED and old != new:
            different.append(f"{name} is {json.dumps(old)} there and {json.dumps(new)} here")
    return different


def _without_digests(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options whose `inputs` are the URLs of datasets alone: one that was made anew is the same input."""
    urls = [item["url"] for item in options.get("inputs", ())]
    return {**options, "inputs": urls} if urls else dict(options)


def _refusal(output: str, found: str, different: list[str]) -> str:
    return (
        f"output must be a new folder, an unfinished dataset or the one of the same command, got {found} ({output}): "
        f"{'; '.join(different)}; give another --output, or --overwrite to replace it"
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
    names = {storage.path_below(info.url, root) for info in storage.list_files(root)}
    for name in sorted(names):
        if name in CARD_FILES:
            continue
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
        elif _is_own_name(storage.path_below(info.url, output)) and not info.url.endswith(".tmp"):
            storage.remove(info.url)
    for url, size_bytes in expected.items():
        if size_bytes is not None and found.get(url) != size_bytes and not url.endswith(MANIFEST_NAME):
            raise ValueError(f"shard must have {size_bytes} bytes, got {found.get(url)} ({url}); run the job again")
