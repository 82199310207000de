"""Test reading and writing of Parquet files."""

import duckdb
import pyarrow as pa
import pytest

from shards.format.parquet import (
    QUARANTINE_SCHEMA,
    add_columns,
    parquet_bytes,
    predictions_schema,
    read_parquet,
    samples_schema,
    write_parquet,
)
from tests.corpora import flip_byte


def test_columns_are_those_of_format_1():
    samples = samples_schema(("Gun", "Hammer"), format_version=1)
    assert samples.names == [
        *("key", "split", "shard", "offset_bytes", "size_bytes", "sha256", "width_px", "height_px"),
        *("labels", "boxes", "source_uri", "duplicate_of"),
    ]
    assert samples.field("labels").type == pa.struct([("Gun", pa.int8()), ("Hammer", pa.int8())])
    assert [field.name for field in samples.field("boxes").type.value_type] == [
        *("class", "xmin_px", "ymin_px", "xmax_px", "ymax_px"),
    ]
    assert QUARANTINE_SCHEMA.names == ["source_uri", "key", "stage", "reason", "detail", "sha256"]
    assert predictions_schema(("Gun",)).names == ["key", "split", "logits", "level_logits", "peaks"]
    nullable = {field.name for schema in (samples, QUARANTINE_SCHEMA) for field in schema if field.nullable}
    assert nullable == {"duplicate_of", "sha256"}


def test_format_2_adds_a_group_and_metadata():
    old = samples_schema(("Gun",), format_version=1)
    assert samples_schema(("Gun",)).names == [*old.names, "group"]
    samples = samples_schema(("Gun",), {"site": "string", "taken": "date"})
    assert samples.names == [*old.names, "group", "metadata"]
    assert samples.field("metadata").type == pa.struct([("site", pa.string()), ("taken", pa.date32())])
    assert samples.field("group").nullable and samples.field("metadata").nullable


def test_rows_of_format_1_get_the_columns_of_format_2():
    old, new = samples_schema(("Gun",), format_version=1), samples_schema(("Gun",), {"kV": "int64"})
    row: dict[str, object] = dict.fromkeys(old.names, "1")
    row |= {"labels": {"Gun": 1}, "boxes": [], "duplicate_of": None}
    row |= dict.fromkeys(("offset_bytes", "size_bytes", "width_px", "height_px"), 1)
    table = add_columns(pa.Table.from_pylist([row], old.with_metadata({"sixray": "{}"})), new)
    assert table.schema.remove_metadata() == new and table.schema.metadata == {b"sixray": b"{}"}
    assert table.to_pylist() == [row | {"group": None, "metadata": None}]


TABLE = pa.Table.from_pylist(
    [{"source_uri": f"file:///{n}", "key": str(n), "stage": "read", "reason": "x", "detail": ""} for n in range(99)],
    schema=QUARANTINE_SCHEMA,
)


def test_equal_tables_give_equal_bytes_that_others_read(tmp_path):
    one, other = tmp_path / "one.parquet", tmp_path / "other.parquet"
    write_parquet(str(one), TABLE)
    write_parquet(str(other), read_parquet(str(one)))
    assert one.read_bytes() == other.read_bytes() == parquet_bytes(TABLE)
    assert duckdb.sql(f"select count(*), max(key) from '{one}'").fetchall() == [(99, "98")]
    assert read_parquet(str(one), ["key"]).column_names == ["key"]


def test_no_flipped_byte_of_a_table_raises_anything_but_the_named_error(tmp_path):
    path = tmp_path / "t.parquet"
    write_parquet(str(path), TABLE)
    size = path.stat().st_size
    num_refused = 0
    for at in range(0, size, 5):
        flip_byte(path, at)
        try:
            read_parquet(str(path))
        except ValueError as error:
            assert str(path) in str(error)
            num_refused += 1
        flip_byte(path, at)
    assert num_refused > size / 20


@pytest.mark.parametrize("data", [b"", b"PAR1", b"no table at all", parquet_bytes(TABLE)[:-9]])
def test_what_is_no_table_is_refused_by_name(tmp_path, data):
    path = tmp_path / "t.parquet"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"table must be a whole Parquet file, got .* \({path}\)"):
        read_parquet(str(path))


def test_an_absent_table_is_absent_not_damaged(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_parquet(str(tmp_path / "absent.parquet"))
