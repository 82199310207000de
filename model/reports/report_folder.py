"""Write the files of a report into its folder, over nothing but an earlier report of the same scores."""

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from model.reports.metrics_json import METRICS_NAME, metrics_json
from shards import storage
from shards.format.json_document import DamagedDocumentError, parse_object

MARKER_NAME = "unfinished-report.json"
"""Lies in the folder while a report is written: whose it is, and the files that it may leave behind."""
IDENTITY = ("model_id", "dataset_digest", "split")
"""Fields of metrics.json that two reports share if one may replace the other."""


def find_earlier_files(output: str, document: Mapping[str, Any]) -> list[str]:
    """Return the files that an earlier report of the same scores left in a folder.

    Args:
        output: folder of the report.
        document: of metrics.json; only the fields of `IDENTITY` are read.

    Raises:
        ValueError: the folder holds the report of other scores, or a metrics.json of another program.
    """
    files: list[str] = []
    for url in (storage.join_url(output, name) for name in (MARKER_NAME, METRICS_NAME)):
        if not storage.exists(url):
            continue
        text = storage.read_bytes(url)
        found = _parse(text, url)
        for name in IDENTITY:
            if found[name] != document[name]:
                raise ValueError(
                    f"output must be empty or hold a report of the same scores, with {name} {document[name]!r}, got a "
                    f"report with {name} {found[name]!r} ({output}); name another folder, or remove that report"
                )
        files += _list_files(text)
    return list(dict.fromkeys(files))


def write_report_files(output: str, document: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """Write a report: each file whole, metrics.json last. Who waits for it finds the whole report.

    Files that an earlier report of the same scores left and this one does not have are removed. A run that was killed
    leaves a marker beside its files, so the next one may replace them.

    Raises:
        ValueError: a file of another report or program is in the way; nothing was written.
    """
    earlier = find_earlier_files(output, document)
    _refuse_strangers(output, files, earlier)
    marker = {name: document[name] for name in IDENTITY} | {"files": sorted({*files, *earlier})}
    storage.write_bytes(storage.join_url(output, MARKER_NAME), (json.dumps(marker, indent=1) + "\n").encode())
    _remove(output, [METRICS_NAME])
    _remove(output, [name for name in earlier if name not in files])
    for name, content in files.items():
        storage.write_bytes(storage.join_url(output, name), content)
    storage.write_bytes(storage.join_url(output, METRICS_NAME), metrics_json(document, files))
    _remove(output, [MARKER_NAME])


def _list_files(text: bytes) -> list[str]:
    """Return the file names that a metrics.json or a marker lists; none if it is damaged or lists none."""
    try:
        names = parse_object(text, METRICS_NAME, "").get("files")
    except DamagedDocumentError:
        return []
    if not isinstance(names, list):
        return []
    # A report's files lie beside its metrics.json; a name that points elsewhere is not ours.
    return [name for name in names if isinstance(name, str) and name and "/" not in name and name != METRICS_NAME]


def _parse(text: bytes, url: str) -> dict[str, Any]:
    try:
        found = parse_object(text, METRICS_NAME, url)
    except DamagedDocumentError:
        found = {}
    if any(name not in found for name in IDENTITY):
        raise ValueError(
            f"output must be empty or hold a report of `sixray evaluate`, got another program's "
            f"{storage.base_name(url)} ({url}); name another folder"
        )
    return found


def _refuse_strangers(output: str, files: Iterable[str], own: Collection[str]) -> None:
    if not storage.is_folder(output):
        return
    for name in files:
        if name not in own and storage.exists(storage.join_url(output, name)):
            raise ValueError(
                f"output must hold no file of another program, got a {name} that no report of `sixray evaluate` lists "
                f"({output}); name another folder, or move the file away"
            )


def _remove(output: str, names: Iterable[str]) -> None:
    for name in names:
        url = storage.join_url(output, name)
        if storage.exists(url):
            storage.remove(url)
