"""Compare what today's code writes with the fixtures: bytes, or what a table or document says."""

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.golden import steps

EXPECTED = json.loads(steps.EXPECTED.read_bytes())
LOGITS_ATOL, WEIGHTS_ATOL = 1e-5, 1e-4
"""Ten and more times what was seen to change where PyTorch was kept to SSE 4.1."""


def assert_same_manifest(found: bytes, expected: bytes, *, with_table_checksums: bool) -> None:
    """All but the format, and the bytes of the samples' tables: these have more columns in format 2."""
    documents = [steps.manifest_document(text, with_table_checksums=with_table_checksums) for text in (found, expected)]
    assert [document.pop("format") for document in documents] == [2, 1]
    for document in documents:
        for shard in document["shards"]:
            shard.pop("samples_sha256", None)
    assert documents[0] == documents[1]


def without_format_2(document: dict[str, Any]) -> dict[str, Any]:
    """Return what a table of samples says in the columns of format 1."""
    return without_columns(document, {"group"})


def without_columns(document: dict[str, Any], added: set[str]) -> dict[str, Any]:
    """Return what a table says in all columns but those that a later release added."""
    rows = [{name: value for name, value in row.items() if name not in added} for row in document["rows"]]
    return document | {"schema": [field for field in document["schema"] if field[0] not in added], "rows": rows}


def assert_same_file(name: str, found: bytes, expected: bytes) -> None:
    """Bytes, or of a table that another release of pyarrow wrote or that has more columns now what it says."""
    if name.startswith("samples/"):
        assert without_format_2(steps.table_document(found)) == steps.table_document(expected), name
    elif name.endswith(".parquet") and steps.written_by(found) != steps.written_by(expected):
        assert steps.table_document(found) == steps.table_document(expected), name
    else:
        assert found == expected, name


def assert_same_dataset(folder: Path, expected: dict[str, Any]) -> None:
    """The files that the script described, by their checksums."""
    files = steps.files_of(folder)
    document = files.pop("dataset.json")
    is_same = is_same_pyarrow(files)
    assert list(files) == list(expected["files"])
    for name, data in files.items():
        if name.startswith("samples/"):
            text = json.dumps(without_format_2(steps.table_document(data)), sort_keys=True)
            assert hashlib.sha256(text.encode()).hexdigest() == expected["files"][name]["content_sha256"], name
            continue
        of = "sha256" if is_same or not name.endswith(".parquet") else "content_sha256"
        assert steps.checksum(name, data)[of] == expected["files"][name][of], name
    manifest = json.dumps(expected["manifest"] | {"versions": {}}).encode()
    assert_same_manifest(document, manifest, with_table_checksums=is_same)


def is_same_pyarrow(files: dict[str, bytes]) -> bool:
    """Say whether the tables among some files were written by the software that wrote the fixtures."""
    table = next(data for name, data in files.items() if name.endswith(".parquet"))
    return bool(steps.written_by(table) == EXPECTED["parquet_written_by"])


def assert_same_scores(found: bytes, expected: bytes) -> None:
    """Equal but for the last bits of logits: the same keys, places and levels of peaks; `image` is a later column."""
    documents = [without_columns(steps.table_document(found), {"image"}), steps.table_document(expected)]
    values = [[values_of(row) for row in document["rows"]] for document in documents]
    np.testing.assert_allclose(values[0], values[1], rtol=0, atol=LOGITS_ATOL)
    assert documents[0] == documents[1]


def values_of(row: dict[str, Any]) -> list[float]:
    """Take the logits out of a row, those at peaks among them."""
    values = list(row.pop("logits").values())
    for level in row.pop("level_logits"):
        values += level.values()
    return values + [peak.pop("value") for peak in row["peaks"].values()]


def run_facts(text: bytes) -> dict[str, Any]:
    """Return what run.json of predictions says of the scores, not of the run that made them."""
    document = json.loads(text)
    for later in ("trained_on", "attestation"):  # added by later releases
        document.pop(later, None)
    return {
        name: sorted(value) if name == "sha256" else value
        for name, value in document.items()
        if name not in ("timings", "longest_run", "versions")
    } | {"keys": list(document)}


def stamps_of(folder):
    """Return inode, time of last change and checksum of every file."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_ino,
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in folder.rglob("*")
        if path.is_file()
    }


def shape_of(value: Any) -> Any:
    """Return a checkpoint's nested keys with the kind of each value, its shape where it is a tensor."""
    if isinstance(value, torch.Tensor):
        return (str(value.dtype), tuple(value.shape))
    if isinstance(value, dict):
        return {key: shape_of(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shape_of(item) for item in value]
    return type(value).__name__


def cells_of(path: Path) -> list[list[str | float]]:
    """Return the rows of a CSV file, with numbers where cells hold them."""

    def read(cell: str) -> str | float:
        try:
            return float(cell)
        except ValueError:
            return cell

    with path.open(newline="") as handle:
        return [[read(cell) for cell in row] for row in csv.reader(handle)]


def assert_close(found: Any, expected: Any, rel: float, where: str = "") -> None:
    """Equal JSON values, floats to a relative difference."""
    assert type(found) is type(expected), where
    if isinstance(expected, dict):
        assert list(found) == list(expected), where
        for key, value in expected.items():
            assert_close(found[key], value, rel, f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for number, value in enumerate(expected):
            assert_close(found[number], value, rel, f"{where}[{number}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=rel, abs=1e-12), where
    else:
        assert found == expected, where
