"""Write the ranked scans of a review into its folder: review.html, review.csv, review.parquet, and review.json last."""

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from model.reports.csv_tables import csv_bytes
from shards import storage
from shards.format.json_document import DamagedDocumentError, parse_object
from shards.format.parquet import parquet_bytes

DOCUMENT_NAME = "review.json"
FILE_NAMES = ("review.html", "review.csv", "review.parquet", DOCUMENT_NAME)
IDENTITY = ("model_id", "dataset_digest", "split")
"""Fields of review.json that two reviews share if one may replace the other."""


def check_folder(output: str, document: Mapping[str, Any]) -> None:
    """Refuse a folder that holds anything but an earlier review of the same scores.

    Raises:
        ValueError: there is a file of another program, or the review of other scores.
    """
    if not storage.is_folder(output):
        return
    names = [storage.base_name(file.url) for file in storage.list_files(output)]
    strangers = sorted(set(names) - set(FILE_NAMES))
    if strangers:
        raise ValueError(
            f"output must be empty or hold a review of the same scores, got {strangers[0]!r} ({output}); name another "
            "folder"
        )
    if DOCUMENT_NAME in names:
        url = storage.join_url(output, DOCUMENT_NAME)
        try:
            found = parse_object(storage.read_bytes(url), DOCUMENT_NAME, url)
        except DamagedDocumentError:
            return
        for name in IDENTITY:
            if found.get(name) != document[name]:
                raise ValueError(
                    f"output must hold a review with {name} {document[name]!r}, got one with {found.get(name)!r} "
                    f"({output}); name another folder"
                )


def write_review(output: str, document: Mapping[str, Any], suspects: pa.Table, page: str) -> None:
    """Write the files of a review into a folder that `check_folder` has passed, review.json last.

    An earlier review.json goes first, so that it never stands beside tables of another budget.

    Args:
        output: the folder.
        document: of review.json, with the fields of `IDENTITY`.
        suspects: of `rank_suspects`.
        page: of `model.review.page`.
    """
    storage.remove(storage.join_url(output, DOCUMENT_NAME))
    files = {
        "review.html": page.encode(),
        "review.csv": csv_bytes(suspects),
        "review.parquet": parquet_bytes(suspects),
        DOCUMENT_NAME: (json.dumps(document, indent=1) + "\n").encode(),
    }
    for name, content in files.items():
        storage.write_bytes(storage.join_url(output, name), content)
