"""Test reading and writing of Parquet files."""

import duckdb
import pyarrow as pa
import pytest

from shards.format.parquet import parquet_bytes, read_parquet, write_parquet
from shards.format.schemas import QUARANTINE_SCHEMA
from tests.corpora import flip_byte

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
