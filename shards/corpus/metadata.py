"""Read further columns of scans: from a table beside the corpus, CSV or Parquet, and from label lists; a row a scan."""

import codecs
import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from shards import storage
from shards.corpus.description import ListFile
from shards.corpus.facts import MetadataFact
from shards.corpus.label_lists import further_columns, read_list
from shards.format.keys import encode_key
from shards.format.parquet import METADATA_TYPES, PLAIN_TYPES

_NAME_COLUMNS = ("key", "name", "path", "file_name", "filename", "file", "image", "image_name", "image_path")
_LIST_KEY = "#key"
"""The column of keys beside the further columns of a list."""
_NULLS = ["", "NaN", "nan", "NULL", "null"]
_BATCH_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class MetadataFile:
    """A table of metadata: where it is and what its columns are."""

    url: str
    name_column: str
    """Names the scan: its key, the name of its file, or its path below the folder of images."""
    fields: dict[str, str]
    """The other columns and their types."""
    group_column: str = ""
    num_rows: int = 0
    item: ListFile | None = None
    """The list whose further columns these are; None for a table of its own."""
    classes: tuple[str, ...] = ()
    """The columns of the list that are labels."""
    rank: int = 0
    """Where several tables name a scan, the lowest rank decides."""


def open_metadata(url: str, group_column: str = "") -> MetadataFile:
    """Return what a table of metadata has.

    Args:
        url: a CSV file with a header, or Parquet.
        group_column: the column with the groups of scans; empty for none.

    Raises:
        ValueError: it is no such table, has no row, or no column beside the names.
    """
    table = _read_table(url, group_column)
    name_column = _name_column(table.column_names)
    names = [name for name in table.column_names if name != name_column]
    if not table.num_rows or not names or len(set(names)) < len(names) or not all(names):
        raise ValueError(
            f"metadata must be a table of scans with named columns beside {name_column!r}, got {table.num_rows} rows "
            f"of {', '.join(map(repr, table.column_names))} ({url})"
        )
    fields = {name: _kind_of(table.schema.field(name).type) for name in names}
    return MetadataFile(storage.normalise_url(url), name_column, fields, group_column, table.num_rows)


def open_list_metadata(lists: Sequence[ListFile], classes: Sequence[str], group_column: str = "") -> list[MetadataFile]:
    """Return the columns of label lists that are neither the name nor a class, a table for each list that has any."""
    found = []
    for rank, item in enumerate(lists, start=1):
        if item.has_labels and (names := further_columns(item.url, classes, member=item.member)):
            table = _read_list_table(item, classes, names, group_column)
            kinds = {name: table.schema.field(name).type for name in names}
            # A column without a value, as in a list of a header alone, must not make texts of another list's numbers.
            fields = {name: _kind_of(kind) for name, kind in kinds.items() if not pa.types.is_null(kind)}
            found.append(MetadataFile(item.uri, _LIST_KEY, fields, group_column, 0, item, tuple(classes), rank))
    return found


def join_fields(files: Sequence[MetadataFile], group_column: str = "") -> dict[str, str]:
    """Return the columns of all tables, and the type that holds the values of each.

    Raises:
        ValueError: none of them is the one with the groups.
    """
    joined: dict[str, str] = {}
    for name, kind in (pair for file in files for pair in file.fields.items()):
        known = joined.setdefault(name, kind)
        if known != kind:
            joined[name] = "double" if {known, kind} == {"int64", "double"} else "string"
    if group_column and group_column not in joined:
        names = ", ".join(joined) or "no columns"
        raise ValueError(f"group_by must be a column of the metadata or of a list, got {group_column!r} beside {names}")
    return joined


def list_metadata(
    file: MetadataFile, fields: Mapping[str, str], key_of: Callable[[str, bool], str]
) -> Iterator[MetadataFact]:
    """Yield a fact for each row of a table, with values for the fields of all tables.

    Args:
        file: the table.
        fields: of all tables, and their types.
        key_of: the key of the scan that a name means, and whether the name may be a key itself.
    """
    if file.item:
        names = further_columns(file.item.url, file.classes, member=file.item.member)
        table = _read_list_table(file.item, file.classes, names, file.group_column)
    else:
        table = _read_table(file.url, file.group_column)
    columns = []
    for name, kind in fields.items():
        of_kind = METADATA_TYPES[kind]
        column = table[name].cast(of_kind) if name in file.fields else pa.nulls(len(table), of_kind)
        columns.append(column.cast(PLAIN_TYPES.get(kind, column.type)))
    keys = table[file.name_column].cast(pa.string())
    has_groups = file.group_column in file.fields
    groups = table[file.group_column].cast(pa.string()) if has_groups else pa.nulls(len(table), pa.string())
    plain = pa.Table.from_arrays([keys, groups, *columns], [f"{at}" for at in range(len(columns) + 2)])
    for batch in plain.to_batches(_BATCH_ROWS):
        for name, group, *values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            key = name if file.item else key_of(name or "", file.name_column.lower() == "key")
            yield MetadataFact(key, file.rank, file.url, group or "", tuple(values))


def _read_list_table(item: ListFile, classes: Sequence[str], names: Sequence[str], group_column: str) -> pa.Table:
    """Return the further columns of a list, of the lines that can be used, with the types that a table has."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([_LIST_KEY, *names])
    for row in read_list(item.url, classes, member=item.member):
        if not row.problem:
            writer.writerow([encode_key(row.name), *row.further])
    return _read_csv(out.getvalue().encode("utf-8", "backslashreplace"), group_column, _LIST_KEY)


def _name_column(columns: list[str]) -> str:
    lowered = {column.strip().lower(): column for column in reversed(columns)}
    return next((lowered[name] for name in _NAME_COLUMNS if name in lowered), columns[0] if columns else "")


def _read_table(url: str, group_column: str) -> pa.Table:
    data = storage.read_bytes(url)
    try:
        if data[:4] == b"PAR1":
            return pq.read_table(io.BytesIO(data))
        return _read_csv(_as_utf8(data), group_column)
    except (pa.ArrowException, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"metadata must be CSV in UTF-8, UTF-16 or GB 18030, or Parquet, got {error} ({url})"
        ) from error


def _as_utf8(data: bytes) -> bytes:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16").encode()
    try:
        data.decode()
        return data
    except UnicodeDecodeError:
        return data.decode("gb18030").encode()  # as spreadsheets write it in China


def _read_csv(data: bytes, group_column: str, name_column: str = "") -> pa.Table:
    first = data[:65536].removeprefix(b"\xef\xbb\xbf").decode(errors="replace").partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    header = [name.strip() for name in next(csv.reader([first], delimiter=delimiter), [])]
    # Names and groups are texts: 00123 is not 123.
    texts = {name: pa.string() for name in (name_column or _name_column(header), group_column) if name in header}
    return pyarrow.csv.read_csv(
        io.BytesIO(data),
        read_options=pyarrow.csv.ReadOptions(column_names=header, skip_rows=1),
        parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=texts, null_values=_NULLS, strings_can_be_null=True, timestamp_parsers=[pyarrow.csv.ISO8601]
        ),
    )


def _kind_of(kind: Any) -> str:
    if pa.types.is_integer(kind):
        return "int64"
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "double"
    if pa.types.is_date(kind):
        return "date"
    return "timestamp" if pa.types.is_timestamp(kind) and kind.tz is None else "string"
