"""Read a table of scores that another program made: a key and a column a class."""

# N rows  K classes

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

from shards import storage
from shards.predictions.detections import Detections

KEY = "key"
OUT_OF_RANGE = "out_of_range"
"""Reason of a row with a number that is no score, or an infinite logit."""
MISSING = ["", "NA", "N/A", "null"]
"""Cells of a CSV that say there is no score."""
LARGEST_LOGIT = 750.0
"""Logit of a score of 1, and its negative that of 0: beyond the logits of all other float64 numbers in (0, 1), which
lie between -745 and 37, and their sigmoid is 1 and 0 again."""


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """The rows of a table of scores, in its order."""

    keys_N: pa.Array
    logits_NK: npt.NDArray[np.float64]
    """NaN where the table has no score."""
    problems: dict[int, tuple[str, str]]
    """Reason (a fixed word) and detail by the row that cannot be used."""
    absent_classes: tuple[str, ...]
    """Classes that the table has no column for."""
    unused_columns: tuple[str, ...]
    bad_lines: tuple[str, ...]
    """Lines of a CSV with another number of cells than its header."""
    detections: Detections | None = None
    """Boxes of the rows; None if the file has scores alone."""
    peaks_NK3: npt.NDArray[np.float64] | None = None
    """x and y in pixels, and score, of the highest detection of a class; NaN where there is none."""


def read_scores(url: str, file_format: str, classes: Sequence[str], are_logits: bool) -> ScoreTable:
    """Return a CSV or Parquet table of scores, read block by block.

    Args:
        url: of the file.
        file_format: `csv` or `parquet`.
        classes: columns to read, found whatever their case; a class without a column has no score.
        are_logits: whether the numbers are logits, not scores in [0, 1].

    Raises:
        ValueError: the file is no such table, has no column `key` or none of a class, or no row's scores lie in [0, 1].
    """
    bad_lines: list[str] = []
    read = _read_csv if file_format == "csv" else _read_parquet
    keys, blocks, num_rows = [], [], 0
    problems: dict[int, tuple[str, str]] = {}
    columns, blocks_of_file = read(url, bad_lines)
    names = _match_columns(columns, classes, url)
    try:
        for block in blocks_of_file([names[KEY], *(names[name] for name in classes if name in names)]):
            keys.append(pc.fill_null(block[names[KEY]].cast(pa.string()), ""))
            values = [_to_numbers(block[names[name]]) if name in names else None for name in classes]
            logits_NK, found = _to_logits(values, classes, block.num_rows, are_logits)
            problems |= {num_rows + row: problem for row, problem in found.items()}
            blocks.append(logits_NK)
            num_rows += block.num_rows
    except pa.ArrowException as error:
        raise ValueError(f"scores must be a {file_format} table, got {error} ({url})") from error
    if not are_logits and num_rows and len(problems) == num_rows:
        _, detail = problems[0]
        if all(reason == OUT_OF_RANGE for reason, _ in problems.values()):
            raise ValueError(
                f"scores must be in [0, 1], got others in each of {num_rows:,} rows, the first: {detail} ({url}); "
                f"if they are logits, say --scores-are logits"
            )
    return ScoreTable(
        keys_N=pa.chunked_array(keys, pa.string()).combine_chunks(),
        logits_NK=np.concatenate([np.empty((0, len(classes))), *blocks]),
        problems=problems,
        absent_classes=tuple(name for name in classes if name not in names),
        unused_columns=tuple(name for name in columns if name not in names.values()),
        bad_lines=tuple(bad_lines),
    )


def to_logits(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the logits of scores in [0, 1], in the same order; those of 0 and 1 are finite, see LARGEST_LOGIT."""
    with np.errstate(divide="ignore"):
        logits: npt.NDArray[np.float64] = np.log(scores) - np.log1p(-scores)
    return np.clip(logits, -LARGEST_LOGIT, LARGEST_LOGIT)


def _match_columns(columns: Sequence[str], classes: Sequence[str], url: str) -> dict[str, str]:
    """Return the table's name of the key and of each class that it has."""
    names: dict[str, str] = {}
    for column in columns:
        wanted = [name for name in (KEY, *classes) if name.lower() == column.strip().lower()]
        for name in wanted if len(wanted) < 2 else [name for name in wanted if name == column.strip()]:
            if name in names:
                raise ValueError(f"scores must have one column {name!r}, got {names[name]!r} and {column!r} ({url})")
            names[name] = column
    if KEY not in names or len(names) < 2:
        raise ValueError(
            f"scores must have a column 'key' and at least one of {', '.join(classes)}, "
            f"got {', '.join(columns[:20])} ({url})"
        )
    return names


def _read_csv(url: str, bad_lines: list[str]) -> tuple[list[str], Any]:
    def skip(row: csv.InvalidRow) -> str:
        bad_lines.append(f"line {row.number} has {row.actual_columns} cells, not {row.expected_columns}: {row.text}")
        return "skip"

    def read(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        convert = csv.ConvertOptions(
            include_columns=list(columns),
            column_types=dict.fromkeys(columns, pa.string()),
            strings_can_be_null=True,
            null_values=MISSING,
        )
        with storage.open_reader(url) as handle:
            yield from _open_csv(handle, convert, skip)

    with storage.open_reader(url) as handle:
        try:
            return _open_csv(handle, csv.ConvertOptions(), lambda _: "skip").schema.names, read
        except pa.ArrowException as error:
            raise ValueError(f"scores must be a csv table, got {error} ({url})") from error


def _open_csv(handle: Any, convert: csv.ConvertOptions, skip: Any) -> csv.CSVStreamingReader:
    # One thread: with several, a line's number is unknown.
    return csv.open_csv(handle, csv.ReadOptions(use_threads=False), csv.ParseOptions(invalid_row_handler=skip), convert)


def _read_parquet(url: str, _: list[str]) -> tuple[list[str], Any]:
    def read(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        with storage.open_reader(url) as handle:
            yield from pq.ParquetFile(handle).iter_batches(columns=list(columns))

    with storage.open_reader(url) as handle:
        try:
            return pq.ParquetFile(handle).schema_arrow.names, read
        except pa.ArrowException as error:
            raise ValueError(f"scores must be a parquet table, got {error} ({url})") from error


def _to_numbers(column: pa.Array) -> tuple[npt.NDArray[np.float64], list[int]]:
    """Return the numbers of a column, NaN where there is none, and the rows that hold something else."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = pc.utf8_trim_whitespace(column)
    bad: list[int] = []
    try:
        numbers = column.cast(pa.float64())
    except pa.ArrowInvalid:
        values: list[float | None] = []
        for row, text in enumerate(column.to_pylist()):
            try:
                values.append(None if text is None else float(text))
            except ValueError:
                values.append(None)
                bad.append(row)
        numbers = pa.array(values, pa.float64())
    # A NaN that the table states is no missing cell.
    bad += np.flatnonzero(pc.fill_null(pc.is_nan(numbers), False).to_numpy(zero_copy_only=False)).tolist()
    return numbers.to_numpy(zero_copy_only=False), bad


def _to_logits(
    columns: Sequence[tuple[npt.NDArray[np.float64], list[int]] | None],
    classes: Sequence[str],
    num_rows: int,
    are_logits: bool,
) -> tuple[npt.NDArray[np.float64], dict[int, tuple[str, str]]]:
    logits_NK = np.full((num_rows, len(classes)), np.nan)
    problems: dict[int, tuple[str, str]] = {}
    for k, (name, column) in enumerate(zip(classes, columns, strict=True)):
        if column is None:
            continue
        numbers_N, bad = column
        outside_N = np.isinf(numbers_N) if are_logits else (numbers_N < 0) | (numbers_N > 1)
        for row in np.flatnonzero(outside_N).tolist():
            allowed = "a finite logit" if are_logits else "a score in [0, 1]"
            problems.setdefault(row, (OUT_OF_RANGE, f"{name} must be {allowed}, got {numbers_N[row]}"))
        for row in bad:
            problems.setdefault(row, ("not_a_number", f"{name} must be a number"))
        numbers_N = np.where(outside_N, np.nan, numbers_N)
        logits_NK[:, k] = numbers_N if are_logits else to_logits(numbers_N)
    for row in np.flatnonzero(np.isnan(logits_NK).all(axis=1)).tolist():
        problems.setdefault(row, ("no_score", "the row has no score of any class"))
    return logits_NK, problems
